"""Two renderers of the same figures: plotly's JSON for the page, matplotlib's PDF and PNG for print."""

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meseta.errors import MissingExtra
from meseta.evaluation.record import Record
from meseta.files import write_whole
from meseta.report.figures import (
    Cloud,
    CloudFigure,
    Figure,
    HistogramFigure,
    LineFigure,
    Sample,
    Series,
    all_figures,
    bin_edges,
    bin_shares,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.legend import Legend

_RGB = tuple[int, int, int]

# Okabe & Ito's palette without its yellow, too pale on white, and with a grey for its black, unseen on dark pages.
_COLOURS: list[_RGB] = [
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (128, 128, 128),
]
_DASHES: list[tuple[int, ...]] = [(), (8, 4), (2, 3), (8, 3, 2, 3), (14, 4)]
# plotly's and matplotlib's name of each marker
_MARKERS = [
    ("circle", "o"),
    ("square", "s"),
    ("diamond", "D"),
    ("triangle-up", "^"),
    ("x", "X"),
    ("triangle-down", "v"),
    ("cross", "P"),
    ("star", "*"),
    ("pentagon", "p"),
]
_GLYPHS = "●■◆▲✖▼✚★⬟"
"""The same in text."""
_FILLED_SAMPLES = 4
"""With more distributions than this, fills hide one another, and only outlines are drawn."""


@dataclass(frozen=True)
class Style:
    """A run's look in every figure; colours, dashes and markers differ in number so that pairs rarely repeat."""

    rgb: _RGB
    dash: tuple[int, ...]
    """Lengths of strokes and gaps in pixels; empty for a solid line."""
    symbol: str
    marker: str

    @property
    def colour(self) -> str:
        """The colour as CSS and matplotlib read it."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


def style(index: int) -> Style:
    """Return the look of the run with this index."""
    return Style(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)], *_MARKERS[index % len(_MARKERS)])


@dataclass(frozen=True)
class CloudStyle:
    """The look of a kind of distance: attacks are a line, bounds points, proxies thin ones; `glyph` is it in text."""

    rgb: _RGB
    size: float
    opacity: float
    symbol: str
    marker: str
    glyph: str
    line: bool

    @property
    def colour(self) -> str:
        """The colour as CSS and matplotlib read it."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


# green, orange, grey, vermilion of the palette; size in pixels
_KINDS = {
    "sound": (_COLOURS[2], 5.0, 0.9),
    "estimate": (_COLOURS[4], 4.5, 0.8),
    "proxy": (_COLOURS[6], 3.0, 0.6),
    "attack": (_COLOURS[1], 3.0, 1.0),
}


def cloud_style(cloud: Cloud) -> CloudStyle:
    """Return the look of a cloud; several of a kind differ by their markers."""
    number, line = cloud.order % len(_MARKERS), cloud.kind == "attack"
    return CloudStyle(*_KINDS[cloud.kind], *_MARKERS[number], "━━" if line else _GLYPHS[number], line)


def to_plotly(figure: Figure) -> dict[str, Any]:
    """Return the figure as plotly's JSON: transparent, without title and legend, which the page sets itself."""
    axis: dict[str, Any]
    y_axis: dict[str, Any]
    if isinstance(figure, LineFigure):
        bands = [_band_trace(series) for series in figure.series] if _has_bands(figure) else []
        traces = bands + [_line_trace(series, figure) for series in figure.series]
        axis = {"rangemode": "tozero"} | _tick_array(figure)
        y_axis = {"range": [0, 101]} if figure.percent else _value_axis(figure)
    elif isinstance(figure, CloudFigure):
        traces = [_cloud_trace(cloud) for cloud in reversed(figure.clouds)]
        axis = {"range": [-1, 101]}
        y_axis = _value_axis(figure)
    else:
        edges = bin_edges(figure)
        filled = len(figure.samples) <= _FILLED_SAMPLES
        traces = [_step_trace(sample, edges, filled) for sample in figure.samples]
        axis = _log_axis(edges) if figure.log_x else {"exponentformat": "power"}
        y_axis = {"rangemode": "tozero"}
    titles = {"title": {"text": html.escape(figure.x_label, quote=False)}}, {"title": {"text": figure.y_label}}
    titles[1]["title"]["text"] = html.escape(figure.y_label, quote=False)
    common = {"automargin": True, "zeroline": False, "showline": True}
    layout = {
        "xaxis": common | axis | titles[0],
        "yaxis": common | y_axis | titles[1],
        "showlegend": False,
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"t": 12, "r": 12, "b": 48, "l": 56},
        "font": {"family": "system-ui, sans-serif", "size": 13},
    }
    return {"data": traces, "layout": layout}


def _has_bands(figure: LineFigure) -> bool:
    return figure.band and len(figure.series) <= _FILLED_SAMPLES


