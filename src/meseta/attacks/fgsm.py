"""The fast gradient sign method."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, loss_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField
from meseta.checks import instance_of, positive


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One steepest step from the input, or from a random point of the ball.

    x' = project(x0 + stride eps s), s = sign(g) for Linf, g / ||g||_2 for L2, the signed unit vector of the largest
    entry of g for L1, with g the gradient of the loss at x0. Exact on binary linear models under Linf without bounds.

    Args:
        threat: norm, eps and bounds.
        loss: the field whose gradient is followed.
        random_start: x0 uniform in the ball, not the input itself.
        stride: length of the step in units of eps: 1, or 1.25 with a random start ("fast" adversarial training).

    Cost: one forward and one backward to the input.
    Source: Goodfellow, Shlens & Szegedy 2015, section 4; the L2 and L1 forms are the steepest steps of those norms;
    Wong, Rice & Kolter 2020, Algorithm 3 for the random start.
    """

    loss: ScalarField = CrossEntropy()
    random_start: bool = False
    stride: float = 1.0

    def __post_init__(self) -> None:
        positive("stride", self.stride)
        instance_of("loss", self.loss, ScalarField)

    @property
    def name(self) -> str:
        """For example `FGSM`, `FGSM Decision random start`."""
        loss = "" if self.loss == CrossEntropy() else f" {type(self.loss).__name__}"
        return f"FGSM{loss}{' random start' if self.random_start else ''}"

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the start moved by one step."""
        start = self.threat.sample(x, generator=generator) if self.random_start else x
        _, _, gradient = loss_and_gradient(model, self.loss, start, y)
        return self.threat.project(start + self.stride * self.threat.eps * self.threat.steepest(gradient, start), x)
