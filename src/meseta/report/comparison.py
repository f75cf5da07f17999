"""What makes runs comparable: unique names, one style each, shared threats, like measures, intervals."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meseta.errors import UserError, printable
from meseta.evaluation.record import Measured, Record

MISSING = "–"
LEGEND_LENGTH = 40
NORMS = {"Linf": "L∞", "L2": "L2", "L1": "L1"}
"""Norms in the order and the spelling of every table and figure."""


@dataclass(frozen=True)
class Run:
    """A record with the name and the style it has in every table and figure."""

    record: Record
    label: str
    """The record's name, numbered where two records share it."""
    short: str
    """The label for legends, with the middle left out where it is long."""
    style: int


@dataclass(frozen=True)
class MeasureGroup:
    """The runs measured by the same measure, with the same settings, on the same split."""

    key: str
    title: str
    members: tuple[tuple[Run, Measured], ...]


def runs_of(records: Sequence[Record]) -> list[Run]:
    """Name and number the records; an empty list is a user's error."""
    if not records:
        raise UserError("records: there is none to report. Give at least one record.")
    labels = unique([" ".join(printable(record.name).split()) or "unnamed" for record in records])
    shorts = unique([shorten(label) for label in labels])
    return [Run(*parts, style) for style, parts in enumerate(zip(records, labels, shorts, strict=True))]


def unique(names: Sequence[str]) -> list[str]:
    """Number the second and later uses of a name, without meeting a name that is there already."""
    given, taken = set(names), set[str]()
    result = []
    for name in names:
        label, number = name, 1
        while label in taken or (number > 1 and label in given):
            number += 1
            label = f"{name} ({number})"
        taken.add(label)
        result.append(label)
    return result


def shorten(name: str, length: int = LEGEND_LENGTH) -> str:
    """Leave out the middle of a long name: runs of one sweep differ at either end."""
    if len(name) <= length:
        return name
    head = length // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"


def wilson(share: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the Wilson score interval of a share of `n` examples, 95 % by default (Wilson 1927)."""
    if n <= 0:
        return 0.0, 1.0
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Rounding must not put a share of 0 or 1 outside its own interval.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def newcombe(share: float, n: int, other: float, m: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares, by their Wilson intervals (Newcombe 1998, method 10).

    Of n and m examples drawn apart; where both are of the same examples it is wider than it need be.
    """
    (low, high), (other_low, other_high) = wilson(share, n), wilson(other, m)
    below = math.hypot(share - low, other_high - other)
    above = math.hypot(high - share, other - other_low)
    return share - other - below, share - other + above


def pixel_steps(eps: float) -> int | None:
    """Return k where eps is k/255 with a k that people write so; None elsewhere (0.2 is 51/255, and stays 0.2)."""
    k = round(255 * eps)
    return k if 1 <= k <= 32 and math.isclose(255 * eps, k, rel_tol=1e-6) else None


def eps_text(norm: str, eps: float) -> str:
    """Write eps as people do: 8/255 for Linf, decimals elsewhere. Equal texts are equal thresholds in every table."""
    k = pixel_steps(eps) if norm == "Linf" else None
    return f"{k}/255" if k else f"{eps:.6g}"


def threats_of(runs: Iterable[Run]) -> list[tuple[str, str]]:
    """Return every (norm, eps text) that any run was attacked with, by norm and then by size."""
    found: dict[tuple[str, str], float] = {
        (robust.norm, eps_text(robust.norm, robust.eps)): robust.eps
        for run in runs
        if run.record.evaluation
        for robust in run.record.evaluation.robust
    }
    return sorted(found, key=lambda threat: (list(NORMS).index(threat[0]), found[threat]))


def worst_cases(record: Record, norm: str) -> dict[str, tuple[float, float]]:
    """Map the text of each eps of this norm to (eps, worst-case accuracy)."""
    robust = record.evaluation.robust if record.evaluation else []
    return {
        eps_text(norm, one.eps): (one.eps, one.worst_case)
        for one in robust
        if one.norm == norm and math.isfinite(one.worst_case)
    }


def measure_groups(runs: Sequence[Run]) -> list[MeasureGroup]:
    """Group like measures; the title is the measure's name, longer only where split or settings would be confused."""
    groups: dict[tuple[str, str, str], dict[int, tuple[Run, Measured]]] = {}
    for run in runs:
        for one in run.record.measures:
            groups.setdefault((one.name, one.split, one.measure), {})[run.style] = run, one
    titles = [_title(identity, groups) for identity in groups]
    keys = unique([slug(title) for title in titles])
    return [
        MeasureGroup(key, title, tuple(group.values()))
        for key, title, group in zip(keys, titles, groups.values(), strict=True)
    ]


def _title(identity: tuple[str, str, str], identities: Iterable[tuple[str, str, str]]) -> str:
    name, split, measure = identity
    same_name = [other for other in identities if other[0] == name]
    if len(same_name) == 1:
        return name
    if len({other[2] for other in same_name}) == 1:
        return f"{name}, {split}"
    return f"{measure}, {split}" if len({other[1] for other in same_name}) > 1 else measure


def slug(text: str) -> str:
    """Return a short name for files and anchors: letters, digits and single hyphens."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in text).split()
    return "-".join(words)[:80].strip("-") or "measure"


def percent(share: float) -> str:
    """Write a share as a percentage with one decimal, without its sign."""
    return f"{100 * share:.1f}"


def significant(value: float) -> str:
    """Write a number with three significant digits, as a power of ten where it is very small or large."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
