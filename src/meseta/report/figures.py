"""Figures as data: what is drawn, apart from how. `drawing` renders them for the page and for print."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meseta.evaluation.record import Curve, Record
from meseta.report.comparison import (
    NORMS,
    MeasureGroup,
    Run,
    eps_text,
    measure_groups,
    pixel_steps,
    runs_of,
    slug,
    threats_of,
    unique,
    wilson,
    worst_cases,
)
from meseta.report.sandwich import KINDS, Sandwich, distances, largest, sandwiches

BINS = 40
LOG_SPAN = 100.0
"""Positive values that span this factor are shown on a logarithmic axis."""
RADII = 120
"""Points of a curve of certified accuracy."""
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
    """Lines over a common axis; `ticks` maps positions to their text, empty for the renderer's own.

    Few points have markers and whiskers, many have a band; `percent` fixes the axis from 0 to 100.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    ticks: Mapping[float, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    band: bool = False
    percent: bool = True
    log_y: bool = False


@dataclass(frozen=True)
class Cloud:
    """One distance per example: a line for attacks, points for bounds, thin ones for proxies."""

    name: str
    kind: str
    order: int
    """Among those of its kind."""
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class CloudFigure:
    """Several distances of the same examples, which are sorted along x; `notes` count those not on the axis."""

    key: str
    title: str
    clouds: tuple[Cloud, ...]
    log_y: bool
    y_label: str
    x_label: str = "examples, nearest first (%)"
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


Figure = LineFigure | CloudFigure | HistogramFigure


def all_figures(records: Sequence[Record]) -> list[Figure]:
    """Return every figure of a report, in its order."""
    groups = measure_groups(runs_of(records))
    return [
        *robustness_curves(records),
        *certified_curves(records),
        *sandwich_figures(records),
        *(figure for group in groups for figure in measure_figures(group)),
    ]


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


def certified_curves(records: Sequence[Record]) -> list[LineFigure]:
    """Return one figure per norm with a sound bound: certified accuracy in % against the radius, a line per run."""
    figures = (_certified_figure(norm, by_run) for norm, by_run in largest(runs_of(records)).items())
    return [figure for figure in figures if figure.series]


def _certified_figure(norm: str, by_run: Mapping[int, Sandwich]) -> LineFigure:
    certified = {style: one.certified for style, one in sorted(by_run.items()) if one.certified is not None}
    # A long tail of a few examples would leave no room for all others.
    finite = {style: sorted(v for v in values if v < math.inf) or [0.0] for style, values in certified.items()}
    end = max((values[len(values) * 99 // 100] for values in finite.values()), default=0.0)
    radii = tuple(end * i / RADII for i in range(RADII + 1)) if end > 0 else (0.0,)
    series = []
    for style, values in certified.items():
        share = [sum(value > radius for value in values) / len(values) for radius in radii]
        low, high = zip(*(wilson(one, len(values)) for one in share), strict=True)
        series.append(Series(by_run[style].run.short, style, radii, _percents(share), _percents(low), _percents(high)))
    return LineFigure(
        key=f"certified-accuracy-{norm}",
        title=f"Certified accuracy, {NORMS[norm]}",
        x_label=f"radius, {NORMS[norm]}",
        y_label="certified accuracy (%)",
        series=tuple(series),
        notes=("Sound bounds only, the best for each example. Bands: 95 % Wilson interval. Ends where 1 % is left.",),
        band=True,
    )


def sandwich_figures(records: Sequence[Record]) -> list[CloudFigure]:
    """Return the bounds and the smallest attack on each example, one figure for each run and norm.

    Examples are sorted by the smallest attack, and without one by the first bound. Misclassified ones, whose distance
    is 0, are left out and counted.
    """
    found = sandwiches(runs_of(records))
    titles = [f"{NORMS[one.norm]} distances, {one.run.short}" for one in found]
    titles = [
        title if titles.count(title) == 1 else f"{title}, {one.split}, n = {one.n}"
        for title, one in zip(titles, found, strict=True)
    ]
    keys = unique([f"distances-{one.norm}-{slug(one.run.label)}" for one in found])
    figures = (_sandwich(key, title, one) for key, title, one in zip(keys, titles, found, strict=True))
    return [figure for figure in figures if any(cloud.x for cloud in figure.clouds)]


def _sandwich(key: str, title: str, one: Sandwich) -> CloudFigure:
    columns = [distances(member) for member in one.members]
    right = [i for i in range(one.n) if any(column[i] > 0 for column in columns)]
    key_column = one.attacked or columns[0]
    rank = {i: 100 * (k + 0.5) / len(right) for k, i in enumerate(sorted(right, key=lambda i: key_column[i]))}
    shown = [value for column in columns for i in right if 0 < (value := column[i]) < math.inf]
    log_y = _spans_magnitudes(sorted(shown)[len(shown) // 50 :])  # a few tiny ones would leave no room for all others
    clouds, off = [], []
    for member, column in zip(one.members, columns, strict=True):
        at = [i for i in rank if column[i] < math.inf and (column[i] > 0 or not log_y)]
        name = f"{KINDS[member.kind]}: {member.name}"
        order = one.of(member.kind).index(member)
        clouds.append(Cloud(name, member.kind, order, tuple(rank[i] for i in at), tuple(column[i] for i in at)))
        endless = sum(column[i] == math.inf for i in rank)
        without = {
            "without one found" if member.kind == "attack" else "infinite": endless,
            "zero": len(rank) - len(at) - endless,
        }
        off += [f"{name}: {count} {what}, not on the axis." for what, count in without.items() if count]
    wrong = one.n - len(right)
    return CloudFigure(
        key=key,
        title=title,
        clouds=tuple(clouds),
        log_y=log_y,
        y_label=f"distance, {NORMS[one.norm]}",
        notes=(f"{one.n} examples, {wrong} of them misclassified or without any distance and left out.", *off),
    )


def measure_histograms(records: Sequence[Record]) -> list[HistogramFigure]:
    """Return one figure per measure with all runs overlaid; measures without any finite value have none.

    The axis is logarithmic where positive values span two orders of magnitude and at most 5 % are negative. Values
    that are not finite, and zero or negative ones on a logarithmic axis, are counted in the notes and in the
    denominator of every share: a run with zeros never looks as if it had none.
    """
    return [figure for group in measure_groups(runs_of(records)) for figure in _histograms(group)[:1]]


def measure_figures(group: MeasureGroup) -> list[HistogramFigure | LineFigure]:
    """Return the histograms of a measure and of its parts, and its curves: those that have anything to show."""
    return [*_histograms(group), *_curves(group)]


def _histograms(group: MeasureGroup) -> list[HistogramFigure]:
    figures = [_histogram(group.key, group.title, [(run, one.values) for run, one in group.members])]
    parts = list(dict.fromkeys(name for _, one in group.members for name in one.parts))
    for name, key in zip(parts, part_keys(group, parts), strict=True):
        members = [(run, one.parts[name].values) for run, one in group.members if name in one.parts]
        figures.append(_histogram(key, f"{group.title}: {_words(name)}", members))
    return [figure for figure in figures if any(sample.values for sample in figure.samples)]


def _curves(group: MeasureGroup) -> list[LineFigure]:
    names = list(dict.fromkeys(name for _, one in group.members for name in one.curves))
    keys = part_keys(group, [f"{name} curve" for name in names])
    figures = []
    for name, key in zip(names, keys, strict=True):
        series = [_band(run, one.curves[name]) for run, one in group.members if name in one.curves]
        drawn = tuple(one for one in series if one.x)
        values = [v for one in drawn for v in (*one.low, *one.high)]
        figures.append(
            LineFigure(
                key=key,
                title=f"{group.title}: {_words(name)}",
                x_label="index",
                y_label=_words(name),
                series=drawn,
                ticks=_whole_ticks(int(max((one.x[-1] for one in drawn), default=0))),
                notes=("Lines: median over the examples. Bands: 5 % to 95 % of them.",),
                band=True,
                percent=False,
                log_y=bool(values) and min(values) > 0 and _spans_magnitudes(values),
            )
        )
    return [figure for figure in figures if figure.series]


def _whole_ticks(end: int) -> dict[float, str]:
    """Return about ten whole positions from 1 to the end."""
    return {float(i): str(i) for i in range(1, end + 1, max(1, -(-end // 10)))}


def _band(run: Run, curve: Curve) -> Series:
    rows = zip(curve.median, curve.quantile_05, curve.quantile_95, strict=True)
    points = [(float(i), *row) for i, row in enumerate(rows, 1) if None not in row]
    columns = tuple(tuple(float(v) for v in column if v is not None) for column in zip(*points, strict=True))
    x, y, low, high = columns or ((), (), (), ())
    return Series(run.short, run.style, x, y, low, high)


def part_keys(group: MeasureGroup, names: Sequence[str]) -> list[str]:
    """Return keys for what belongs to a measure; two hyphens, which no measure's own key has."""
    return unique([f"{group.key}--{slug(name)}" for name in names])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _histogram(key: str, title: str, members: Sequence[tuple[Run, Sequence[float | None]]]) -> HistogramFigure:
    finite = [[v for v in values if v is not None and math.isfinite(v)] for _, values in members]
    log_x = _spans_magnitudes([v for values in finite for v in values])
    samples = tuple(
        Sample(run.short, run.style, tuple(v for v in values if v > 0 or not log_x), len(everything))
        for (run, everything), values in zip(members, finite, strict=True)
    )
    notes = [_off_axis(sample, values) for sample, values in zip(samples, finite, strict=True)]
    return HistogramFigure(
        key=key,
        title=title,
        x_label=title,
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
