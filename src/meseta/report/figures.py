"""The figures of a report, from records."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from meseta.evaluation.record import Curve, Record
from meseta.report.comparison import (
    NORMS,
    MeasureGroup,
    Run,
    measure_groups,
    pixel_steps,
    runs_of,
    slug,
    threats_of,
    unique,
    wilson,
    worst_cases,
)
from meseta.report.curves import history_figures
from meseta.report.examples import example_figures
from meseta.report.figure import Cloud, CloudFigure, Figure, HistogramFigure, LineFigure, Sample, Series
from meseta.report.profiles import profile_figures
from meseta.report.sandwich import KINDS, Sandwich, distances, largest, sandwiches
from meseta.report.style import FILLED_SAMPLES
from meseta.report.surfaces import surface_figures
from meseta.report.verdict import doubts_of

LOG_SPAN = 100.0
"""Positive values that span this factor are shown on a logarithmic axis."""
RADII = 120
"""Points of a curve of certified accuracy."""
LOG_NEGATIVE = 0.05
"""A measure with a larger share of negative values is signed, and stays on a linear axis."""


def all_figures(records: Sequence[Record]) -> list[Figure]:
    """Return every figure of a report, in its order."""
    groups = measure_groups(runs_of(records))
    return [
        *robustness_curves(records),
        *certified_curves(records),
        *distance_figures(records),
        *sandwich_figures(records),
        *(figure for group in groups for figure in measure_figures(group)),
        *surface_figures(records),
        *example_figures(records),
        *profile_figures(records),
        *attack_curves(records),
        *history_figures(records),
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
    x_label, ticks = _eps_axis(norm, series)
    return LineFigure(
        key=f"robust-accuracy-{norm}",
        title=f"Worst-case accuracy, {NORMS[norm]}",
        x_label=x_label,
        y_label="worst-case accuracy (%)",
        series=series,
        ticks=ticks,
        notes=("Whiskers: 95 % Wilson interval. eps = 0 is clean accuracy.", *_upper_bounds(series, runs)),
    )


def _eps_axis(norm: str, series: Sequence[Series]) -> tuple[str, dict[float, str]]:
    """Return the label and the ticks: in units of 1/255 where every eps is a whole number of them."""
    positions = sorted({x for one in series for x in one.x})
    steps = [pixel_steps(x) if norm == "Linf" else None for x in positions if x > 0]
    if not steps or not all(steps):
        return f"eps, {NORMS[norm]}", {}
    return f"eps, {NORMS[norm]} (units of 1/255)", {x: f"{round(255 * x)}" for x in positions}


def _upper_bounds(series: Sequence[Series], runs: Sequence[Run]) -> tuple[str, ...]:
    """Return a note for each drawn run whose gradients are masked, or may be."""
    drawn = {one.style for one in series}
    return tuple(f"{run.short}: {doubt}" for run in runs if run.style in drawn and (doubt := doubts_of(run)))


def _curve(norm: str, run: Run) -> Series | None:
    attacked = worst_cases(run.record, norm)
    return _against_eps(run.short, run.style, run, [*attacked.values()]) if attacked else None


def _against_eps(name: str, style: int, run: Run, attacked: Sequence[tuple[float, float]]) -> Series | None:
    """Return a line through (eps, accuracy), from clean accuracy at eps = 0."""
    evaluation = run.record.evaluation
    if evaluation is None:
        return None
    points = {0.0: evaluation.clean_accuracy} | dict(attacked)
    eps, share = zip(*sorted(point for point in points.items() if math.isfinite(point[1])), strict=True)
    return _with_intervals(name, style, eps, share, evaluation.n)


def _with_intervals(name: str, style: int, x: Sequence[float], shares: Sequence[float], n: int) -> Series:
    low, high = zip(*(wilson(one, n) for one in shares), strict=True)
    return Series(name, style, tuple(x), _percents(shares), _percents(low), _percents(high))


def attack_curves(records: Sequence[Record]) -> list[LineFigure]:
    """Return one figure per run and norm: the worst case and the accuracy that each attack left, against eps.

    None for a cascade, whose attacks met only what others had left, and none for a single attack, which is the worst
    case itself.
    """
    runs = runs_of(records)
    found = [(norm, run) for run in runs for norm in dict.fromkeys(norm for norm, _ in threats_of([run]))]
    keys = unique([f"attacks-{norm}-{slug(run.label)}" for norm, run in found])
    figures = (_attack_figure(key, norm, run) for key, (norm, run) in zip(keys, found, strict=True))
    return [figure for figure in figures if len(figure.series) > 2]


def _attack_figure(key: str, norm: str, run: Run) -> LineFigure:
    robust = run.record.evaluation.robust if run.record.evaluation else []
    points: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for one in robust:
        if one.norm == norm and not one.cascade:
            for attack in one.attacks:
                points.setdefault((attack.name, _but_for_eps(attack.attack)), []).append((one.eps, attack.accuracy))
    names = unique(["worst case", *(name for name, _ in points)])
    columns = [[*worst_cases(run.record, norm).values()], *points.values()]
    found = zip(names, columns, strict=True)
    lines = [_against_eps(name, style, run, line) for style, (name, line) in enumerate(found)]
    series = tuple(one for one in lines if one)
    x_label, ticks = _eps_axis(norm, series)
    notes = ("Whiskers: 95 % Wilson interval. eps = 0 is clean accuracy.",)
    return LineFigure(
        key=key,
        title=f"Each attack, {NORMS[norm]}, {run.short}",
        x_label=x_label,
        y_label="accuracy (%)",
        series=series,
        ticks=ticks,
        notes=(*notes, f"{run.short}: {doubt}") if (doubt := doubts_of(run)) else notes,
        of_attacks=True,
    )


def _but_for_eps(attack: str) -> str:
    """Return an attack's settings without the size of its ball, by which it is the same attack at every eps."""
    return re.sub(r"\beps=[^,()]*", "", attack)


