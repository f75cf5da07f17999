"""A figure as data: what is drawn, apart from how. `interactive` renders it for pages, `printed` for print."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meseta.evaluation.record import Picture

BINS = 40


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
    log_x: bool = False
    log_y: bool = False
    interval: str = "95 %"
    """What lies between low and high; empty where lines have none."""
    x_name: str = "eps"
    """What x is, in short."""
    of_attacks: bool = False
    """Whether the lines are of one run, such as its attacks, which the figure names itself; elsewhere they are runs."""


@dataclass(frozen=True)
class Points:
    """Points of one kind, each with its name and its interval."""

    name: str
    style: int
    labels: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class PointFigure:
    """Named points with whiskers, such as one for each method; `ticks` maps positions to their text."""

    key: str
    title: str
    x_label: str
    y_label: str
    groups: tuple[Points, ...]
    ticks: Mapping[float, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    log_x: bool = False
    interval: str = "95 %"
    """What lies between low and high."""


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
    span: tuple[float, float] | None = None
    """The lowest and the highest distance on the axis, common to figures that are compared; None for its own."""


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


@dataclass(frozen=True)
class SurfaceFigure:
    """A scalar field over a plane, as a contour map and as a relief.

    Attributes:
        x, y: coordinates of the grid; `values` has a row for each y. None where not finite.
        span: the lowest and the highest value that the colours tell apart, common to figures that are compared.
        origin_label: what the point at (0, 0) is.
        diverging: whether zero is the middle of the colours.
        boundary: the field whose zeros are the decision boundary, on the same grid; None where it has none there.
        ball: the outline of the threat's ball, `ball_label` what it is. path: points of an attack.
        crossings: the points at which the decision first changes along the axes.
        relief: whether print shows the relief; pages show either.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    value_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[tuple[float | None, ...], ...]
    span: tuple[float, float]
    diverging: bool
    origin_label: str
    boundary: tuple[tuple[float | None, ...], ...] | None = None
    ball: tuple[tuple[float, float], ...] = ()
    ball_label: str = ""
    path: tuple[tuple[float, float], ...] = ()
    path_label: str = ""
    crossings: tuple[tuple[float, float], ...] = ()
    relief: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tile:
    """One picture with its caption; None for the picture of something that was not found."""

    picture: Picture | None
    caption: str
    signed: bool = False
    """Whether zero is the middle of the colours."""


@dataclass(frozen=True)
class PictureFigure:
    """A grid of pictures; None leaves a place empty."""

    key: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Tile | None, ...]], ...]
    """The label of each row, and its pictures."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PanelFigure:
    """Several figures that are read together, row by row; in print they share one legend."""

    key: str
    title: str
    rows: tuple[tuple["Figure", ...], ...]
    notes: tuple[str, ...] = ()


Figure = LineFigure | PointFigure | CloudFigure | HistogramFigure | SurfaceFigure | PictureFigure | PanelFigure


def leaves(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures with panels taken apart."""
    return [
        leaf
        for figure in figures
        for leaf in (
            leaves([one for row in figure.rows for one in row]) if isinstance(figure, PanelFigure) else [figure]
        )
    ]


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
