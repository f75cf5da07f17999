"""The fast gradient sign method."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, loss_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One steepest step of length eps from the input.

    x' = project(x + eps s), s = sign(g) for Linf, g / ||g||_2 for L2, the signed unit vector of the largest entry of g
    for L1, with g the gradient of the loss. Exact on binary linear models under Linf without bounds.

    Args:
        threat: norm, eps and bounds.
        loss: the field whose gradient is followed.

    Cost: one forward and one backward to the input.
    Source: Goodfellow, Shlens & Szegedy 2015, section 4; the L2 and L1 forms are the steepest steps of those norms.
    """

    loss: ScalarField = CrossEntropy()

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return x moved by one step."""
        _, _, gradient = loss_and_gradient(model, self.loss, x, y)
        return self.threat.project(x + self.threat.eps * self.threat.steepest(gradient, x), x)
