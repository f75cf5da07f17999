"""Figures as PDF and PNG, by matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from io import BytesIO
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meseta.errors import MissingExtra
from meseta.evaluation.record import Record
from meseta.files import write_whole
from meseta.report.figure import (
    CloudFigure,
    Figure,
    HistogramFigure,
    LineFigure,
    PanelFigure,
    PictureFigure,
    PointFigure,
    SurfaceFigure,
    Tile,
    bin_edges,
    bin_shares,
    leaves,
)
from meseta.report.figures import all_figures
from meseta.report.pictures import png
from meseta.report.placing import placed, spans
from meseta.report.style import (
    CROSSINGS,
    FILLED_SAMPLES,
    Style,
    cloud_style,
    colour_scale,
    diverging_span,
    has_bands,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.gridspec import SubplotSpec
    from matplotlib.legend import Legend

_LEVELS = 20
_ROW_LABEL = 0.8
"""Inches for the labels of rows of pictures."""
_SIDEWAYS = 36
"""Characters in a line beside the vertical axis of a panel."""
_LINE_WIDTH = 96
"""Characters in a line below a figure of one panel."""


def write_figures(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write every figure of the report into `folder` as PDF and PNG, and return the files."""
    return [file for figure in all_figures(records) for file in save(figure, folder)]


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write `<key>.pdf` and `<key>.png` into `folder`, each whole or not at all; fonts are embedded as TrueType."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtra("matplotlib", "report") from None
    pdf, image = folder / f"{figure.key}.pdf", folder / f"{figure.key}.png"
    with mpl.rc_context(_print_style()):
        canvas = _canvas(figure)
        write_whole(pdf, lambda file: canvas.savefig(file, format="pdf", metadata={"CreationDate": None}))
        write_whole(image, lambda file: canvas.savefig(file, format="png", dpi=200))
    return [pdf, image]


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
    """Draw the panels of the figure, and below them one legend and the notes; the canvas grows with both."""
    from matplotlib.figure import Figure as Canvas

    rows = figure.rows if isinstance(figure, PanelFigure) else ((figure,),)
    width, heights = _size(rows)
    line = int(_LINE_WIDTH * width / 6)
    notes = list(dict.fromkeys([*figure.notes, *(note for one in leaves([figure]) for note in one.notes)]))
    text = [part for note in notes for part in textwrap.wrap(note, int(line * 0.86))]
    names = list(dict.fromkeys(name for one in leaves([figure]) for name in _names(one)))
    columns = max(1, min(4 * round(width / 6), len(names), line // (max(map(len, names), default=0) + 8)))
    below = 0.19 * (-(-len(names) // columns) + len(text))
    title = textwrap.wrap(figure.title, int(line * 0.73)) if isinstance(figure, PanelFigure) else []
    canvas = Canvas(figsize=(width, sum(heights) + below + 0.25 * len(title)), layout="constrained")
    handles: dict[str, Any] = {}
    for row, places in zip(rows, _places(canvas, rows, heights), strict=True):
        scales: dict[Any, list[Axes]] = {}
        for panel, place in zip(row, places, strict=True):
            axes, found = _draw(canvas, place, panel, width / len(row))
            handles = {**found, **handles}
            if isinstance(panel, SurfaceFigure) and axes:
                scales.setdefault((panel.span, panel.diverging, panel.value_label), []).append(axes)
        for (_, _, label), members in scales.items():
            _colour_bar(canvas, members, label)
    if title:
        canvas.suptitle("\n".join(title), x=0.01, ha="left", parse_math=False)
    if text and not names:
        canvas.supxlabel("\n".join(text), x=0.01, ha="left", fontsize=9, parse_math=False)
    if names:
        # Labels are set afterwards: matplotlib leaves out the ones that start with an underscore.
        placeholders = [str(i) for i in range(len(names))]
        drawn = [handles[name] for name in names]
        legend = canvas.legend(drawn, placeholders, loc="outside lower left", ncols=columns, alignment="left")
        _rename(legend, names)
        if text:
            legend.set_title("\n".join(text))
            legend.get_title().set_parse_math(False)
    return canvas


def _places(canvas: "Canvas", rows: Sequence[Sequence[Figure]], heights: Sequence[float]) -> "list[list[SubplotSpec]]":
    """Return where the panels are drawn: each row shares the whole width.

    Columns are aligned, except beside reliefs, whose odd margins would push the labels of other rows off the canvas.
    """
    if any(isinstance(panel, SurfaceFigure) and panel.relief for row in rows for panel in row):
        lines = canvas.add_gridspec(len(rows), 1, height_ratios=heights)
        inside = [lines[i, 0].subgridspec(1, len(row)) for i, row in enumerate(rows)]
        return [[line[0, j] for j in range(line.ncols)] for line in inside]
    grid = canvas.add_gridspec(len(rows), lcm(*map(len, rows)), height_ratios=heights)
    wide = [grid.ncols // len(row) for row in rows]
    return [[grid[i, j * wide[i] : (j + 1) * wide[i]] for j in range(len(row))] for i, row in enumerate(rows)]


def _size(rows: Sequence[Sequence[Figure]]) -> tuple[float, list[float]]:
    """Return the width of the canvas and the height of each row, in inches."""
    columns = max(map(len, rows))
    if columns == 1 and len(rows) == 1 and not isinstance(rows[0][0], SurfaceFigure | PictureFigure):
        return (7.5, [4.8]) if isinstance(rows[0][0], PointFigure) else (6, [3.6])
    width = max(6.0, *(sum(_panel_width(panel, columns) for panel in row) for row in rows))
    return width, [max(_panel_height(panel, width / len(row)) for panel in row) for row in rows]


def _panel_width(panel: Figure, columns: int) -> float:
    if isinstance(panel, PictureFigure):
        return max(3.0, 1.15 * len(panel.columns) + _ROW_LABEL)
    return 3.6 if isinstance(panel, SurfaceFigure) or columns > 1 else 6


def _panel_height(panel: Figure, width: float) -> float:
    if isinstance(panel, PictureFigure):
        lines = [[len(_caption(panel, tile, width)) for tile in tiles if tile] for _, tiles in panel.rows]
        captions = sum(0.1 + 0.13 * max(row, default=0) for row in lines)
        return (0.5 if panel.title else 0.25) + len(panel.rows) * _tile_width(panel, width) + captions
    return 0.8 * min(width, 4.2) if isinstance(panel, SurfaceFigure) else 2.8


def _colour_bar(canvas: "Canvas", members: "Sequence[Axes]", label: str) -> None:
    """Explain the colours that panels of a row have in common."""
    from matplotlib.ticker import MaxNLocator

    pad = 0.12 if members[-1].name == "3d" else 0.02
    bar = canvas.colorbar(members[0].collections[0], ax=members, shrink=0.8, pad=pad, aspect=24, ticks=MaxNLocator(7))
    bar.set_label(label, parse_math=False)


def _draw(
    canvas: "Canvas", place: "SubplotSpec", panel: Figure, width: float
) -> "tuple[Axes | None, Mapping[str, Any]]":
    """Draw one panel, and return its axes and its handles for the legend by their names."""
    if isinstance(panel, PictureFigure):
        _draw_pictures(canvas, place, panel, width)
        return None, {}
    if isinstance(panel, PanelFigure):
        raise TypeError("panels hold no panels")
    relief = isinstance(panel, SurfaceFigure) and panel.relief
    axes = canvas.add_subplot(place, **({"projection": "3d"} if relief else {}))
    if isinstance(panel, SurfaceFigure):
        handles = _draw_relief(axes, panel) if relief else _draw_contours(axes, panel)
    elif isinstance(panel, LineFigure):
        handles = _draw_lines(axes, panel)
    elif isinstance(panel, PointFigure):
        handles = _draw_points(axes, panel)
    elif isinstance(panel, CloudFigure):
        handles = _draw_clouds(axes, panel)
    else:
        handles = _draw_steps(axes, panel)
    characters = int(10 * width)
    axes.set_title("\n".join(textwrap.wrap(panel.title, characters)), parse_math=False)
    size = 7 if relief else 9
    axes.set_xlabel("\n".join(textwrap.wrap(panel.x_label, characters)), fontsize=size, parse_math=False)
    axes.set_ylabel("\n".join(textwrap.wrap(panel.y_label, _SIDEWAYS)), fontsize=size, parse_math=False)
    return axes, dict(zip(_names(panel), handles, strict=True))


def _names(figure: Figure) -> list[str]:
    """Return the names in the legend of a panel, in the order of what is drawn."""
    if isinstance(figure, LineFigure):
        return [one.name for one in figure.series]
    if isinstance(figure, PointFigure):
        return [one.name for one in figure.groups]
    if isinstance(figure, CloudFigure):
        return [one.name for one in figure.clouds]
    if isinstance(figure, HistogramFigure):
        return [one.name for one in figure.samples]
    return [name for name, _ in _overlays(figure)] if isinstance(figure, SurfaceFigure) else []


def _rename(legend: "Legend", names: Sequence[str]) -> None:
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _draw_lines(axes: "Axes", figure: LineFigure) -> list[Any]:
    handles = []
    for series in figure.series:
        look = style(series.style)
        marker = look.marker if not figure.band or len(series.x) == 1 else None
        if has_bands(figure):
            axes.fill_between(series.x, series.low, series.high, color=look.colour, alpha=0.15, linewidth=0)
        elif not figure.band and figure.interval:
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
    if figure.log_x:
        axes.set_xscale("log")
    if figure.ticks:
        axes.set_xticks(list(figure.ticks), list(figure.ticks.values()))
        axes.minorticks_off()
    return handles


def _draw_points(axes: "Axes", figure: PointFigure) -> list[Any]:
    from matplotlib.patheffects import withStroke

    handles = []
    for group in figure.groups:
        look = style(group.style)
        below = [y - low for low, y in zip(group.low, group.y, strict=True)]
        above = [high - y for high, y in zip(group.high, group.y, strict=True)]
        axes.errorbar(
            group.x, group.y, (below, above), fmt="none", color=look.colour, elinewidth=0.7, capsize=2, alpha=0.6
        )
        handles += axes.plot(group.x, group.y, color=look.colour, linestyle="none", marker=look.marker, markersize=5)
    for name in placed(figure):
        lead = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            name.text,
            (name.x, name.y),
            (name.text_x, name.text_y),
            ha="right" if name.left else "left",
            va="center",
            fontsize=7,
            parse_math=False,
            arrowprops=lead if name.moved else None,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],  # legible where a whisker passes
        )
    if figure.log_x:
        axes.set_xscale("log")
    x_span, y_span = spans(figure)
    axes.set_xlim(*x_span)
    axes.set_ylim(*y_span)
    if figure.ticks:
        axes.set_xticks(list(figure.ticks), list(figure.ticks.values()))
        axes.minorticks_off()
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
    if figure.span:
        low, high = figure.span
        axes.set_ylim((low / 1.1, high * 1.1) if figure.log_y else (0, high * 1.05))
    elif not figure.log_y:
        axes.set_ylim(bottom=0)
    return handles


def _draw_steps(axes: "Axes", figure: HistogramFigure) -> list[Any]:
    edges = bin_edges(figure)
    filled = len(figure.samples) <= FILLED_SAMPLES
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


def _grid(values: Sequence[Sequence[float | None]]) -> Any:
    """Return the values as a masked array."""
    import numpy as np

    return np.ma.masked_invalid(np.array(values, dtype=float))


def _colours(figure: SurfaceFigure) -> dict[str, Any]:
    from matplotlib.colors import LinearSegmentedColormap

    low, high = diverging_span(figure)
    return {"cmap": LinearSegmentedColormap.from_list("", colour_scale(figure)), "vmin": low, "vmax": high}


def _overlays(figure: SurfaceFigure) -> list[tuple[str, dict[str, Any]]]:
    """Return the lines on the map with their looks, by their names in the legend."""
    boundary = {"color": "black", "linewidth": 1.8}
    if figure.relief:
        return [("decision boundary", boundary)] if figure.boundary == figure.values else []
    spot = {"marker": "o", "color": "white", "markeredgecolor": "black", "markersize": 6, "linestyle": "none"}
    lines: list[tuple[str, dict[str, Any]]] = [("decision boundary", boundary)] if figure.boundary else []
    lines.append((figure.origin_label, spot))
    if figure.ball:
        lines.append((figure.ball_label, {"color": "black", "linewidth": 1.1, "linestyle": (0, (4, 2))}))
    if figure.path:
        look = {"color": "#d55e00", "linewidth": 1.3, "marker": "o", "markersize": 3, "markeredgecolor": "white"}
        lines.append((figure.path_label, look | {"markeredgewidth": 0.4}))
    if figure.crossings:
        look = {"color": "white", "marker": "^", "markersize": 6, "markeredgecolor": "black", "linestyle": "none"}
        lines.append((CROSSINGS, look))
    return lines


def _draw_contours(axes: "Axes", figure: SurfaceFigure) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    levels = MaxNLocator(_LEVELS).tick_values(*diverging_span(figure))
    values = _grid(figure.values)
    axes.contourf(figure.x, figure.y, values, levels, **_colours(figure)).set_rasterized(True)
    axes.contour(figure.x, figure.y, values, levels, colors="black", linewidths=0.3, alpha=0.4)
    if figure.boundary:
        axes.contour(figure.x, figure.y, _grid(figure.boundary), [0.0], colors="black", linewidths=1.8)
    drawn = {figure.ball_label: figure.ball, figure.path_label: figure.path, CROSSINGS: figure.crossings}
    drawn[figure.origin_label] = ((0.0, 0.0),)
    handles = []
    for name, look in _overlays(figure):
        if points := drawn.get(name):
            axes.plot(*zip(*points, strict=True), **look)
        handles.append(Line2D([], [], **look))
    axes.set_xlim(figure.x[0], figure.x[-1])
    axes.set_ylim(figure.y[0], figure.y[-1])
    axes.set_aspect("equal")
    axes.grid(False)
    return handles


def _draw_relief(axes: Any, figure: SurfaceFigure) -> list[Any]:
    import numpy as np
    from matplotlib.lines import Line2D

    x, y = np.meshgrid(figure.x, figure.y)
    low, high = diverging_span(figure)
    values = _grid(figure.values)
    axes.plot_surface(
        x, y, values.filled(np.nan), rcount=60, ccount=60, linewidth=0, rasterized=True, **_colours(figure)
    )
    if figure.boundary == figure.values:
        axes.contour(x, y, values, [0.0], colors="black", linewidths=1.5)
    axes.set_zlim(min(low, float(values.min())), max(high, float(values.max())))
    axes.view_init(28, -60)
    axes.set_box_aspect(None, zoom=0.8)
    axes.tick_params(labelsize=7, pad=0)
    axes.locator_params(nbins=4)
    return [Line2D([], [], **look) for _, look in _overlays(figure)]


def _draw_pictures(canvas: "Canvas", place: "SubplotSpec", figure: PictureFigure, width: float) -> None:
    """Draw the grid with a title of its own, which a subfigure has; captions wrap below their pictures."""
    from matplotlib.image import imread

    part = canvas.add_subfigure(place)
    if figure.title:
        part.suptitle(figure.title, x=0.01, ha="left", fontsize=10, parse_math=False)
    grid = part.add_gridspec(max(1, len(figure.rows)), max(1, len(figure.columns)))
    words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "parse_math": False}
    for i, (label, tiles) in enumerate(figure.rows):
        for j, tile in enumerate(tiles):
            axes = part.add_subplot(grid[i, j])
            axes.set_axis_off()
            if i == 0:
                axes.set_title(figure.columns[j], fontsize=8, loc="center", parse_math=False, pad=4)
            if j == 0:
                axes.text(-0.08, 0.5, textwrap.fill(label, 18), transform=axes.transAxes, **words | {"ha": "right"})
            if tile is None:
                continue
            if tile.picture:
                image = imread(BytesIO(png(tile.picture, signed=tile.signed)), format="png")
                axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            else:
                axes.text(0.5, 0.5, "none", transform=axes.transAxes, **words)
            below = words | {"va": "top", "fontsize": 7}
            axes.text(0.5, -0.04, "\n".join(_caption(figure, tile, width)), transform=axes.transAxes, **below)


def _tile_width(figure: PictureFigure, width: float) -> float:
    return (width - _ROW_LABEL) / max(1, len(figure.columns))


def _caption(figure: PictureFigure, tile: Tile, width: float) -> list[str]:
    return textwrap.wrap(tile.caption, max(8, int(17 * _tile_width(figure, width))))
