"""The comparison of runs as a table of values with their text."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from meseta.evaluation.record import Evaluation, Measured, Record, Training
from meseta.report.comparison import (
    MISSING,
    NORMS,
    MeasureGroup,
    Run,
    eps_text,
    measure_groups,
    percent,
    runs_of,
    significant,
    threats_of,
    unique,
    wilson,
    worst_cases,
)
from meseta.report.rerun import differing
from meseta.report.sandwich import KINDS, Sandwich, distances, largest, telling_radii
from meseta.report.verdict import examined, is_broken, is_doubted, labelled, verdict

Direction = Literal["highest", "lowest", "nearest zero"]

_FLATNESS = ("Curvature", "Gradient", "Hessian", "Jacobian")
"""Measures with one of these in their name say how far from flat a model is; of others no value is called best."""


@dataclass(frozen=True)
class Column:
    """One quantity: its full title for text, its group and short title for the page, and which value is best."""

    title: str
    group: str
    short: str
    best: Direction | None = None
    from_attacks: bool = False
    """Whether the figures are what attacks left: of a model that they may not see, never the best."""
    of_gradients: bool = False
    """Whether it says how flat a model is: of one that hides its gradients, never the best."""
    setting: bool = False
    """Whether it is no figure but a setting in which the runs differ."""


@dataclass(frozen=True)
class Cell:
    """A value, as it is and as it is shown; `note` is secondary text, `detail` explains it."""

    value: float | str | None
    text: str
    note: str = ""
    detail: str = ""
    best: bool = False
    partial: bool = False
    """Whether some examples have no value: never the best."""


@dataclass(frozen=True)
class Table:
    """One row per run, one cell per column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


_NOTHING = Cell(None, MISSING)


def comparison_table(records: Sequence[Record]) -> Table:
    """Compare the runs: masking, the settings that differ, accuracy, worst case per threat, distances, medians of
    measures, cost of training."""
    runs = runs_of(records)
    columns = [
        (Column("Run", "", "Run"), [Cell(run.label, run.label) for run in runs]),
        *_verdict_columns(runs),
        *_setting_columns(runs),
        *_accuracy_columns(runs),
        *_transformed_columns(runs),
        *_radius_columns(runs),
        *_measure_columns(runs),
        *_cost_columns(runs),
    ]
    marked = [(column, _mark_best(column, cells, runs)) for column, cells in columns]
    return Table(
        columns=tuple(column for column, _ in marked),
        rows=tuple(zip(*(cells for _, cells in marked), strict=True)),
    )


_Filled = tuple[Column, list[Cell]]


def _accuracy_columns(runs: Sequence[Run]) -> list[_Filled]:
    evaluations = [run.record.evaluation for run in runs]
    n = Column("n", "", "n"), [Cell(e.n, str(e.n)) if e else _NOTHING for e in evaluations]
    clean = (
        Column("Clean accuracy (%)", "Accuracy (%)", "clean", "highest"),
        [accuracy_cell(e.clean_accuracy, e.n) if e else _NOTHING for e in evaluations],
    )
    worst = [_worst_case_column(norm, eps, runs) for norm, eps in threats_of(runs)]
    return [n, clean, *worst]


def _verdict_columns(runs: Sequence[Run]) -> list[_Filled]:
    cells = [_verdict_cell(run) for run in runs]
    return [(Column("Masking", "", "Masking"), cells)] if any(cell.value for cell in cells) else []


def _verdict_cell(run: Run) -> Cell:
    word = verdict(run.record)
    reasons = (f"{finding.name}: {finding.evidence}" for one in examined([run]) for _, finding in one.doubts)
    return Cell(word, labelled(word), detail="\n".join(reasons)) if word else _NOTHING


def _setting_columns(runs: Sequence[Run]) -> list[_Filled]:
    shown, total = differing(runs)
    group = "Settings that differ" if len(shown) == total else f"Settings that differ, {len(shown)} of {total}"
    return [
        (Column(f"Setting: {one.key}", group, one.key, setting=True), [_setting_cell(value) for value in one.values])
        for one in shown
    ]


def _setting_cell(value: str) -> Cell:
    """Return a setting, as a number where it is one."""
    if value == MISSING:
        return _NOTHING
    try:
        number = json.loads(value)
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        return Cell(value, " ".join(value.split()))
    return Cell(number, str(number) if isinstance(number, int) else f"{number:.6g}")


