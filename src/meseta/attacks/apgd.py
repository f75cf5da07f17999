"""Projected gradient ascent that chooses its own step lengths."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from itertools import pairwise
from math import ceil
from typing import Any, Self

import torch
from torch import Tensor

from meseta.attacks.ascent import Ascent, Look, sparse_step
from meseta.checks import positive, whole
from meseta.errors import UserError
from meseta.linalg.norms import per_example
from meseta.threat import Threat

ALPHA = 0.75
"""Share of the gradient step in a move; the rest goes on in the direction of the last move."""
FIRST_WINDOW, SHRINKAGE, LAST_WINDOW = 22, 3, 6
"""Percent of the steps between two looks at the progress: 22, 19, 16, and so on down to 6."""

SPARSE_WINDOW, FIRST_SHARE, SPARSER, REDUCTION, LEAST_STEP = 0.04, 0.2, 0.95, 1.5, 0.1
"""L1: share of the steps between two looks; share of the entries that the first steps move; where the support falls
below this share of itself, steps are long again; by what they shrink elsewhere; and to what at least."""
ROUNDING = 1e-6
"""L1: the share of eps that an entry has to move by, to count."""


@dataclass(frozen=True, kw_only=True)
class APGD(Ascent):
    """Auto-PGD: steps with momentum whose length is halved wherever an example stops making progress.

    z = project(x_k + eta s(grad loss)),  x_{k+1} = project(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1})),  eta = 2 eps,

    with s the steepest step of the norm. At the steps p_j `steps`, p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j -
    p_{j-1} - 0.03, 0.06), each example halves its eta and goes back to the best point found if, since the last look,

        less than the share rho of its moves raised the loss, or
        neither eta nor the highest loss has changed.

    L1 follows the rule of that norm: steps of length eta = eps along the signs of the k largest entries of the
    gradient, k first a fifth of all entries, then the number that the best point has moved, over 1.5. Where that number
    fell by 5 % since the last look, 4 % of the steps ago, eta is eps again and the search goes back to the best point;
    elsewhere eta falls by 1.5, down to eps / 10.

    Args:
        threat: norm, eps and bounds.
        steps: moves per run.
        rho: share of the moves that have to raise the loss, in (0, 1); the rule for L1 asks for none.
        loss, restarts, targets, draws: what is raised, and in how many runs (see `Ascent`).

    Returns the first misclassified iterate of each example, which leaves the batch there; the one with the highest loss
    elsewhere.
    Cost: `steps` + 1 forwards and backwards to the input per run, `draws` times, of the examples that still stand; plus
    one forward a run if there are several, and one for the targets.
    Source: Croce & Hein 2020, Algorithm 1 and section 4; Croce & Hein 2021, section 4 for L1. Differs: projects onto
    ball and bounds together in every norm; looks at the progress as soon as the last counted move is made, not a move
    later; starts uniformly in the ball. In L1, entries that a bound stops do not count among the k (see `sparse_step`),
    k is rounded down, so that it can come to 1, and no searches in the balls of 3 and 2 eps come before: on a CNN
    (MNIST, eps 4 and 8) they found nothing more and cost half as much again, and on a net of two inputs they left 100
    of 400 examples standing where the one search leaves 73.
    """

    steps: int = 100
    rho: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps, 1)
        positive("rho", self.rho)
        if self.rho >= 1:
            raise UserError(f"`rho` must be below 1, got {self.rho!r}: it is the share of moves that raise the loss.")

    @property
    def name(self) -> str:
        """For example `APGD-100 DLR 9 targets`."""
        return self._named(f"APGD-{self.steps}")

    def ascend(self, x: Tensor, look: Look, generator: torch.Generator | None) -> Tensor:
        """Return the first misclassified or the best iterates."""
        start = self.threat.sample(x, generator=generator)
        if self.threat.norm == "L1":
            return _climb(_Sparse.start(self.threat, x, start), look, self.steps, _sparse_looks(self.steps))
        return _climb(_Momentum.start(self.threat, x, start, self.rho), look, self.steps, _looks(self.steps))


@dataclass(kw_only=True)
class _Path(ABC):
    """One run: a row of each tensor for every example that is still in it."""

    threat: Threat
    index: Tensor  # of the example, in the batch
    x: Tensor
    points: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    eta: Tensor

    @staticmethod
    def _first(threat: Threat, x: Tensor, points: Tensor, eta: float) -> dict[str, Any]:
        """Return what every path starts with; the first loss that is seen is the best one, and no rise."""
        none = torch.full((len(x),), torch.inf, dtype=torch.float32, device=x.device)
        return {
            **{
                "threat": threat,
                "index": torch.arange(len(x), device=x.device),
                "x": x,
                "points": points,
                "best": points,
            },
            **{"gradient": torch.zeros_like(x), "best_gradient": torch.zeros_like(x), "loss": none, "best_loss": -none},
            "eta": x.new_full((len(x),), eta),
        }

    @abstractmethod
    def move(self) -> None:
        """Go to the next points."""

    @abstractmethod
    def look_back(self, moves: int) -> None:
        """Set the step lengths by what the last `moves` moves have brought."""

    def see(self, loss: Tensor, gradient: Tensor) -> None:
        """Take in the loss and the gradient at the points."""
        better = loss > self.best_loss
        self.best = torch.where(per_example(better, self.x), self.points, self.best)
        self.best_gradient = torch.where(per_example(better, self.x), gradient, self.best_gradient)
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.loss, self.gradient = loss, gradient

    def go_back(self, where: Tensor) -> None:
        """Return to the best points there."""
        self.points = torch.where(per_example(where, self.x), self.best, self.points)
        self.gradient = torch.where(per_example(where, self.x), self.best_gradient, self.gradient)
        self.loss = torch.where(where, self.best_loss, self.loss)

    def keep(self, where: Tensor) -> None:
        """Leave the other examples behind."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                setattr(self, field.name, value[where])


