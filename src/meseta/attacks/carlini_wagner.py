"""The Carlini-Wagner attack."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meseta.attacks.base import loss_and_gradient, misclassified
from meseta.attacks.deepfool import DeepFool
from meseta.attacks.minimum_norm import MinimumNormAttack, begin
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.checks import at_least, instance_of, positive, whole
from meseta.linalg.norms import per_example
from meseta.threat import Norm, Threat

INSIDE = 0.999
"""How close to the bounds the tanh starts, as a share of the way from their middle: at 1 it has no gradient."""

FACTOR = 10
"""What c grows by while nothing was found."""


@dataclass(frozen=True, kw_only=True)
class CarliniWagner(MinimumNormAttack):
    """Descend the squared L2 distance plus c times the margin, and search for the smallest c that crosses the boundary.

    min_w ||x' - x||_2^2 + c max(z_y - max_{j != y} z_j, -confidence),   x' = middle + half-width tanh(w),

    by Adam, so that x' cannot leave the bounds; without bounds x' = w. For each example c is multiplied by 10 until the
    second half of a descent meets an adversarial point, then bisected. At last the segment back to the input is
    bisected.

    Args:
        threat: its norm must be L2; eps is for the call alone.
        steps: of Adam, in each search.
        searches: values of c, at least 1.
        c: the first one, in squared input units per logit.
        confidence: margin by which a search must end on the other side, in logits; what is returned is pulled back to
            the boundary all the same.
        lr: first step length of Adam, in w: about twice its share of the width of the bounds in the middle, input units
            without bounds. It falls linearly to 0.
        start: the attack, under the same threat, from whose results every descent sets out; None for the input itself,
            as published. From there one in ten meets a class of a linear model that is not the nearest (see `FMN`).

    Cost: `searches` times `steps` forwards and backwards to the input, 12 forwards at the ends, and the start's.
    Raises:
        UserError: a threat of another norm.
    Source: Carlini & Wagner 2017, sections V-D and VI-A. Differs: lr falls, with which 100 steps do where they took
    10,000; the start; untargeted; no end by the loss of the batch, which would make examples depend on their
    neighbours; the bisection of the segment.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("L2",)

    threat: Threat = Threat("L2", 0.5)
    steps: int = 100
    searches: int = 9
    c: float = 0.1
    confidence: float = 0.0
    lr: float = 0.05
    start: MinimumNormAttack | None = DeepFool()

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("searches", self.searches, 1)
        positive("c", self.c)
        at_least("confidence", self.confidence, 0)
        positive("lr", self.lr)
        if self.start is not None:
            instance_of("start", self.start, MinimumNormAttack)

    @property
    def name(self) -> str:
        """For example `CarliniWagner-9x100 from DeepFool`."""
        return f"CarliniWagner-{self.searches}x{self.steps}" + (f" from {self.start.name}" if self.start else "")

    def search(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the nearest adversarial iterates of all searches."""
        nearest, distance = torch.full_like(x, torch.nan), x.new_full((len(x),), torch.inf)
        low, high = torch.zeros_like(distance), torch.full_like(distance, torch.inf)
        c = torch.full_like(distance, self.c)
        first = begin(self.start, self.threat, model, x, y, generator)
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
        w = self._variable(first)
        adam = torch.optim.Adam([w], self.lr)
        for step in range(self.steps):
            points, slope = self._points(w)
            logits, loss, gradient = loss_and_gradient(model, Decision(), points, y)
            short = loss < self.confidence  # on the wrong side, from the attacker's point of view
            success, length = misclassified(logits, y) & ~short, self.threat.distance(points, x)
            closer = success & (length < distance)
            nearest = torch.where(per_example(closer, x), points, nearest)
            distance = torch.where(closer, length, distance)
            if step >= self.steps // 2:
                crossed = crossed | success
            w.grad = (2 * (points - x) - per_example(torch.where(short, c, 0), x) * gradient) * slope
            adam.param_groups[0]["lr"] = self.lr * (1 - step / self.steps)
            adam.step()
        return nearest, distance, crossed

    def _variable(self, x: Tensor) -> Tensor:
        if self.threat.bounds is None:
            return x.clone()
        middle, half = self._box()
        return (INSIDE * (x - middle) / half).atanh()

    def _points(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return x'(w) and its derivative, entry by entry."""
        if self.threat.bounds is None:
            return w.clone(), torch.ones_like(w)
        middle, half = self._box()
        t = w.tanh()
        return self.threat.clip(middle + half * t), half * (1 - t**2)

    def _box(self) -> tuple[float, float]:
        low, high = self.threat.bounds or (0.0, 0.0)
        return (low + high) / 2, (high - low) / 2