def _value_axis(figure: LineFigure | CloudFigure) -> dict[str, Any]:
    """Label an axis of values: powers of ten where it is logarithmic, from 0 on where none is negative."""
    if isinstance(figure, CloudFigure):
        values = [y for cloud in figure.clouds for y in cloud.y]
    else:
        values = [y for series in figure.series for y in (*series.low, *series.high)]
    if figure.log_y:
        return _log_axis((min(values), max(values)))
    return {"exponentformat": "power"} | ({"rangemode": "tozero"} if min(values) >= 0 else {})


def _band_trace(series: Series) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "meta": {"run": series.style},
        "x": [*series.x, *reversed(series.x)],
        "y": [*series.high, *reversed(series.low)],
        "line": {"width": 0},
        "fill": "toself",
        "fillcolor": "rgba({},{},{},0.15)".format(*style(series.style).rgb),
        "hoverinfo": "skip",
    }


def _cloud_trace(cloud: Cloud) -> dict[str, Any]:
    look = cloud_style(cloud)
    return {
        "type": "scatter",
        "mode": "lines" if look.line else "markers",
        "name": html.escape(cloud.name, quote=False),
        "meta": {"run": -1},  # no key of the runs' legends hides it
        "x": [round(x, 3) for x in cloud.x],
        "y": cloud.y,
        "line": {"color": look.colour, "width": 2},
        "marker": {"symbol": look.symbol, "size": look.size, "color": look.colour, "opacity": look.opacity},
        "hovertemplate": "%{fullData.name}<br>%{y:.3g}<extra></extra>",
    }


def _run_of(series: Series, figure: LineFigure) -> int:
    """Return the run whose key in the page's legends hides the line: none for an attack."""
    return -1 if figure.of_attacks else series.style


def _tick_array(figure: LineFigure) -> dict[str, Any]:
    return {"tickvals": list(figure.ticks), "ticktext": list(figure.ticks.values())} if figure.ticks else {}


def _log_axis(edges: Sequence[float]) -> dict[str, Any]:
    """Label whole powers of ten only, at most about six of them."""
    decades = math.log10(edges[-1]) - math.log10(edges[0])
    return {"type": "log", "exponentformat": "power", "dtick": max(1, round(decades / 6))}


def _line_trace(series: Series, figure: LineFigure) -> dict[str, Any]:
    look = style(series.style)
    trace = {
        "type": "scatter",
        "cliponaxis": False,
        "name": html.escape(series.name, quote=False),
        "meta": {"run": _run_of(series, figure)},
        "x": series.x,
        "y": series.y,
        "line": _plotly_line(look),
    }
    if figure.band:
        share = "95 %" if figure.percent else "5–95 %"
        return trace | {
            "mode": "lines" if len(series.x) > 1 else "markers",
            "text": [f"{low:.3g}–{high:.3g}" for low, high in zip(series.low, series.high, strict=True)],
            "hovertemplate": f"%{{fullData.name}}<br>%{{x:.3g}}: %{{y:.3g}} ({share}: %{{text}})<extra></extra>",
        }
    return trace | {
        "mode": "lines+markers",
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [h - y for h, y in zip(series.high, series.y, strict=True)],
            "arrayminus": [y - low for low, y in zip(series.low, series.y, strict=True)],
            "color": look.colour,
            "thickness": 1,
            "width": 3,
        },
        "marker": {"symbol": look.symbol, "size": 8, "color": look.colour},
        "text": [f"{low:.1f}–{h:.1f}" for low, h in zip(series.low, series.high, strict=True)],
        "hovertemplate": "%{fullData.name}<br>eps %{x}: %{y:.1f} % (95 %: %{text})<extra></extra>",
    }


def _step_trace(sample: Sample, edges: Sequence[float], filled: bool) -> dict[str, Any]:
    look = style(sample.style)
    shares = bin_shares(sample, edges)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(sample.name, quote=False),
        "meta": {"run": sample.style},
        "x": [edges[0], *edges],
        "y": [0, *shares, 0],
        "line": _plotly_line(look) | {"shape": "hv"},
        "fill": "tozeroy" if filled else "none",
        "fillcolor": "rgba({},{},{},0.12)".format(*look.rgb),
        "hovertemplate": "%{fullData.name}<br>%{y:.1f} % from %{x:.3g}<extra></extra>",
    }


def _plotly_line(look: Style) -> dict[str, Any]:
    return {"color": look.colour, "width": 2, "dash": ",".join(f"{length}px" for length in look.dash) or "solid"}