def _worst_case_column(norm: str, eps: str, runs: Sequence[Run]) -> _Filled:
    threat = f"{NORMS[norm]} {eps}"
    group = "Worst-case accuracy over all attacks (%)"
    column = Column(f"Worst case, {threat} (%)", group, threat, "highest", from_attacks=True)
    return column, [worst_case_cell(run, norm, eps) for run in runs]


def worst_case_cell(run: Run, norm: str, eps: str) -> Cell:
    """Return the worst-case accuracy at one threat, as an upper bound where the attacks do not see the model."""
    found, evaluation = worst_cases(run.record, norm).get(eps), run.record.evaluation
    if not found or not evaluation:
        return _NOTHING
    cell = accuracy_cell(found[1], evaluation.n)
    if not is_broken(run):
        return cell
    return replace(cell, text=f"≤{cell.text}", detail=f"only an upper bound: gradients are masked; {cell.detail}")


def accuracy_cell(share: float, n: int) -> Cell:
    """Return a share of n examples in %, with its 95 % Wilson interval as the note."""
    if not math.isfinite(share):
        return _NOTHING
    low, high = wilson(share, n)
    detail = f"95 % Wilson interval {percent(low)}–{percent(high)} %, n = {n}"
    return Cell(share, percent(share), f"{percent(low)}–{percent(high)}", detail)


def _transformed_columns(runs: Sequence[Run]) -> list[_Filled]:
    """Return accuracy under each transformation of the inputs; other settings are another column."""
    evaluations = [run.record.evaluation for run in runs]
    return [
        (
            Column(f"{name} (%)", "Accuracy on transformed inputs (%)", name, "highest", from_attacks=True),
            [_transformed_cell(e, transformation) for e in evaluations],
        )
        for name, transformation in transformations(runs)
    ]


