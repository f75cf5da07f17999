"""Names of points: each once, on the axes, none over another."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meseta.report.figure import PointFigure, Points
from meseta.report.interactive import to_plotly
from meseta.report.placing import placed, spans
from meseta.report.printed import save


def figure(points: list[tuple[float, float]], *, log_x: bool = True) -> PointFigure:
    xs, ys = zip(*points, strict=True)
    labels = tuple(f"method-{k}" for k in range(len(points)))
    low, high = tuple(y - 3 for y in ys), tuple(y + 3 for y in ys)
    return PointFigure("points", "title", "x", "y", (Points("all", 0, labels, xs, ys, low, high),), log_x=log_x)


def share(value: float, ends: tuple[float, float]) -> float:
    return (value - ends[0]) / (ends[1] - ends[0])


@given(st.lists(st.tuples(st.floats(1, 20), st.floats(0, 100)), min_size=1, max_size=20), st.booleans())
def test_names_are_on_the_axes_and_each_there_once(points: list[tuple[float, float]], log_x: bool):
    drawn = figure(points, log_x=log_x)
    (left, right), (low, high) = spans(drawn)
    names = placed(drawn)
    assert sorted(name.text for name in names) == sorted(drawn.groups[0].labels)
    for name in names:
        assert left <= name.text_x <= right
        assert low <= name.text_y <= high
        assert (name.x, name.y) in points


def test_the_names_of_equal_points_stand_apart():
    drawn = figure([(2.0, 50.0)] * 8 + [(1.0, 10.0), (8.0, 90.0)])
    _, y_ends = spans(drawn)
    beside = {left: [n for n in placed(drawn) if n.x == 2.0 and n.left is left] for left in (True, False)}
    for names in beside.values():
        heights = sorted(share(name.text_y, y_ends) for name in names)
        assert all(b - a > 0.04 for a, b in pairwise(heights))
    assert not all(name.moved for names in beside.values() for name in names)


def test_a_name_alone_stands_beside_its_point():
    (name,) = placed(figure([(2.0, 50.0)]))
    assert (name.left, name.moved) == (False, False)


def test_page_and_print_show_every_point(tmp_path):
    drawn = figure([(1.0, 10.0), (2.0, 50.0), (2.05, 51.0)])
    plot = to_plotly(drawn)
    assert [trace["mode"] for trace in plot["data"]] == ["markers"]
    assert [one["text"] for one in plot["layout"]["annotations"]] == ["method-0", "method-1", "method-2"]
    assert all(file.stat().st_size > 1000 for file in save(drawn, tmp_path))