@dataclass(kw_only=True)
class _Momentum(_Path):
    """The rule for Linf and L2 (Croce & Hein 2020)."""

    rho: float
    previous: Tensor
    inertia: Tensor  # 0 in the first move
    rises: Tensor  # moves that raised the loss, since the last look
    halved: Tensor  # eta, at the last look
    best_loss_then: Tensor  # at the last look

    @classmethod
    def start(cls, threat: Threat, x: Tensor, points: Tensor, rho: float) -> Self:
        zeros, first = x.new_zeros(len(x)), cls._first(threat, x, points, 2 * threat.eps)
        never = torch.zeros_like(zeros, dtype=torch.bool)
        memory = {"rises": zeros.long(), "halved": never, "best_loss_then": first["best_loss"]}
        return cls(**first, **memory, rho=rho, previous=points, inertia=zeros)

    def move(self) -> None:
        z = self.points + per_example(self.eta, self.x) * self.threat.steepest(self.gradient, self.points)
        z = self.threat.project(z, self.x)
        inertia = per_example(self.inertia, self.x)
        z = self.points + (1 - inertia) * (z - self.points) + inertia * (self.points - self.previous)
        self.previous, self.points = self.points, self.threat.project(z, self.x)
        self.inertia = torch.full_like(self.inertia, 1 - ALPHA)

    def see(self, loss: Tensor, gradient: Tensor) -> None:
        self.rises = self.rises + (loss > self.loss)
        super().see(loss, gradient)

    def look_back(self, moves: int) -> None:
        stuck = ~self.halved & (self.best_loss == self.best_loss_then)
        self.halved = stuck | (self.rises < self.rho * moves)
        self.eta = torch.where(self.halved, self.eta / 2, self.eta)
        self.rises, self.best_loss_then = torch.zeros_like(self.rises), self.best_loss
        self.go_back(self.halved)


@dataclass(kw_only=True)
class _Sparse(_Path):
    """The rule for L1 (Croce & Hein 2021)."""

    support: Tensor  # entries that the best point changed, at the last look
    entries: Tensor  # of a step

    @classmethod
    def start(cls, threat: Threat, x: Tensor, points: Tensor) -> Self:
        support = _support(threat, points, x)
        entries = (support / REDUCTION).clamp_max(FIRST_SHARE * x[0].numel())
        return cls(**cls._first(threat, x, points, threat.eps), support=support, entries=entries)

    def move(self) -> None:
        step = sparse_step(self.threat, self.gradient, self.points, self.entries)
        self.points = self.threat.project(self.points + per_example(self.eta, self.x) * step, self.x)

    def look_back(self, moves: int) -> None:
        support = _support(self.threat, self.best, self.x)
        sparser = support < SPARSER * self.support
        eta = (self.eta / REDUCTION).clamp_min(LEAST_STEP * self.threat.eps)
        self.eta = torch.where(sparser, self.threat.eps, eta)
        self.support, self.entries = support, support / REDUCTION
        self.go_back(sparser)


def _climb(path: _Path, look: Look, steps: int, looks: dict[int, int]) -> Tensor:
    """Follow the path; return the first points where the model errs, or the best ones."""
    result = path.points.clone()
    for step in range(steps + 1):
        if step:
            path.move()
        broken, loss, gradient = look(path.points, path.index)
        if broken.any():
            result[path.index[broken]] = path.points[broken]
            path.keep(~broken)
            if len(path.index) == 0:
                return result
            loss, gradient = loss[~broken], gradient[~broken]
        path.see(loss, gradient)
        if step in looks:
            path.look_back(looks[step])
    result[path.index] = path.best
    return result


def _looks(steps: int) -> dict[int, int]:
    """Return the steps at which an example looks back, each with the number of moves since the last one."""
    percent, window, marks = 0, FIRST_WINDOW, {0}
    while percent < 100:
        percent, window = percent + window, max(window - SHRINKAGE, LAST_WINDOW)
        marks.add(min(-(-percent * steps // 100), steps))
    return {0: 0} | {mark: mark - last for last, mark in pairwise(sorted(marks))}


def _sparse_looks(steps: int) -> dict[int, int]:
    window = ceil(SPARSE_WINDOW * steps)
    return dict.fromkeys(range(window, steps, window), window)


def _support(threat: Threat, points: Tensor, x: Tensor) -> Tensor:
    """Return how many entries of each example have moved, not counting those that have come to a bound."""
    move = points - x
    return ((move.abs() > ROUNDING * threat.eps) & ~threat.stopped(move, points)).flatten(1).sum(1).to(x.dtype)
