"""Curves over training, from records."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from meseta.evaluation.record import Record
from meseta.report.comparison import NORMS, Run, runs_of, slug, unique
from meseta.report.figure import LineFigure, PanelFigure, Series
from meseta.report.verdict import doubts_of

MARKED = 12
"""Lines of more points have no markers."""
MAGNITUDES = 100.0
"""Positive values that span this factor are shown on a logarithmic axis."""
COLUMNS = 3
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Logged:
    """A name in a history, taken apart: `watch/val/accuracy PGD-20 CrossEntropy Linf 0.1`.

    Attributes:
        watched: whether a watch saw it; elsewhere `train` stands for the steps of training.
        split: train, val or test.
        what: the quantity.
        attack, threat: of an accuracy under attack; empty for all else. `worst case` is that of several attacks.
    """

    name: str
    watched: bool
    split: str
    what: str
    attack: str
    threat: str

    @property
    def is_accuracy(self) -> bool:
        """Whether this is a share of examples, clean or under an attack."""
        return self.what.startswith("accuracy")

    @property
    def is_loss(self) -> bool:
        """Whether this is the whole objective or a cross-entropy, at whatever points."""
        return self.what.endswith(("total", "cross_entropy"))

    @property
    def where(self) -> str:
        """The split in words."""
        return "training steps" if self.split == "train" and not self.watched else SPLITS.get(self.split, self.split)

    @property
    def words(self) -> str:
        """The quantity in words."""
        if self.attack:
            return f"{self.attack}, {self.threat}"
        if self.is_accuracy:
            return "clean accuracy"
        return self.what.replace("cross_entropy", "cross-entropy").replace("_", " ").replace("total", "whole objective")

    @property
    def y_label(self) -> str:
        """What is on the axis, and its unit."""
        if self.is_accuracy:
            return "accuracy (%)"
        return f"{self.words} (nats)" if self.what.endswith("cross_entropy") else self.words

    def __str__(self) -> str:
        return f"{self.where}, {self.words}"


def read_name(name: str) -> Logged:
    """Take a name in a history apart."""
    split, _, what = name.removeprefix("watch/").rpartition("/")
    found = re.fullmatch(r"accuracy (.+) (Linf|L2|L1) (\S+)(.*)", what)
    attack, threat = (f"{found[1]}{found[4]}", f"{NORMS[found[2]]} {found[3]}") if found else ("", "")
    return Logged(name, name.startswith("watch/"), split, what, attack, threat)


def logged_by(records: Sequence[Record]) -> list[Logged]:
    """Return what any of the records logged, once each: clean accuracies before attacked ones, split by split.

    What a watch saw of the validation split is left out where all of the split was logged as well.
    """
    names = dict.fromkeys(name for record in records for name in history(record))
    doubled = {f"watch/{name}" for name in names if name.startswith("val/")}
    found = [read_name(name) for name in names if name not in doubled]
    order = [*SPLITS]
    quantities = list(dict.fromkeys(one.what for one in found))
    return sorted(
        found,
        key=lambda one: (
            bool(one.attack),
            quantities.index(one.what),
            order.index(one.split) if one.split in order else len(order),
        ),
    )


def history(record: Record) -> Mapping[str, Sequence[float | None]]:
    """Return what was logged, a value per epoch by name; names without any value are left out."""
    logged = record.training.history if record.training else {}
    return {name: values for name, values in logged.items() if any(value is not None for value in values)}


def history_figures(records: Sequence[Record]) -> list[LineFigure | PanelFigure]:
    """Return the training curves of all runs overlaid: accuracies, losses and the other terms of the objectives.

    A panel for each quantity and split. Under attack, runs that were watched with several attacks of one threat show
    their worst case.
    """
    runs = runs_of(records)
    names = logged_by(records)
    accuracies: dict[str, list[Logged]] = {}
    for one in names:
        if one.is_accuracy:
            title = f"{one.where}, under attack, {one.threat}" if one.attack else str(one)
            accuracies.setdefault(title, []).append(one)
    terms = [one for one in names if not one.is_accuracy and not one.is_loss]
    figures = [
        _panels("Accuracy", accuracies, runs, (*_attacks_of(names, runs), *upper_bounds(runs, names))),
        _panels("Losses", {str(one): [one] for one in names if one.is_loss}, runs),
        _panels("Terms of the objectives", {str(one): [one] for one in terms}, runs),
    ]
    return [figure for figure in figures if figure]


def _attacks_of(names: Sequence[Logged], runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a note on which attacks the curves under attack stand for."""
    suites = dict.fromkeys(
        ", ".join(dict.fromkeys(a for one in names if (a := one.attack) not in ("", WORST) and one.name in logged))
        for logged in (history(run.record) for run in runs)
    )
    said = "; ".join(suite for suite in suites if suite)
    return (f"Attacks while training: {said}. Of several, their worst case.",) if said else ()


