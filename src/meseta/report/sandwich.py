"""What bounds and attacks say about the same examples: certified radius <= smallest attack, estimates in between."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from meseta.evaluation.record import Bounded
from meseta.report.comparison import NORMS, Run

KINDS = {"sound": "certified (sound)", "estimate": "estimate", "proxy": "proxy", "attack": "smallest attack"}
"""The kinds of a distance, as people read them, in the order of every table and figure."""
KINDS_EXPLAINED = {
    "sound": "A certified radius is sound: no adversarial example of that norm is nearer.",
    "estimate": "An estimate would be sound if constants seen at sampled points held everywhere.",
    "proxy": "A proxy is the distance in a simplified model of the classifier, on either side of the truth.",
    "attack": "The smallest attack is an adversarial example that was found, so the truth is at most that far.",
}
ROUNDING = 1e-3
"""A sound radius may exceed an attack's distance by this share, which float32 takes; beyond, they contradict."""


@dataclass(frozen=True)
class Sandwich:
    """The bounds and attacks of one run in one norm on the same examples, by kind."""

    run: Run
    norm: str
    split: str
    n: int
    members: tuple[Bounded, ...]

    def of(self, kind: str) -> list[Bounded]:
        """Return the members of one kind."""
        return [one for one in self.members if one.kind == kind]

    @property
    def certified(self) -> list[float] | None:
        """The largest sound radius of each example, which is sound; None without a sound bound."""
        return self._combined("sound", max)

    @property
    def attacked(self) -> list[float] | None:
        """The smallest distance of each example over all attacks, infinite where none was found; None without any."""
        return self._combined("attack", min)

    def _combined(self, kind: str, choose: Callable[..., float]) -> list[float] | None:
        columns = [distances(one) for one in self.of(kind)]
        return [choose(row) for row in zip(*columns, strict=True)] if columns else None

    @property
    def tightness(self) -> float | None:
        """The median of certified radius / smallest attack over the examples where both are positive and finite."""
        ratios = [low / high for low, high in self._pairs() if low > 0 and 0 < high < math.inf]
        return median(ratios) if ratios else None

    @property
    def contradictions(self) -> int:
        """Examples with an attack nearer than their certified radius: a bound that is not sound."""
        return sum(low > high * (1 + ROUNDING) for low, high in self._pairs())

    def _pairs(self) -> list[tuple[float, float]]:
        """Return certified radius and smallest attack of the examples that have both: the first ones of one split."""
        if len({one.split for kind in ("sound", "attack") for one in self.of(kind)}) > 1:
            return []
        return list(zip(self.certified or [], self.attacked or [], strict=False))


def distances(one: Bounded) -> list[float]:
    """Return the distances, infinite where the record has none: nothing was found, or nothing can be."""
    return [math.inf if value is None else value for value in one.values]


def sandwiches(runs: Sequence[Run]) -> list[Sandwich]:
    """Return one sandwich for each norm, run, split and number of examples, in this order."""
    groups: dict[tuple[str, int, str, int], list[Bounded]] = {}
    for run in runs:
        for one in run.record.bounds:
            groups.setdefault((one.norm, run.style, one.split, one.n), []).append(one)
    by_style = {run.style: run for run in runs}
    kinds, norms = list(KINDS), list(NORMS)
    return [
        Sandwich(by_style[style], norm, split, n, tuple(sorted(members, key=lambda one: kinds.index(one.kind))))
        for (norm, style, split, n), members in sorted(
            groups.items(), key=lambda item: (norms.index(item[0][0]), *item[0][1:])
        )
    ]


def largest(runs: Sequence[Run]) -> dict[str, dict[int, Sandwich]]:
    """Return for each norm and run (by its style) what tables compare: each kind on test data, on the most examples.

    Kinds that were taken on other numbers of examples all have their place; split and n are those of the most.
    """
    found: dict[str, dict[int, Sandwich]] = {}
    for one in sorted(sandwiches(runs), key=lambda one: (one.split == "test", one.n)):
        by_run = found.setdefault(one.norm, {})
        earlier = by_run[one.run.style].members if one.run.style in by_run else ()
        kinds = {member.kind for member in one.members}
        kept = [member for member in earlier if member.kind not in kinds]
        members = sorted([*kept, *one.members], key=lambda member: list(KINDS).index(member.kind))
        by_run[one.run.style] = replace(one, members=tuple(members))
    return {norm: found[norm] for norm in NORMS if norm in found}


def telling_radii(norm: str, certified: Sequence[float]) -> list[float]:
    """Return a few round radii between which the certified ones lie: near their quartiles.

    Round is one significant digit, and for Linf a whole number of 1/255 from 1/255 on.
    """
    positive = sorted(value for value in certified if 0 < value < math.inf)
    if not positive:
        return []
    quartiles = [positive[len(positive) * k // 4] for k in (1, 2, 3)]
    return sorted({_rounded(norm, value) for value in quartiles})


def _rounded(norm: str, value: float) -> float:
    if norm == "Linf" and value >= 1 / 255:
        return round(255 * value) / 255
    return float(f"{value:.0e}")
