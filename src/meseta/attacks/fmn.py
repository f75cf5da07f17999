"""The fast minimum-norm attack."""

from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor

from meseta.attacks.base import loss_and_gradient, misclassified
from meseta.attacks.deepfool import DeepFool
from meseta.attacks.minimum_norm import MinimumNormAttack, begin
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.checks import instance_of, positive, whole
from meseta.errors import UserError
from meseta.linalg.norms import norm, normalized, per_example

LAST_ALPHA, LAST_GAMMA = 0.01, 0.001
"""What alpha falls to, as a share of itself, and what gamma falls to."""


@dataclass(frozen=True, kw_only=True)
class FMN(MinimumNormAttack):
    """Descend the margin inside a ball whose radius follows the decision boundary.

    x <- project(x + alpha g / ||g||_2, radius),  g the gradient of max_{j != y} z_j - z_y, where the radius

        falls to min(radius (1 - gamma), the smallest distance found)   at an adversarial x,
        grows to radius (1 + gamma)                                     elsewhere, once one was found,
        is (1 + gamma) (the present distance + |margin| / ||g||_q)      before: just beyond the linear piece's boundary,

    and alpha and gamma are annealed along a cosine. At last the segment back to the input is bisected.

    Args:
        threat: norm (Linf, L2 or L1) and bounds.
        steps: gradient steps, at least 1.
        alpha: first step length, in L2 and input units, whatever the norm of the threat.
        gamma: first relative change of the radius, in (0, 1).
        start: the attack, under the same threat, from whose results the search sets out; None for the input itself,
            as published. A path that meets one class seldom leaves for a nearer one, and DeepFool looks at several.

    Cost: one forward and one backward to the input a step, 12 forwards at the ends, and the start's.
    Source: Pintor, Roli, Brendel & Biggio 2021, Algorithm 1. Differs: projects onto ball and bounds together, not onto
    one and then the other; the last line's 1 + gamma, without which a path along a linear piece may stop just short of
    the boundary for ever; the start; the bisection at the end.
    """

    steps: int = 100
    alpha: float = 1.0
    gamma: float = 0.05
    start: MinimumNormAttack | None = DeepFool()

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        positive("alpha", self.alpha)
        positive("gamma", self.gamma)
        if self.start is not None:
            instance_of("start", self.start, MinimumNormAttack)
        if self.gamma >= 1:
            raise UserError(f"`gamma` must be below 1, got {self.gamma!r}: the radius shrinks by this share of itself.")

    @property
    def name(self) -> str:
        """For example `FMN-100 from DeepFool`."""
        return f"FMN-{self.steps}" + (f" from {self.start.name}" if self.start else "")

    def search(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the nearest adversarial iterates."""
        reach = self.threat.reach(x).clamp_max(torch.finfo(x.dtype).max)
        nearest, distance = torch.full_like(x, torch.nan), torch.full_like(reach, torch.inf)
        points, radius = begin(self.start, self.threat, model, x, y, generator), reach
        for step in range(self.steps):
            alpha = _annealed(self.alpha, LAST_ALPHA * self.alpha, step / self.steps)
            gamma = _annealed(self.gamma, LAST_GAMMA, step / self.steps)
            logits, loss, gradient = loss_and_gradient(model, Decision(), points, y)
            adversarial, length = misclassified(logits, y), self.threat.distance(points, x)
            better = adversarial & (length < distance)
            nearest = torch.where(per_example(better, x), points, nearest)
            distance = torch.where(better, length, distance)
            linear = length + (loss.abs() / norm(gradient, self.threat.dual)).to(x.dtype)
            outward = (1 + gamma) * torch.where(distance.isfinite(), radius, linear)
            radius = torch.where(adversarial, torch.minimum((1 - gamma) * radius, distance), outward)
            radius = torch.minimum(radius, reach)
            points = self.threat.project(points + alpha * normalized(gradient), x, radius=radius)
        return nearest


def _annealed(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + cos(pi * share)) / 2
