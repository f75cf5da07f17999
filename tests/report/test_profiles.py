import pytest
from report_factory import make_profile, make_record

from meseta.evaluation.record import Profile
from meseta.report.figure import LineFigure, PanelFigure, Series
from meseta.report.interactive import to_plotly
from meseta.report.page import render
from meseta.report.printed import save
from meseta.report.profiles import profile_figures


def nowhere_finite() -> Profile:
    profile = make_profile()
    return profile.model_copy(update={"curves": {name: [None] * len(profile.x) for name in profile.curves}})


def test_a_profile_that_is_finite_nowhere_is_no_figure_and_is_announced() -> None:
    record = make_record(profiles=[nowhere_finite()])
    assert profile_figures([record]) == []
    assert "erm: Expansion at test example 7 is finite nowhere." in render([record])


def test_a_run_without_finite_values_keeps_its_note_beside_the_others() -> None:
    records = [make_record(name, profiles=[make_profile()]) for name in ("a", "b")]
    (figure,) = profile_figures([*records, make_record("lost", profiles=[nowhere_finite()])])
    assert isinstance(figure, PanelFigure)
    assert [panel.title[0] for panel in figure.rows[0]] == ["a", "b"]
    assert "lost: loss is not finite at 61 of 61 points." in figure.notes
    (alone,) = profile_figures([records[0], make_record("lost", profiles=[nowhere_finite()])])
    assert isinstance(alone, LineFigure)
    assert "lost: loss is not finite at 61 of 61 points." in alone.notes


def test_many_runs_stand_in_rows_of_three() -> None:
    (figure,) = profile_figures([make_record(str(i), profiles=[make_profile()]) for i in range(7)])
    assert isinstance(figure, PanelFigure)
    assert [len(row) for row in figure.rows] == [3, 3, 1]


def lines(*values: float) -> LineFigure:
    series = (Series("a", 0, tuple(map(float, range(len(values)))), values, values, values),) if values else ()
    return LineFigure("k", "title", "x", "y", series, band=True, percent=False)


@pytest.mark.parametrize(
    ("values", "from_zero"), [((2.30, 2.32), False), ((0.1, 2.0), True), ((0.0, 1.0), True), ((-1.0, 1.0), False)]
)
def test_an_axis_starts_at_zero_only_where_zero_is_near(values: tuple[float, ...], from_zero: bool) -> None:
    axis = to_plotly(lines(*values))["layout"]["yaxis"]
    assert (axis.get("rangemode") == "tozero") == from_zero


def test_no_axis_abbreviates_numbers_by_letters() -> None:
    layout = to_plotly(lines(0.0001, 0.0002))["layout"]
    assert [layout[axis]["exponentformat"] for axis in ("xaxis", "yaxis")] == ["power", "power"]


def test_a_panel_without_lines_is_drawn_empty(tmp_path) -> None:
    assert to_plotly(lines())["data"] == []
    assert len(save(lines(), tmp_path)) == 2
