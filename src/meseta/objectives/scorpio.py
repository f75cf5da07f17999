"""SCORPIO: the worst case of the quadratic model of the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.frank_wolfe import FrankWolfe, quadratic
from meseta.autodiff.gradient import derivatives_of_derivatives
from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import instance_of
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class Scorpio(Regularizer):
    """Penalise how far the quadratic model of the loss rises inside the threat (SCORPIO).

    mean_i l(x_i) + weight max_d (g^T d + d^T H d / 2),  g = grad l(x_i), H = grad^2 l(x_i), d in ball and bounds

    With weight 1 this is the adversarial loss to second order; to first order and under Linf it would be
    `InputGradient(q=1, power=1)` with weight eps. d is detached and found by Frank-Wolfe on the same g and H, in the
    mode that the model is in; the gradient flows through g and H. The value is one that is reached, so at most the
    maximum.

    Args:
        weight: in loss units per loss unit.
        attack: the search for d, with its threat.

    Terms: cross_entropy, quadratic_rise = g^T d + d^T H d / 2, never negative.
    Cost: one double backward, a Hessian product for each of the attack's steps, and one with its backward;
    11 plain steps' arithmetic.
    Raises:
        UserError: x outside the threat's bounds.
    Source: Tsiligkaridis & Roberts 2020, with exact Hessian products in place of their differences of gradients.
    """

    weight: float = 1.0
    attack: FrankWolfe = FrankWolfe()

    def __post_init__(self) -> None:
        super().__post_init__()
        instance_of("attack", self.attack, FrankWolfe)

    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the rise of the quadratic model; the loss comes from the same forward."""
        self.attack.threat.check(x, y)
        with derivatives_of_derivatives():
            hessian = Hessian(CrossEntropy().bind(model, x, y), x)
            d = self.attack.maximize(hessian, x)
            rise = quadratic(hessian.gradient, hessian(d, create_graph=True), d)
        return Penalty(rise, hessian.value, {"quadratic_rise": rise.detach()})
