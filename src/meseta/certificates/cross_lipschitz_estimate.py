"""The distance that the slope of the margins in the ball allows."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import BoundField
from meseta.certificates.ball_estimate import BallEstimate, differentiable_gradient
from meseta.certificates.taylor import taylor_radius
from meseta.checks import whole
from meseta.linalg.norms import norm
from meseta.shapes import Float
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class CrossLipschitzEstimate(BallEstimate):
    """The distance within which the slope keeps every margin positive, with the largest slope seen at points.

    max over R of min{R, min_j f_j(x) / G_j(R)},  G_j(R) = max ||grad f_j(x + gamma)||_q over ||gamma||_p <= R,
    f_j = z_y - z_j, 1/p + 1/q = 1

    A theorem for the true G_j(R), on any network, piecewise-linear ones too. Here it is the largest slope seen at x and
    at `samples` points of the ball: from below, so that the distance is an estimate. x alone would be LinearPiece.

    Args:
        norm: of the perturbation; L2, Linf or L1.
        samples: points of the ball, at least 1.
        steps: of projected gradient ascent on ||grad f_j||_q from each of them, which finds far more than points drawn
            at random in many dimensions. On piecewise-linear networks the slope is constant between the kinks, so that
            samples are all there is: take more of them.
        seed: of the points.
        slab: pairs of example and rival at a time.

    Parts: margin, slope at x, largest_slope: of the rival that decides, at the point that decides.
    Cost: per rival and point, a forward and a backward; with ascent two more backwards a step.
    Source: Hein & Andriushchenko 2017, Theorem 2.1 (Mustafa 2020, Theorem 1).
    """

    samples: int = 4
    steps: int = 4

    looked_for: ClassVar[str] = "largest_slope"

    def __post_init__(self) -> None:
        whole("samples", self.samples, 1)
        super().__post_init__()

    def constant(self, f: BoundField, x: Float[Tensor, "b *input"]) -> BoundField:
        """Return the norm of the gradient."""
        return lambda points: norm(differentiable_gradient(f, points), Threat(self.norm).dual)

    def distance(self, margin: Tensor, slope: Tensor, constant: Tensor) -> Tensor:
        """Return the margin over the largest slope."""
        return taylor_radius(margin, constant, torch.zeros_like(constant))
