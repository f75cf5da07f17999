"""Curves over training, from records."""

from collections.abc import Callable, Mapping, Sequence

from meseta.evaluation.record import Record
from meseta.report.comparison import Run, runs_of, slug, unique
from meseta.report.figure import LineFigure, PanelFigure, Series

MARKED = 12
"""Lines of more points have no markers."""
MAGNITUDES = 100.0
"""Positive values that span this factor are shown on a logarithmic axis."""
COLUMNS = 3
PARTS = {"train": "training", "val": "validation", "test": "test"}
"""What the first part of a logged name, or the second after `watch`, stands for."""


def history_figures(records: Sequence[Record]) -> list[LineFigure | PanelFigure]:
    """Return the training curves of all runs: accuracies, losses and the other terms, a panel for each logged name.

    What the watch saw of the validation split is left out where all of the split was logged as well.
    """
    runs = runs_of(records)
    names = list(dict.fromkeys(name for run in runs for name in history(run.record)))
    names = [name for name in names if name not in ("watch/val/accuracy", "watch/val/cross_entropy")]
    groups = {
        "Accuracy": [name for name in names if is_accuracy(name)],
        "Losses": [name for name in names if is_loss(name)],
        "Terms of the objectives": [name for name in names if not is_accuracy(name) and not is_loss(name)],
    }
    return [_panels(title, chosen, runs) for title, chosen in groups.items() if chosen]


def history(record: Record) -> Mapping[str, Sequence[float | None]]:
    """Return what was logged, a value per epoch by name; names without any value are left out."""
    logged = record.training.history if record.training else {}
    return {name: values for name, values in logged.items() if any(value is not None for value in values)}


def is_accuracy(name: str) -> bool:
    """Return whether this is a share of examples, clean or under an attack."""
    return name.split("/")[-1].startswith("accuracy")


def is_loss(name: str) -> bool:
    """Return whether this is the whole objective or a cross-entropy, at whatever points."""
    return name.split("/")[-1].endswith(("total", "cross_entropy"))


def spoken(name: str) -> str:
    """Return a logged name in words: `watch/val/accuracy PGD-20 ...` as `validation, PGD-20 ...`."""
    *parts, what = name.removeprefix("watch/").split("/", 1)
    what = what.removeprefix("accuracy ").replace("_", " ").replace("accuracy", "clean accuracy")
    return ", ".join([*(PARTS.get(part, part) for part in parts), what])


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
        band=max((len(one.x) for one in series), default=0) > MARKED,
        percent=percent,
        interval="",
        x_name="epoch",
        log_y=bool(values) and min(values) > 0 and max(values) >= MAGNITUDES * min(values) and not percent,
    )


def curves_over_epochs(
    key: str, title: str, name: str, runs: Sequence[Run], label: Callable[[Run], str] = lambda run: run.short
) -> LineFigure:
    """Return what was logged under a name, a line for each run that has it."""
    percent = is_accuracy(name)
    drawn = [(run, values) for run in runs if (values := history(run.record).get(name))]
    series = [epoch_line(label(run), run.style, values, percent=percent) for run, values in drawn]
    words = name.split("/")[-1].replace("_", " ")
    return epoch_figure(key, title, "accuracy (%)" if percent else words, series, percent=percent)


def _panels(title: str, names: Sequence[str], runs: Sequence[Run]) -> LineFigure | PanelFigure:
    key = f"history-{slug(title.lower())}"
    keys = unique([f"{key}--{slug(name)}" for name in names])
    panels = [
        curves_over_epochs(panel, spoken(name).capitalize(), name, runs)
        for panel, name in zip(keys, names, strict=True)
    ]
    if len(panels) == 1:
        return panels[0]
    rows = [tuple(panels[i : i + COLUMNS]) for i in range(0, len(panels), COLUMNS)]
    return PanelFigure(key, f"{title} over training", tuple(rows))
