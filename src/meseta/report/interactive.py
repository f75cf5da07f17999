"""Figures as plotly's JSON, for pages."""

import html
import math
from collections.abc import Sequence
from typing import Any

from meseta.report.figure import (
    Cloud,
    CloudFigure,
    HistogramFigure,
    LineFigure,
    PointFigure,
    Points,
    Sample,
    Series,
    SurfaceFigure,
    bin_edges,
    bin_shares,
)
from meseta.report.placing import Name, placed, spans
from meseta.report.style import (
    CROSSINGS,
    FILLED_SAMPLES,
    Style,
    cloud_style,
    colour_scale,
    diverging_span,
    has_bands,
    has_intervals,
    style,
)

Drawn = LineFigure | PointFigure | CloudFigure | HistogramFigure | SurfaceFigure
"""What plotly draws; pictures are images of the page, and panels are drawn one by one."""
NEAR_ZERO = 1 / 3
"""An axis starts at 0 where the smallest value is below this share of the largest: elsewhere it would hide the rest."""


def to_plotly(figure: Drawn) -> dict[str, Any]:
    """Return the figure as plotly's JSON: transparent, without title and legend, which the page sets itself."""
    axis: dict[str, Any]
    y_axis: dict[str, Any]
    if isinstance(figure, LineFigure):
        bands = [_band_trace(series) for series in figure.series] if has_bands(figure) else []
        traces = bands + [_line_trace(series, figure) for series in figure.series]
        axis = (
            _log_axis(extent) if (extent := _extent(figure)) and figure.log_x else {"rangemode": "tozero"}
        ) | _tick_array(figure)
        y_axis = {"range": [0, 101]} if figure.percent else _value_axis(figure)
    elif isinstance(figure, PointFigure):
        traces = [_point_trace(group, figure) for group in figure.groups]
        x_span, y_span = spans(figure)
        ends = [math.log10(x) for x in x_span] if figure.log_x else list(x_span)
        axis = {"type": "log" if figure.log_x else "linear", "range": ends} | _tick_array(figure)
        y_axis = {"range": list(y_span)}
    elif isinstance(figure, CloudFigure):
        traces = [_cloud_trace(cloud) for cloud in reversed(figure.clouds)]
        axis = {"range": [-1, 101]}
        y_axis = _value_axis(figure) | _common_range(figure)
    elif isinstance(figure, SurfaceFigure):
        traces = _surface_traces(figure)
        axis = {"range": [figure.x[0], figure.x[-1]], "constrain": "domain", "showgrid": False}
        square = {"scaleanchor": "x", "constrain": "domain", "showgrid": False}
        y_axis = {"range": [figure.y[0], figure.y[-1]]} | square
    else:
        edges = bin_edges(figure)
        filled = len(figure.samples) <= FILLED_SAMPLES
        traces = [_step_trace(sample, edges, filled) for sample in figure.samples]
        axis = _log_axis(edges) if figure.log_x else {}
        y_axis = {"rangemode": "tozero"}
    titles = {"title": {"text": html.escape(figure.x_label, quote=False)}}, {"title": {"text": figure.y_label}}
    titles[1]["title"]["text"] = html.escape(figure.y_label, quote=False)
    common = {"automargin": True, "zeroline": False, "showline": True, "exponentformat": "power"}
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
    if isinstance(figure, PointFigure):
        layout["annotations"] = [_annotation(name, figure) for name in placed(figure)]
    return {"data": traces, "layout": layout}


def _value_axis(figure: LineFigure | CloudFigure) -> dict[str, Any]:
    """Label an axis of values: powers of ten where it is logarithmic, from 0 on where 0 is near all of them."""
    if isinstance(figure, CloudFigure):
        values = [y for cloud in figure.clouds for y in cloud.y]
    else:
        values = [y for series in figure.series for y in (*series.low, *series.high)]
    if figure.log_y and values:
        return _log_axis((min(values), max(values)))
    return {"rangemode": "tozero"} if values and 0 <= min(values) < NEAR_ZERO * max(values) else {}


def _common_range(figure: CloudFigure) -> dict[str, Any]:
    if figure.span is None:
        return {}
    low, high = figure.span
    return {"range": [math.log10(low / 1.1), math.log10(high * 1.1)] if figure.log_y else [0, high * 1.05]}


def _extent(figure: LineFigure) -> tuple[float, float] | None:
    places = [x for series in figure.series for x in series.x]
    return (min(places), max(places)) if places else None


