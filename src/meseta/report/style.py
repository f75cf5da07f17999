"""The looks of runs, attacks and distances, common to pages and print; colour-blind safe."""

from dataclasses import dataclass

from meseta.report.figure import Cloud, LineFigure, SurfaceFigure

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
# ColorBrewer's RdBu and YlOrBr, which colour-blind readers tell apart, light where there is nothing to see
DIVERGING: list[_RGB] = [
    *((103, 0, 31), (178, 24, 43), (214, 96, 77), (244, 165, 130), (253, 219, 199), (247, 247, 247)),
    *((209, 229, 240), (146, 197, 222), (67, 147, 195), (33, 102, 172), (5, 48, 97)),
]
SEQUENTIAL: list[_RGB] = [
    *((255, 255, 229), (255, 247, 188), (254, 227, 145), (254, 196, 79), (254, 153, 41)),
    *((236, 112, 20), (204, 76, 2), (153, 52, 4), (102, 37, 6)),
]
CROSSINGS = "first change of the decision along an axis"
FILLED_SAMPLES = 4
"""With more distributions than this, fills hide one another, and only outlines are drawn."""


@dataclass(frozen=True)
class Style:
    """A run's look in every figure; colours, dashes and markers differ in number so that pairs rarely repeat."""

    rgb: _RGB
    dash: tuple[int, ...]
    """Lengths of strokes and gaps in pixels; empty for a solid line."""
    symbol: str
    marker: str
    glyph: str
    """The marker in text."""

    @property
    def colour(self) -> str:
        """The colour as CSS and matplotlib read it."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


def style(index: int) -> Style:
    """Return the look of the run with this index."""
    number = index % len(_MARKERS)
    return Style(_COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)], *_MARKERS[number], _GLYPHS[number])


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


def has_bands(figure: LineFigure) -> bool:
    """Return whether the lines have bands: where there are intervals, and they would not hide one another."""
    return figure.band and len(figure.series) <= FILLED_SAMPLES and has_intervals(figure)


def has_intervals(figure: LineFigure) -> bool:
    """Return whether any line has an interval about it, or all are exact."""
    return bool(figure.interval) and any(one.low != one.y or one.high != one.y for one in figure.series)


def colour_scale(figure: SurfaceFigure) -> list[str]:
    """Return the colours from the lowest value to the highest, as CSS and matplotlib read them."""
    return ["#{:02x}{:02x}{:02x}".format(*rgb) for rgb in (DIVERGING if figure.diverging else SEQUENTIAL)]


def diverging_span(figure: SurfaceFigure) -> tuple[float, float]:
    """Return the ends of the colours: as far on either side of zero where that is their middle."""
    low, high = figure.span
    if figure.diverging:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    return (low, high) if low < high else (low - 0.5, high + 0.5)