def upper_bounds(runs: Sequence[Run], names: Sequence[Logged]) -> tuple[str, ...]:
    """Return a note for each run whose gradients are masked, where accuracies under attack are drawn."""
    attacked = {one.name for one in names if one.attack}
    return tuple(
        f"{run.short}: {doubt}" for run in runs if (doubt := doubts_of(run)) and attacked & set(history(run.record))
    )


WORST = "worst case"


def _panels(
    title: str, panels: Mapping[str, Sequence[Logged]], runs: Sequence[Run], notes: tuple[str, ...] = ()
) -> LineFigure | PanelFigure | None:
    key = f"history-{slug(title.lower())}"
    keys = unique([f"{key}--{slug(panel)}" for panel in panels])
    drawn = [
        curves_over_epochs(panel_key, panel, names, runs)
        for panel_key, (panel, names) in zip(keys, panels.items(), strict=True)
    ]
    if len(drawn) < 2:
        return replace(drawn[0], key=key, notes=notes) if drawn else None
    return PanelFigure(key, f"{title} over training", in_rows(drawn, COLUMNS), notes)


def in_rows(panels: Sequence[LineFigure], columns: int) -> tuple[tuple[LineFigure, ...], ...]:
    """Return panels in rows of so many."""
    return tuple(tuple(panels[i : i + columns]) for i in range(0, len(panels), columns))


def curves_over_epochs(
    key: str,
    title: str,
    names: Sequence[Logged],
    runs: Sequence[Run],
    label: Callable[[Run], str] = lambda run: run.short,
) -> LineFigure:
    """Return a line for each run that logged one of the names: the worst case of attacks, or else the first."""
    series = []
    for run in runs:
        values = history(run.record)
        found = sorted((one for one in names if one.name in values), key=lambda one: one.attack != WORST)
        if found:
            series.append(epoch_line(label(run), run.style, values[found[0].name], percent=names[0].is_accuracy))
    title = title[:1].upper() + title[1:]
    return epoch_figure(key, title, names[0].y_label, series, percent=names[0].is_accuracy)


def epoch_line(name: str, style: int, values: Sequence[float | None], *, percent: bool) -> Series:
    """Return a line through the epochs that have a value, counted from 1."""
    points = [(float(i), (100 if percent else 1) * v) for i, v in enumerate(values, 1) if v is not None]
    x, y = zip(*points, strict=True)
    return Series(name, style, x, y, y, y)


def epoch_figure(key: str, title: str, y_label: str, series: Sequence[Series], *, percent: bool) -> LineFigure:
    """Return lines over the epochs of training."""
    values = [y for one in series for y in one.y]
    return LineFigure(
        key=key,
        title=title,
        x_label="epoch",
        y_label=y_label,
        series=tuple(series),
        ticks=_epoch_ticks(int(max(x for one in series for x in one.x))),
        band=max(len(one.x) for one in series) > MARKED,
        percent=percent,
        interval="",
        x_name="epoch",
        log_y=not percent and min(values) > 0 and max(values) >= MAGNITUDES * min(values),
    )


def _epoch_ticks(end: int) -> dict[float, str]:
    """Return at most eight whole epochs, round ones."""
    step = next(k * 10**e for e in range(10) for k in (1, 2, 5) if k * 10**e * 8 >= end)
    return {float(i): str(i) for i in range(step, end + 1, step)}