def transformations(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return the name of every transformation of any run, and the transformation with its settings."""
    evaluations = [run.record.evaluation for run in runs]
    found = list(dict.fromkeys((one.name, one.transformation) for e in evaluations if e for one in e.transformed))
    names = unique([name for name, _ in found])
    return [(name, transformation) for name, (_, transformation) in zip(names, found, strict=True)]


def _transformed_cell(evaluation: Evaluation | None, transformation: str) -> Cell:
    if evaluation is None:
        return _NOTHING
    found = next((one for one in evaluation.transformed if one.transformation == transformation), None)
    return accuracy_cell(found.accuracy, evaluation.n) if found else _NOTHING


def _radius_columns(runs: Sequence[Run]) -> list[_Filled]:
    """Return for each norm certified accuracy at a few radii, the median distance of each bound, and the tightness."""
    return [column for norm, by_run in largest(runs).items() for column in _norm_columns(norm, by_run, runs)]


def _norm_columns(norm: str, by_run: dict[int, Sandwich], runs: Sequence[Run]) -> list[_Filled]:
    found = [by_run.get(run.style) for run in runs]
    certified = [one.certified if one else None for one in found]
    attacked = [one.attacked if one else None for one in found]
    text, group = NORMS[norm], f"Distance, {NORMS[norm]}, median"
    columns: list[_Filled] = []
    for radius in telling_radii(norm, [value for values in certified for value in values or []]):
        at = eps_text(norm, radius)
        column = Column(f"Certified accuracy, {text} {at} (%)", "Certified accuracy (%)", f"{text} {at}", "highest")
        columns.append((column, [_certified_cell(values, radius) for values in certified]))
    if any(certified):
        column = Column(f"{text} certified radius (sound), median", group, KINDS["sound"], "highest")
        columns.append((column, [_distance_cell(values) for values in certified]))
    for kind in ("estimate", "proxy"):
        for name in dict.fromkeys(member.name for one in found if one for member in one.of(kind)):
            members = [next((m for m in one.of(kind) if m.name == name), None) if one else None for one in found]
            column = Column(f"{text} {name} ({kind}), median", group, f"{name} ({kind})")
            columns.append((column, [_distance_cell(distances(m) if m else None) for m in members]))
    if any(attacked):
        title = f"{text} smallest attack, median"
        column = Column(title, group, KINDS["attack"], "highest", from_attacks=True)
        columns.append((column, [_distance_cell(values) for values in attacked]))
    if any(ratios := [one.tightness if one else None for one in found]):
        column = Column(f"{text} certified radius / smallest attack, median", group, "certified / attack")
        columns.append((column, [_number(ratio) for ratio in ratios]))
    return columns


def _certified_cell(values: Sequence[float] | None, radius: float) -> Cell:
    if not values:
        return _NOTHING
    return accuracy_cell(sum(value > radius for value in values) / len(values), len(values))


def _distance_cell(values: Sequence[float] | None) -> Cell:
    """Return the median over all examples, misclassified ones at 0; "none" where most have no adversarial example."""
    if not values:
        return _NOTHING
    middle = median(values)
    detail = f"n = {len(values)}, {sum(value == 0 for value in values)} of them 0"
    return Cell(middle, significant(middle), detail=detail) if middle < math.inf else Cell(None, "none", detail=detail)


def _measure_columns(runs: Sequence[Run]) -> list[_Filled]:
    return [_measure_column(group, runs) for group in measure_groups(runs)]


def _measure_column(group: MeasureGroup, runs: Sequence[Run]) -> _Filled:
    measured = {run.style: one for run, one in group.members}
    flatness = any(word in group.title for word in _FLATNESS)
    best: Direction | None = "nearest zero" if flatness else None
    column = Column(f"{group.title}, median", "Median over examples", group.title, best, of_gradients=flatness)
    return column, [_median_cell(measured.get(run.style)) for run in runs]


def _median_cell(measured: Measured | None) -> Cell:
    if measured is None or measured.median is None or not math.isfinite(measured.median):
        return _NOTHING
    spread = [MISSING if q is None else significant(q) for q in (measured.quantile_05, measured.quantile_95)]
    detail = f"5 % to 95 % of examples: {spread[0]} to {spread[1]}, n = {measured.n}, {measured.nonfinite} not finite"
    missing = f" ({measured.nonfinite} of {measured.n} not finite)" if measured.nonfinite else ""
    text = significant(measured.median) + missing
    return Cell(measured.median, text, detail=detail, partial=bool(missing))


def _cost_columns(runs: Sequence[Run]) -> list[_Filled]:
    trained = [run.record.training for run in runs]
    seconds = (
        Column("Training, s per epoch", "Training", "s per epoch", "lowest"),
        [_number(t.seconds_per_epoch if t else None) for t in trained],
    )
    if not any(_is_plain(t) for t in trained):
        return [seconds]
    ratios = [_number(_cost_ratio(run, runs), "×") for run in runs]
    return [seconds, (Column("Training, cost relative to Erm", "Training", "relative to Erm", "lowest"), ratios)]


def _is_plain(training: Training | None) -> bool:
    return training is not None and training.objective.startswith("Erm(")


def _cost_ratio(run: Run, runs: Sequence[Run]) -> float | None:
    """Divide by the median cost of the plain runs of the same model on the same data and device."""
    training = run.record.training
    if training is None:
        return None
    plain = [
        t.seconds_per_epoch
        for other in runs
        if (t := other.record.training)
        and _is_plain(t)
        and (other.record.model, other.record.data, t.provenance.device)
        == (run.record.model, run.record.data, training.provenance.device)
    ]
    return training.seconds_per_epoch / median(plain) if plain and median(plain) > 0 else None


def _number(value: float | None, unit: str = "") -> Cell:
    return _NOTHING if value is None or not math.isfinite(value) else Cell(value, significant(value) + unit)


def _mark_best(column: Column, cells: list[Cell], runs: Sequence[Run]) -> list[Cell]:
    """Mark the best value, and all that read the same; nothing where there is no difference to see.

    What attacks left of a model that they do not see is no value to compare, nor is its flatness; where another run is
    trusted, nobody knows this of one that was not checked. A value that some examples do not have is none either.
    """
    words = [verdict(run.record) for run in runs]
    barred = [
        (is_doubted(run) and (column.from_attacks or column.of_gradients))
        or (word == "not checked" and "trusted" in words and column.from_attacks)
        for run, word in zip(runs, words, strict=True)
    ]
    comparable = [not (bar or cell.partial) for bar, cell in zip(barred, cells, strict=True)]
    values = [cell for cell, ok in zip(cells, comparable, strict=True) if ok and isinstance(cell.value, int | float)]
    if column.best is None or len({cell.text for cell in values}) < 2:
        return cells
    best = min(values, key=lambda cell: _badness(cell, column.best)).text
    return [replace(cell, best=ok and cell.text == best) for cell, ok in zip(cells, comparable, strict=True)]


def _badness(cell: Cell, direction: Direction | None) -> float:
    value = float(cell.value or 0)
    return {"highest": -value, "lowest": value}.get(direction or "", abs(value))