def write_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write every figure of the report into `folder` as PDF and PNG, and return the files."""
    return [file for figure in all_figures(records) for file in save_matplotlib(figure, folder)]


def save_matplotlib(figure: Figure, folder: Path) -> list[Path]:
    """Write `<key>.pdf` and `<key>.png` into `folder`, each whole or not at all; fonts are embedded as TrueType."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    pdf, png = folder / f"{figure.key}.pdf", folder / f"{figure.key}.png"
    with mpl.rc_context(_print_style()):
        canvas = _canvas(figure)
        write_whole(pdf, lambda file: canvas.savefig(file, format="pdf", metadata={"CreationDate": None}))
        write_whole(png, lambda file: canvas.savefig(file, format="png", dpi=200))
    return [pdf, png]


def _print_style() -> Any:
    return {
        "pdf.fonttype": 42,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.linewidth": 0.8,
        "grid.color": "#e3e3e3",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
    }


def _canvas(figure: Figure) -> "Canvas":
    """Draw the figure, the legend and the notes below the axes; the canvas grows with the legend."""
    from matplotlib.figure import Figure as Canvas

    names = [one.name for one in _drawn(figure)]
    notes = [line for note in figure.notes for line in textwrap.wrap(note, 76)]
    columns = max(1, min(4, len(names), 96 // (max(map(len, names)) + 8)))
    rows = -(-len(names) // columns) + len(notes)
    canvas = Canvas(figsize=(6, 3.6 + 0.19 * rows), layout="constrained")
    axes = canvas.add_subplot()
    if isinstance(figure, LineFigure):
        handles = _draw_lines(axes, figure)
    elif isinstance(figure, CloudFigure):
        handles = _draw_clouds(axes, figure)
    else:
        handles = _draw_steps(axes, figure)
    axes.set_title("\n".join(textwrap.wrap(figure.title, 70)), parse_math=False)
    axes.set_xlabel("\n".join([textwrap.shorten(figure.x_label, 76, placeholder=" …"), *notes]), parse_math=False)
    axes.set_ylabel(figure.y_label, parse_math=False)
    # Labels are set afterwards: matplotlib leaves out the ones that start with an underscore.
    legend = canvas.legend(handles, [str(i) for i in range(len(names))], loc="outside lower left", ncols=columns)
    _rename(legend, names)
    return canvas


def _drawn(figure: Figure) -> Sequence[Series | Cloud | Sample]:
    if isinstance(figure, LineFigure):
        return figure.series
    return figure.clouds if isinstance(figure, CloudFigure) else figure.samples


def _rename(legend: "Legend", names: Sequence[str]) -> None:
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _draw_lines(axes: "Axes", figure: LineFigure) -> list[Any]:
    handles = []
    for series in figure.series:
        look = style(series.style)
        marker = look.marker if not figure.band or len(series.x) == 1 else None
        if _has_bands(figure):
            axes.fill_between(series.x, series.low, series.high, color=look.colour, alpha=0.15, linewidth=0)
        elif not figure.band:
            below = [y - low for low, y in zip(series.low, series.y, strict=True)]
            above = [high - y for high, y in zip(series.high, series.y, strict=True)]
            axes.errorbar(series.x, series.y, (below, above), fmt="none", color=look.colour, elinewidth=0.8, capsize=2)
        handles += axes.plot(
            series.x, series.y, color=look.colour, linestyle=_dash(look), linewidth=1.5, marker=marker, markersize=5
        )
    if figure.percent:
        axes.set_ylim(0, 101)
    elif figure.log_y:
        axes.set_yscale("log")
    if figure.ticks:
        axes.set_xticks(list(figure.ticks), list(figure.ticks.values()))
    return handles


def _draw_clouds(axes: "Axes", figure: CloudFigure) -> list[Any]:
    handles = []
    for depth, cloud in enumerate(figure.clouds):
        look = cloud_style(cloud)
        handles += axes.plot(
            cloud.x,
            cloud.y,
            color=look.colour,
            linestyle="solid" if look.line else "none",
            linewidth=1.5,
            marker=None if look.line else look.marker,
            markersize=look.size / 1.5,
            markeredgewidth=0,
            alpha=look.opacity,
            zorder=2 + (0 if cloud.kind == "proxy" else 1) + depth / 100,
        )
    axes.set_xlim(-1, 101)
    if figure.log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    return handles


def _draw_steps(axes: "Axes", figure: HistogramFigure) -> list[Any]:
    edges = bin_edges(figure)
    filled = len(figure.samples) <= _FILLED_SAMPLES
    handles = []
    for sample in figure.samples:
        look = style(sample.style)
        shares = bin_shares(sample, edges)
        if filled:
            axes.stairs(shares, edges, color=look.colour, fill=True, alpha=0.12)
        handles += axes.plot(
            [edges[0], *edges],
            [0, *shares, 0],
            color=look.colour,
            linestyle=_dash(look),
            linewidth=1.5,
            drawstyle="steps-post",
        )
    if figure.log_x:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    return handles


def _dash(look: Style) -> Any:
    """Return matplotlib's dash, whose lengths are in line widths."""
    return (0, tuple(length / 2 for length in look.dash)) if look.dash else "solid"
