"""Regularisation of a sound bound of the curvature, for certificates."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, full_precision
from meseta.autodiff.scalar_fields import CrossEntropy, Model, runner_up
from meseta.certificates.affine import AffineMap
from meseta.certificates.chain import read_chain
from meseta.certificates.published_curvature import published_curvature
from meseta.checks import check_logits, whole
from meseta.linalg.norms import norm, normalized
from meseta.linalg.random import randn
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class CurvatureBound(Regularizer):
    """Penalise a bound of the margin's curvature that holds at every input, so that large radii can be certified.

    mean_i l(x_i) + weight K_{y,j},   K_{y,j} = sum_I h r_I^2 max_k S_{I,k},

    with y the label and j the runner-up of x_i: ||grad^2 (z_y - z_j)||_2 is at most K at every input, as far as the
    layers' norms in it are found (see `published_curvature`). `CurvatureCertificate` turns a small K into
    a radius. The published training takes the loss at adversarial points:
    `AdversarialTraining(attack=PGD(...), objective=CurvatureBound())`.

    Args:
        weight: in loss units per (logit per squared input unit), at least 0.
        steps: of the power iteration for the norm of each layer, from random vectors. It finds the norm from below,
            closely enough to train with; certificates use upper bounds.

    Terms: cross_entropy, curvature_bound = K_{y,j}.
    Cost: one forward and backward for each kind of pair (y, j) through the layers alone, and the power iterations: next
        to nothing for multilayer perceptrons.

    Raises:
        UserError: the model is no chain of linear layers, convolutions, average pooling and activations with a second
            derivative, or has BatchNorm in train mode.

    Source: Singla & Feizi 2020, section 6 (curvature-based robust training). Differs: the runner-up at x is the rival.
    """

    weight: float = 0.01
    steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps, 1)

    @full_precision()
    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the bound of each example's pair; the loss comes from the forward that finds the runner-up."""
        with derivatives_of_derivatives():
            logits = check_logits(model(x.clone()), x, y)  # first: a forward may make the weights anew
            chain = read_chain(model, x, type(self).__name__, curved=True, trainable=True)
            norms = [self._norm(affine, x, generator) for affine in chain.maps[:-1]]
            unit = torch.eye(logits.shape[1], dtype=x.dtype, device=x.device)
            pairs, place = torch.unique(torch.stack([y, runner_up(logits, y)], 1), dim=0, return_inverse=True)
            bound = published_curvature(chain, unit[pairs[:, 0]] - unit[pairs[:, 1]], norms)[place]
            return Penalty(bound, CrossEntropy().of_logits(logits, y), {"curvature_bound": bound.detach()})

    def _norm(self, affine: AffineMap, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return ||W v|| at the v that the power iteration finds; v is a constant."""
        v = normalized(randn((1, *affine.shape), like, generator))
        for _ in range(self.steps):
            v = normalized(affine.transposed(affine.linear(v))).detach()
        return norm(affine.linear(v))[0]