def _percents(shares: Sequence[float]) -> tuple[float, ...]:
    return tuple(100 * share for share in shares)


def certified_curves(records: Sequence[Record]) -> list[LineFigure]:
    """Return one figure per norm with a sound bound: certified accuracy in % against the radius, a line per run."""
    figures = (_certified_figure(norm, by_run) for norm, by_run in largest(runs_of(records)).items())
    return [figure for figure in figures if figure.series]


def _certified_figure(norm: str, by_run: Mapping[int, Sandwich]) -> LineFigure:
    return LineFigure(
        key=f"certified-accuracy-{norm}",
        title=f"Certified accuracy, {NORMS[norm]}",
        x_label=f"radius, {NORMS[norm]}",
        y_label="certified accuracy (%)",
        series=(series := _survival([(one.run, one.certified) for _, one in sorted(by_run.items())])),
        notes=(f"Sound bounds only, the best for each example.{_bands(series)} Ends where 1 % is left.",),
        band=True,
        x_name="radius",
    )


def _bands(series: Sequence[Series], what: str = "95 % Wilson interval") -> str:
    """Return what the bands are, where there are any: not where they would hide one another."""
    return f" Bands: {what}." if len(series) <= FILLED_SAMPLES else ""


def _survival(members: Sequence[tuple[Run, list[float] | None]]) -> tuple[Series, ...]:
    """Return for each run that has distances the share of them above each radius, where 0 stands for an error."""
    columns = [(run, values) for run, values in members if values]
    # A long tail of a few examples would leave no room for all others.
    finite = [sorted(v for v in values if v < math.inf) or [0.0] for _, values in columns]
    end = max((values[len(values) * 99 // 100] for values in finite), default=0.0)
    radii = [end * i / RADII for i in range(RADII + 1)] if end > 0 else [0.0]
    return tuple(
        _with_intervals(
            run.short, run.style, radii, [sum(v > r for v in values) / len(values) for r in radii], len(values)
        )
        for run, values in columns
    )


def distance_figures(records: Sequence[Record]) -> list[LineFigure | HistogramFigure]:
    """Return for each norm with minimum-norm attacks the accuracy they leave against eps, and their distances."""
    runs = runs_of(records)
    figures = []
    for norm, by_run in largest(runs).items():
        members = [(one.run, one.attacked) for _, one in sorted(by_run.items())]
        figures += [_nearest_curve(norm, members, runs), _nearest_histogram(norm, members)]
    return [figure for figure in figures if figure]


_Nearest = Sequence[tuple[Run, list[float] | None]]


def _nearest_curve(norm: str, members: _Nearest, runs: Sequence[Run]) -> LineFigure | None:
    series = _survival(members)
    if not series:
        return None
    notes = (
        "The share of examples without an adversarial example found within eps: an upper bound of robust accuracy."
        f"{_bands(series)}",
    )
    return LineFigure(
        key=f"smallest-attack-accuracy-{norm}",
        title=f"Accuracy from the smallest attacks found, {NORMS[norm]}",
        x_label=f"eps, {NORMS[norm]}",
        y_label="accuracy (%)",
        series=series,
        notes=(*notes, *_upper_bounds(series, runs)),
        band=True,
    )


def _nearest_histogram(norm: str, members: _Nearest) -> HistogramFigure | None:
    found = [(run, values, [v for v in values if 0 < v < math.inf]) for run, values in members if values]
    if not any(shown for _, _, shown in found):
        return None
    title = f"Distance of the smallest attack, {NORMS[norm]}"
    notes = (_not_found(run.short, values) for run, values, _ in found)
    return HistogramFigure(
        key=f"smallest-attack-{norm}",
        title=title,
        x_label=title,
        samples=tuple(Sample(run.short, run.style, tuple(shown), len(values)) for run, values, shown in found),
        log_x=_spans_magnitudes([v for _, _, shown in found for v in shown]),
        notes=tuple(filter(None, notes)),
    )


def _not_found(name: str, values: Sequence[float]) -> str:
    counts = {"misclassified": values.count(0), "without an adversarial example found": values.count(math.inf)}
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{name}: {kinds} of {len(values)} examples, not on the axis." if kinds else ""


def sandwich_figures(records: Sequence[Record]) -> list[CloudFigure]:
    """Return the bounds and the smallest attack on each example, one figure for each run and norm that has a bound.

    Examples are sorted by the smallest attack, and without one by the first bound. Misclassified ones, whose distance
    is 0, are left out and counted.
    """
    found = [one for one in sandwiches(runs_of(records)) if len(one.of("attack")) < len(one.members)]
    titles = [f"{NORMS[one.norm]} distances, {one.run.short}" for one in found]
    titles = [
        title if titles.count(title) == 1 else f"{title}, {one.split}, n = {one.n}"
        for title, one in zip(titles, found, strict=True)
    ]
    keys = unique([f"distances-{one.norm}-{slug(one.run.label)}" for one in found])
    figures = [_sandwich(key, title, one) for key, title, one in zip(keys, titles, found, strict=True)]
    return _alike([figure for figure in figures if any(cloud.x for cloud in figure.clouds)])


def _alike(figures: Sequence[CloudFigure]) -> list[CloudFigure]:
    """Return the figures with one axis for those of a norm, so that runs can be compared by eye."""
    values: dict[tuple[str, bool], list[float]] = {}
    for figure in figures:
        kind = values.setdefault((figure.y_label, figure.log_y), [])
        kind += [y for cloud in figure.clouds for y in cloud.y]
    spans = {kind: (min(found), max(found)) for kind, found in values.items()}
    return [replace(figure, span=spans[figure.y_label, figure.log_y]) for figure in figures]


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
                notes=(f"Lines: median over the examples.{_bands(drawn, '5 % to 95 % of them')}",),
                band=True,
                percent=False,
                interval="5–95 %",
                x_name="index",
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
