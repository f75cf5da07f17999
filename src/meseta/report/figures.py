"""Figures as data: what is drawn, apart from how. `drawing` renders them for the page and for print."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meseta.evaluation.record import Record
from meseta.report.comparison import (
    NORMS,
    MeasureGroup,
    Run,
    eps_text,
    measure_groups,
    pixel_steps,
    runs_of,
    threats_of,
    wilson,
    worst_cases,
)

BINS = 40
LOG_SPAN = 100.0
"""Positive values that span this factor are shown on a logarithmic axis."""
LOG_NEGATIVE = 0.05
"""A measure with a larger share of negative values is signed, and stays on a linear axis."""


@dataclass(frozen=True)
class Series:
    """One run's line: points and the interval of each."""

    name: str
    style: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class LineFigure:
    """Lines over a common axis; `ticks` maps positions to their text, empty for the renderer's own."""

    key: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    ticks: Mapping[float, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One run's values, all finite and all on the axis; `total` also counts those that are not."""

    name: str
    style: int
    values: tuple[float, ...]
    total: int


@dataclass(frozen=True)
class HistogramFigure:
    """Distributions over common bins; `notes` count the values that the axis cannot show."""

    key: str
    title: str
    x_label: str
    samples: tuple[Sample, ...]
    log_x: bool
    y_label: str = "share of examples (%)"
    notes: tuple[str, ...] = ()


Figure = LineFigure | HistogramFigure


def all_figures(records: Sequence[Record]) -> list[Figure]:
    """Return every figure of a report, in its order."""
    return [*robustness_curves(records), *measure_histograms(records)]


def robustness_curves(records: Sequence[Record]) -> list[LineFigure]:
    """Return one figure per norm: worst-case accuracy in % against eps, from clean accuracy at eps = 0.

    The interval is the 95 % Wilson interval of the n examples.
    """
    runs = runs_of(records)
    norms = dict.fromkeys(norm for norm, _ in threats_of(runs))
    return [_curve_figure(norm, runs) for norm in norms]


def _curve_figure(norm: str, runs: Sequence[Run]) -> LineFigure:
    series = tuple(one for run in runs if (one := _curve(norm, run)))
    positions = sorted({x for one in series for x in one.x})
    steps = [pixel_steps(x) if norm == "Linf" else None for x in positions if x > 0]
    in_pixels = bool(steps) and all(steps)
    return LineFigure(
        key=f"robust-accuracy-{norm}",
        title=f"Worst-case accuracy, {NORMS[norm]}",
        x_label=f"eps, {NORMS[norm]}" + (" (units of 1/255)" if in_pixels else ""),
        y_label="worst-case accuracy (%)",
        series=series,
        ticks={x: f"{round(255 * x)}" for x in positions} if in_pixels else {},
        notes=("Whiskers: 95 % Wilson interval. eps = 0 is clean accuracy.",),
    )


def _curve(norm: str, run: Run) -> Series | None:
    evaluation = run.record.evaluation
    attacked = worst_cases(run.record, norm)
    if evaluation is None or not attacked:
        return None
    points = {eps_text(norm, 0.0): (0.0, evaluation.clean_accuracy)} | attacked
    eps, share = zip(*sorted(point for point in points.values() if math.isfinite(point[1])), strict=True)
    low, high = zip(*(wilson(one, evaluation.n) for one in share), strict=True)
    return Series(run.short, run.style, eps, _percents(share), _percents(low), _percents(high))


def _percents(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(100 * share for share in shares)


def measure_histograms(records: Sequence[Record]) -> list[HistogramFigure]:
    """Return one figure per measure with all runs overlaid; measures without any finite value have none.

    The axis is logarithmic where positive values span two orders of magnitude and at most 5 % are negative. Values
    that are not finite, and zero or negative ones on a logarithmic axis, are counted in the notes and in the
    denominator of every share: a run with zeros never looks as if it had none.
    """
    figures = (_histogram(group) for group in measure_groups(runs_of(records)))
    return [figure for figure in figures if any(sample.values for sample in figure.samples)]


def _histogram(group: MeasureGroup) -> HistogramFigure:
    finite = [[v for v in one.values if v is not None and math.isfinite(v)] for _, one in group.members]
    log_x = _spans_magnitudes([v for values in finite for v in values])
    samples = tuple(
        Sample(run.short, run.style, tuple(v for v in values if v > 0 or not log_x), len(one.values))
        for (run, one), values in zip(group.members, finite, strict=True)
    )
    notes = [_off_axis(sample, values) for sample, values in zip(samples, finite, strict=True)]
    return HistogramFigure(
        key=group.key,
        title=group.title,
        x_label=group.title,
        samples=samples,
        log_x=log_x,
        notes=tuple(filter(None, notes)),
    )


def _spans_magnitudes(values: Sequence[float]) -> bool:
    positive = [v for v in values if v > 0]
    negative = sum(v < 0 for v in values)
    return bool(positive) and max(positive) / min(positive) >= LOG_SPAN and negative <= LOG_NEGATIVE * len(values)


def _off_axis(sample: Sample, finite: Sequence[float]) -> str:
    counts = {
        "zero": sum(v == 0 for v in finite),
        "negative": sum(v < 0 for v in finite),
    }
    off = {kind: count for kind, count in counts.items() if count} if len(sample.values) < len(finite) else {}
    if sample.total > len(finite):
        off["not finite"] = sample.total - len(finite)
    kinds = ", ".join(f"{count} {kind}" for kind, count in off.items())
    return f"{sample.name}: {kinds} of {sample.total} values, not on the axis." if kinds else ""


def bin_edges(figure: HistogramFigure) -> list[float]:
    """Return the edges of the bins that all samples share: equal widths on the figure's axis."""
    values = [v for sample in figure.samples for v in sample.values]
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    if not figure.log_x:
        return [low + (high - low) * i / BINS for i in range(BINS)] + [high]
    start, stop = math.log10(low), math.log10(high)
    return [low] + [10 ** (start + (stop - start) * i / BINS) for i in range(1, BINS)] + [high]


def bin_shares(sample: Sample, edges: Sequence[float]) -> list[float]:
    """Return the share of all the sample's examples in each bin, in %; the last bin holds its upper edge too."""
    counts = [0] * (len(edges) - 1)
    for value in sample.values:
        counts[min(bisect_right(edges, value), len(counts)) - 1] += 1
    return [100 * count / max(sample.total, 1) for count in counts]