def _surface_traces(figure: SurfaceFigure) -> list[dict[str, Any]]:
    """Return the map first, which the page also shows as a relief, and the lines on it."""
    low, high = diverging_span(figure)
    colours = colour_scale(figure)
    axes = {"x": figure.x, "y": figure.y}
    values = {
        "type": "contour",
        "name": html.escape(figure.value_label, quote=False),
        "meta": {"run": -1, "span": figure.span},
        **axes,
        "z": figure.values,
        "zmin": low,
        "zmax": high,
        "colorscale": [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)],
        "autocontour": False,
        "contours": {"start": low, "end": high, "size": (high - low) / 20},
        "line": {"width": 0.4, "color": "rgba(0,0,0,0.4)"},
        "colorbar": {"thickness": 12, "title": {"text": html.escape(figure.value_label, quote=False), "side": "right"}},
        "hovertemplate": "%{x:.3g}, %{y:.3g}: %{z:.4g}<extra></extra>",
    }
    traces: list[dict[str, Any]] = [values]
    if figure.boundary:
        boundary = {
            "type": "contour",
            "meta": {"run": -1} | ({"z_of": 0} if figure.boundary == figure.values else {}),
            **axes,
            "autocontour": False,
            "contours": {"start": 0, "end": 0, "size": 1, "coloring": "lines"},
            "colorscale": [[0, "#000000"], [1, "#000000"]],
            "line": {"width": 3},
            "showscale": False,
            "hoverinfo": "skip",
        }
        traces.append(boundary if figure.boundary == figure.values else boundary | {"z": figure.boundary})
    lines = {"line": {"color": "#000000", "width": 1.5, "dash": "6px,3px"}}
    path = {"line": {"color": "#d55e00", "width": 2}, "marker": {"color": "#d55e00", "size": 5}}
    outlined = {"color": "#ffffff", "line": {"color": "#000000", "width": 1.5}}
    overlays: list[tuple[Sequence[tuple[float, float]], str, str, dict[str, Any]]] = [
        (figure.ball, figure.ball_label, "lines", lines),
        (figure.path, figure.path_label, "lines+markers", path),
        (figure.crossings, CROSSINGS, "markers", {"marker": outlined | {"size": 9, "symbol": "triangle-up"}}),
        ([(0.0, 0.0)], figure.origin_label, "markers", {"marker": outlined | {"size": 9, "symbol": "circle"}}),
    ]
    return traces + [_overlay(*overlay) for overlay in overlays if overlay[0]]


def _overlay(points: Sequence[tuple[float, float]], name: str, mode: str, look: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": mode,
        "name": html.escape(name, quote=False),
        "meta": {"run": -1},
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "hovertemplate": "%{fullData.name}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
    } | look


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


def _tick_array(figure: LineFigure | PointFigure) -> dict[str, Any]:
    return {"tickvals": list(figure.ticks), "ticktext": list(figure.ticks.values())} if figure.ticks else {}


def _log_axis(edges: Sequence[float]) -> dict[str, Any]:
    """Label whole powers of ten only, at most about six of them."""
    decades = math.log10(edges[-1]) - math.log10(edges[0])
    return {"type": "log", "dtick": max(1, round(decades / 6))}


def _point_trace(group: Points, figure: PointFigure) -> dict[str, Any]:
    look = style(group.style)
    names = [html.escape(label, quote=False) for label in group.labels]
    intervals = [f"{low:.3g}–{high:.3g}" for low, high in zip(group.low, group.high, strict=True)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": html.escape(group.name, quote=False),
        "meta": {"run": -1},
        "x": group.x,
        "y": group.y,
        "text": [f"{name} ({figure.interval}: {span})" for name, span in zip(names, intervals, strict=True)],
        "marker": {"symbol": look.symbol, "size": 9, "color": look.colour},
        "error_y": _whiskers(group, look),
        "hovertemplate": "%{text}<br>%{x:.3g}: %{y:.3g}<extra></extra>",
    }


def _annotation(name: Name, figure: PointFigure) -> dict[str, Any]:
    """Return a name beside its point, with a thin line where it stands higher or lower."""
    x, text_x = (math.log10(value) if figure.log_x else value for value in (name.x, name.text_x))
    lead = {"x": x, "y": name.y, "axref": "x", "ayref": "y", "ax": text_x, "ay": name.text_y, "showarrow": True}
    beside = {"x": text_x, "y": name.y, "showarrow": False}
    return {
        "text": html.escape(name.text, quote=False),
        "xanchor": "right" if name.left else "left",
        "yanchor": "middle",
        "font": {"size": 11},
        "arrowhead": 0,
        "arrowwidth": 0.6,
        "arrowcolor": "#999999",
        **(lead if name.moved else beside),
    }


def _whiskers(series: Series | Points, look: Style) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [h - y for h, y in zip(series.high, series.y, strict=True)],
        "arrayminus": [y - low for low, y in zip(series.low, series.y, strict=True)],
        "color": look.colour,
        "thickness": 1,
        "width": 3,
    }


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
    y = "%{y:.1f} %" if figure.percent else "%{y:.3g}"
    interval = f" ({figure.interval}: %{{text}})" if has_intervals(figure) else ""
    hover = f"%{{fullData.name}}<br>{html.escape(figure.x_name)} %{{x:.3g}}: {y}{interval}<extra></extra>"
    places = ".1f" if figure.percent else ".3g"
    text = [f"{low:{places}}–{high:{places}}" for low, high in zip(series.low, series.high, strict=True)]
    trace |= {"hovertemplate": hover} | ({"text": text} if has_intervals(figure) else {})
    if figure.band:
        return trace | {"mode": "lines" if len(series.x) > 1 else "markers"}
    return trace | {
        "mode": "lines+markers",
        "marker": {"symbol": look.symbol, "size": 8, "color": look.colour},
        **({"error_y": _whiskers(series, look)} if has_intervals(figure) else {}),
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
