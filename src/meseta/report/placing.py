"""Where the names of points stand, so that none covers another."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from meseta.report.figure import PointFigure

WIDTH, HEIGHT = 0.0095, 0.042
"""Of a letter and of a line, as shares of the axes; print and pages are near enough to each other."""
GAP = 0.014
"""Between a point and its name."""


@dataclass(frozen=True)
class Name:
    """The name of a point, in the units of the axes: what it points at, and where its text begins or ends."""

    text: str
    x: float
    y: float
    text_x: float
    text_y: float
    left: bool
    """Whether the text ends at that place, left of its point."""

    @property
    def moved(self) -> bool:
        """Whether it stands higher or lower than its point, so that a line must lead there."""
        return self.text_y != self.y


def spans(figure: PointFigure) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ends of both axes, with room for the names."""
    xs = [_scaled(figure, x) for group in figure.groups for x in group.x]
    ys = [y for group in figure.groups for y in (*group.low, *group.high)]
    (left, right), (low, high) = (min(xs), max(xs)), (min(ys), max(ys))
    width, height = (right - left) or 1.0, (high - low) or 1.0
    ends = left - 0.1 * width, right + 0.25 * width
    return (_unscaled(figure, ends[0]), _unscaled(figure, ends[1])), (low - 0.04 * height, high + 0.04 * height)


def placed(figure: PointFigure) -> list[Name]:
    """Return the names: each beside its point where there is room, else as little higher or lower as there is."""
    (left, right), (low, high) = spans(figure)
    start, width = _scaled(figure, left), _scaled(figure, right) - _scaled(figure, left)
    points = [
        (text, x, y, (_scaled(figure, x) - start) / width, (y - low) / (high - low))
        for group in figure.groups
        for text, x, y in zip(group.labels, group.x, group.y, strict=True)
    ]
    taken = [(u - GAP / 2, u + GAP / 2, v) for *_, u, v in points]
    names = []
    for text, x, y, u, v in sorted(points, key=lambda point: point[-1]):
        size = WIDTH * len(text)
        free = ((s, h) for h, s in _places(u, v, size) if not _covers(h, s, size, taken))
        side, height = next(free, (u + GAP, v))
        taken.append((side, side + size, height))
        is_left = side < u
        text_x = _unscaled(figure, start + width * (side + size if is_left else side))
        names.append(Name(text, x, y, text_x, y if height == v else low + height * (high - low), is_left))
    return names


def _places(u: float, v: float, size: float) -> Iterator[tuple[float, float]]:
    """Yield heights and starts of a text, the nearest to its point first: on either side, ever higher and lower."""
    for step in range(int(1 / HEIGHT)):
        for height in dict.fromkeys((v + step * HEIGHT / 2, v - step * HEIGHT / 2)):
            if HEIGHT / 2 <= height <= 1 - HEIGHT / 2:
                yield from ((height, side) for side in (u + GAP, u - GAP - size) if 0 <= side <= 1 - size)


def _covers(height: float, side: float, size: float, taken: list[tuple[float, float, float]]) -> bool:
    return any(side < end and begin < side + size and abs(height - other) < HEIGHT for begin, end, other in taken)


def _scaled(figure: PointFigure, x: float) -> float:
    return math.log10(x) if figure.log_x else x


def _unscaled(figure: PointFigure, x: float) -> float:
    return 10**x if figure.log_x else x
