"""What the pages share: their templates, the data of their plots, and the keys of their figures."""

import json
import math
import re
import struct
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from meseta.errors import MissingExtra, printable
from meseta.report.comparison import MISSING, NORMS, Run, eps_text, percent, significant
from meseta.report.figure import (
    CloudFigure,
    Figure,
    HistogramFigure,
    LineFigure,
    PanelFigure,
    PictureFigure,
    PointFigure,
    SurfaceFigure,
    leaves,
)
from meseta.report.interactive import to_plotly
from meseta.report.pictures import data_url
from meseta.report.sandwich import KINDS, KINDS_EXPLAINED
from meseta.report.style import CROSSINGS, cloud_style, style
from meseta.report.verdict import is_broken, is_doubted, labelled, verdict
from meseta.version import __version__

if TYPE_CHECKING:
    from markupsafe import Markup

DIGITS = 6
"""Of the numbers that plots are drawn from."""
FLOAT32 = 3.4e38
"""The largest value of a map; what lies beyond is shown as missing, as what is not finite."""
MANY_COLUMNS = 4
"""Pictures side by side from which a figure takes the whole width."""


def fill(template: str, figures: Sequence[Figure], **content: Any) -> str:
    """Return the page that a template makes of its content, with all its figures; it loads nothing.

    Raises:
        MissingExtra: jinja2 is not installed, or plotly or pillow where a figure needs it.
    """
    plots = {key: one for figure in figures for key, one in _plots(figure)}
    page: str = (
        _environment()
        .get_template(template)
        .render(
            version=__version__,
            css=_text("page.css"),
            js=_text("page.js"),
            plotly_js=_plotly_js() if plots else "",
            drawings=_json({key: _packed(to_plotly(one)) for key, one in plots.items()}),
            **content,
        )
    )
    return page


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise MissingExtra("jinja2", "report") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("meseta", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {"number": number, "percent": percent, "breakable": breakable}
    environment.globals |= {
        "data_url": data_url,
        "eps_text": eps_text,
        "is_broken": is_broken,
        "is_wide": is_wide,
        "kind": lambda figure: type(figure).__name__,
        "labelled": labelled,
        "notes": notes,
        "of_runs": of_runs,
        "own_keys": own_keys,
        "panels": panels,
        "verdict": verdict,
        "KINDS": KINDS,
        "KINDS_EXPLAINED": KINDS_EXPLAINED,
        "MISSING": MISSING,
        "NORMS": NORMS,
    }
    return environment


def _text(name: str) -> str:
    return files("meseta.report").joinpath(name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtra("plotly", "report") from None
    return str(get_plotlyjs())


def number(value: float | None) -> str:
    """Write a number that may be missing."""
    return MISSING if value is None or not math.isfinite(value) else significant(value)


def breakable(text: str) -> "Markup":
    """Escape a title, and let it break before its brackets and the words of a class."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=\w)(?=\()|(?<=[a-z])(?=[A-Z])", text))


def _packed(drawing: dict[str, Any]) -> dict[str, Any]:
    """Return a plot with the grids of its maps as float32 in base64, half of what their digits take."""
    for trace in drawing["data"]:
        if "z" in trace:
            values = [math.nan if z is None or not abs(z) <= FLOAT32 else z for row in trace["z"] for z in row]
            content = b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
            trace["z"] = {"f4": content, "columns": len(trace["x"])}
    return drawing


def _json(content: Any) -> str:
    """Return JSON that no markup can leave, its numbers as exact as a plot can show."""
    text = json.dumps(_rounded(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def panels(figure: PanelFigure) -> list[list[tuple[str, Figure]]]:
    """Return the panels row by row, each with the key of its plot."""
    return [
        [(f"{figure.key}/{i}/{j}", panel) for j, panel in enumerate(row, 1)] for i, row in enumerate(figure.rows, 1)
    ]


_Plot = LineFigure | PointFigure | CloudFigure | HistogramFigure | SurfaceFigure


def _plots(figure: Figure) -> Iterable[tuple[str, _Plot]]:
    """Yield what plotly draws of a figure, with its key."""
    parts = [part for row in panels(figure) for part in row] if isinstance(figure, PanelFigure) else []
    for key, one in parts or [(figure.key, figure)]:
        if not isinstance(one, PictureFigure | PanelFigure):
            yield key, one


def notes(figure: Figure) -> list[str]:
    """Return the notes of a figure and of its panels, each once."""
    return list(dict.fromkeys([*figure.notes, *(note for one in leaves([figure]) for note in one.notes)]))


def is_wide(figure: Figure) -> bool:
    """Return whether a figure takes the whole width of a page."""
    if isinstance(figure, PictureFigure):
        return len(figure.columns) >= MANY_COLUMNS
    return isinstance(figure, PanelFigure | PointFigure)


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a line, or where there is one a glyph."""

    name: str
    colour: str
    dash: tuple[int, ...] = ()
    glyph: str = ""
    on_map: bool = False
    """Whether it lies on a map, whose colours are those of the page on no account."""
    run: int = -1
    """The index of the run that it hides and shows."""
    title: str = ""
    doubt: str = ""
    """The verdict, where it is broken or suspicious."""


def run_keys(runs: Sequence[Run]) -> list[Key]:
    """Return the legend of the runs, common to the figures of a page."""
    return [_run_key(run.short, run.style, title=run.label, doubt=_doubt(run)) for run in runs]


def _doubt(run: Run) -> str:
    return verdict(run.record) or "" if is_doubted(run) else ""


def _run_key(name: str, index: int, **more: Any) -> Key:
    look = style(index)
    return Key(name, look.colour, look.dash, run=index, **more)


def keys_of_runs(figure: Figure) -> list[Key]:
    """Return the legend of the runs in one figure."""
    named = {name: index for one in leaves([figure]) for name, index in _runs(one)}
    return [_run_key(name, index, title=name) for name, index in named.items()]


def of_runs(figures: Sequence[Figure]) -> bool:
    """Return whether any line of the figures is a run."""
    return any(_runs(one) for one in leaves(figures))


def _runs(figure: Figure) -> list[tuple[str, int]]:
    if isinstance(figure, LineFigure) and not figure.of_attacks:
        return [(series.name, series.style) for series in figure.series]
    if isinstance(figure, HistogramFigure):
        return [(sample.name, sample.style) for sample in figure.samples]
    return []


def own_keys(figure: Figure) -> list[Key]:
    """Return the legend of what is no run: attacks, kinds of distance, lines on a map; each name once."""
    return list({key.name: key for one in leaves([figure]) for key in _own(one)}.values())


def _own(figure: Figure) -> list[Key]:
    if isinstance(figure, LineFigure) and figure.of_attacks:
        looks = [(one.name, style(one.style)) for one in figure.series]
        return [Key(name, look.colour, look.dash) for name, look in looks]
    if isinstance(figure, PointFigure):
        marked = [(one.name, style(one.style)) for one in figure.groups]
        return [Key(name, look.colour, glyph=look.glyph) for name, look in marked]
    if isinstance(figure, CloudFigure):
        kinds = [(cloud.name, cloud_style(cloud)) for cloud in figure.clouds]
        return [Key(name, look.colour, glyph=look.glyph) for name, look in kinds]
    if isinstance(figure, SurfaceFigure):
        lines = [
            (figure.boundary, Key("decision boundary", "#000000", on_map=True)),
            (figure.ball, Key(figure.ball_label, "#000000", (6, 3), on_map=True)),
            (figure.path, Key(figure.path_label, "#d55e00", on_map=True)),
            (figure.crossings, Key(CROSSINGS, "#000000", glyph="△", on_map=True)),
            (figure.origin_label, Key(figure.origin_label, "#000000", glyph="○", on_map=True)),
        ]
        return [key for drawn, key in lines if drawn]
    return []
