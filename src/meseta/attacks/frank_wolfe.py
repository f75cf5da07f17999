"""Frank-Wolfe on the quadratic model of the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack
from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import whole
from meseta.linalg.norms import per_example


@dataclass(frozen=True, kw_only=True)
class FrankWolfe(Attack):
    """Maximise the quadratic model of the loss inside ball and bounds, by Frank-Wolfe.

    q(d) = g^T d + d^T H d / 2,  d <- (1 - gamma_t) d + gamma_t v,  gamma_t = 2 / (t + 2), from d = 0, t = 0, 1, ...

    with g and H the gradient and the Hessian of the cross-entropy at x, and v the vertex of the threat that is farthest
    along the slope g + Hd of q: eps sign(g + Hd) for Linf, within the bounds. The threat is convex, so every d stays in
    it without a projection. Under Linf the first iterate is the FGSM point.

    Returns x + d with the best d of all iterates, since q may fall on the way: values come free from g and Hd. Where H
    is negative semidefinite that is within O(1/steps) of the maximum; elsewhere it is a local one, and the vertices of
    the threat compete. Where g is exactly zero there is no slope to follow, and d stays 0, also in a minimum.

    Args:
        threat: norm, eps and bounds.
        steps: iterations, at least 1.

    Cost: one forward and one backward, then one Hessian product a step.
    Source: Tsiligkaridis & Roberts 2020 (SCORPIO), its inner problem; Jaggi 2013, Algorithm 1. Differs: exact products
    in place of differences of gradients, and the best iterate in place of the last.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the inputs moved to where the quadratic model is highest."""
        hessian = Hessian(CrossEntropy().bind(model, x, y), x)
        return self.threat.project(x + self.maximize(hessian, x), x)  # for the rounding

    def maximize(self, hessian: Hessian, x: Tensor) -> Tensor:
        """Return the best d (B, *input) for the gradient and the Hessian at x, detached."""
        g = hessian.gradient.detach().nan_to_num(0, 0, 0)
        d = hd = best = torch.zeros_like(x)
        highest = x.new_zeros(len(x))
        for t in range(self.steps):
            gamma = 2 / (t + 2)
            vertex = self.threat.farthest(g + hd, x) - x
            d = (1 - gamma) * d + gamma * vertex
            hd = hessian(d).detach().nan_to_num(0, 0, 0)
            value = quadratic(g, hd, d)
            better = value > highest
            best = torch.where(per_example(better, d), d, best)
            highest = torch.where(better, value, highest)
        return best


def quadratic(gradient: Tensor, product: Tensor, d: Tensor) -> Tensor:
    """Return g^T d + d^T (Hd) / 2 per example, from g and Hd."""
    return ((gradient + product / 2) * d).flatten(1).sum(1)
