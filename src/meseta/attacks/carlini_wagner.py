"""The Carlini-Wagner attack."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meseta.attacks.base import loss_and_gradient, misclassified
from meseta.attacks.deepfool import DeepFool
from meseta.attacks.minimum_norm import MinimumNormAttack, begin, errs
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.checks import instance_of, positive, whole
from meseta.linalg.norms import per_example
from meseta.threat import Norm, Threat

FACTOR = 10
"""What c grows by while nothing was found."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(MinimumNormAttack):
    """Descend the squared L2 distance plus c times the margin, and search for the smallest c that crosses the boundary.

    min_x' ||x' - x||_2^2 + c max(z_y - max_{j != y} z_j, 0)

    by Adam, whose iterates are clipped to the bounds. For each example c is multiplied by 10 until the second half of a
    descent meets an adversarial point, then bisected. At last the segment back to the input is bisected.

    Args:
        threat: its norm must be L2; eps is for the call alone.
        steps: of Adam, in each search.
        searches: values of c, at least 1.
        c: the first one, in squared input units per logit.
        lr: first step length of Adam, in input units. It falls linearly to 0, so that no entry moves farther than
            lr times half the steps.
        start: the attack, under the same threat, from whose results every descent sets out; None for the input itself,
            as published. From there one in ten meets a class of a linear model that is not the nearest (see `FMN`).

    Cost: `searches` times `steps` forwards and backwards to the input, 12 forwards at the ends, and the start's.
    Raises:
        UserError: a threat of another norm.
    Source: Carlini & Wagner 2017, sections V-D and VI-A. Differs: clips, the first of their three ways to stay in the
    box, not tanh, which leaves hardly any gradient to an entry at a bound; lr falls, with which 100 steps do where they
    took 10,000; the start; untargeted, without a confidence, since the segment is bisected at last; no end by the loss
    of the batch, which would make examples depend on their neighbours.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("L2",)

    threat: Threat = Threat("L2", 0.5)
    steps: int = 100
    searches: int = 9
    c: float = 0.1
    lr: float = 0.05
    start: MinimumNormAttack | None = DeepFool()

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("searches", self.searches, 1)
        positive("c", self.c)
        positive("lr", self.lr)
        if self.start is not None:
            instance_of("start", self.start, MinimumNormAttack)

    @property
    def name(self) -> str:
        """For example `CarliniWagner-9x100 from DeepFool`."""
        return f"CarliniWagner-{self.searches}x{self.steps}" + (f" from {self.start.name}" if self.start else "")

    def search(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the nearest adversarial iterates of all searches."""
        first = begin(self.start, self.threat, model, x, y, generator)
        there = errs(model, first, y)
        nearest = torch.where(per_example(there, x), first, torch.nan)
        distance = torch.where(there, self.threat.distance(first, x), torch.inf)
        low, high = torch.zeros_like(distance), torch.full_like(distance, torch.inf)
        c = torch.full_like(distance, self.c)
        for _ in range(self.searches):
            found, length, crossed = self._descend(model, first, x, y, c)
            closer = length < distance
            nearest = torch.where(per_example(closer, x), found, nearest)
            distance = torch.where(closer, length, distance)
            low, high = torch.where(crossed, low, c), torch.where(crossed, c, high)
            c = torch.where(high.isfinite(), (low + high) / 2, FACTOR * c)
        return nearest

    def _descend(self, model: Model, first: Tensor, x: Tensor, y: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the nearest adversarial iterates, their distances, and where the second half of the path met any.

        NaN and infinity where there are none.
        """
        nearest, distance = torch.full_like(x, torch.nan), x.new_full((len(x),), torch.inf)
        crossed = torch.zeros_like(distance, dtype=torch.bool)
        variable = first.clone()
        adam = torch.optim.Adam([variable], self.lr)
        for step in range(self.steps):
            points = variable.clone()
            logits, _, gradient = loss_and_gradient(model, Decision(), points, y)
            broken, length = misclassified(logits, y), self.threat.distance(points, x)
            closer = broken & (length < distance)
            nearest = torch.where(per_example(closer, x), points, nearest)
            distance = torch.where(closer, length, distance)
            if step >= self.steps // 2:
                crossed = crossed | broken
            variable.grad = 2 * (points - x) - per_example(torch.where(broken, 0, c), x) * gradient
            adam.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)
            adam.step()
            variable.copy_(self.threat.clip(variable))
        return nearest, distance, crossed
