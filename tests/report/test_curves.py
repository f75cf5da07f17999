from pathlib import Path

import pytest
from report_factory import make_history, make_record, make_records, make_training

from meseta.evaluation.record import Record
from meseta.report.curves import history_figures
from meseta.report.figure import LineFigure, PanelFigure, leaves
from meseta.report.figures import all_figures
from meseta.report.interactive import to_plotly
from meseta.report.printed import save

ATTACKED = "watch/val/accuracy PGD-20 CrossEntropy Linf 0.1"


def trained(name: str, seed: int = 0, **more: list[float | None]) -> Record:
    return make_record(name, seed, training=make_training(history=make_history(seed=seed, **more)))


def test_accuracies_losses_and_other_terms_are_three_figures_with_a_panel_for_each_quantity() -> None:
    watched = {
        ATTACKED: [None, 0.25] * 10,
        "watch/val/accuracy": [0.5] * 20,
        "train/soar": [10.0**-i for i in range(20)],
    }
    figures = history_figures([trained("erm"), trained("soar", 1, **watched)])
    keys = ["history-accuracy", "history-losses", "history-terms-of-the-objectives"]
    assert [figure.key for figure in figures] == keys
    panels = {one.title: one for one in leaves(figures) if isinstance(one, LineFigure)}
    assert list(panels) == [
        "Validation, clean accuracy",
        "Validation, under attack, L∞ 0.1",
        "Training steps, whole objective",
        "Training steps, cross-entropy",
        "Validation, cross-entropy",
        "Training steps, soar",
    ]
    clean = panels["Validation, clean accuracy"]
    assert clean.percent
    assert [one.name for one in clean.series] == ["erm", "soar"]
    assert clean.series[1].y == pytest.approx([100 * v for v in make_history(seed=1)["val/accuracy"] if v is not None])
    attacked = panels["Validation, under attack, L∞ 0.1"].series
    assert [(one.name, one.style) for one in attacked] == [("soar", 1)]  # in the colour it has elsewhere
    assert attacked[0].x == tuple(range(2, 21, 2))
    assert attacked[0].y == (25.0,) * 10
    assert panels["Training steps, soar"].log_y
    assert not panels["Training steps, whole objective"].log_y
    assert len({one.key for one in leaves(figures)}) == 6


def test_of_several_attacks_the_worst_case_is_drawn_and_a_note_names_them() -> None:
    names = {"PGD-5 Decision": 0.4, "FGSM": 0.6, "worst case": 0.3}
    several = {f"watch/test/accuracy {name} L2 0.5": [share] * 2 for name, share in names.items()}
    records = [
        make_record("one", training=make_training(history={"watch/test/accuracy FGSM L2 0.5": [0.5, 0.7]})),
        make_record("several", training=make_training(history=several)),
    ]
    (figure,) = history_figures(records)
    assert isinstance(figure, LineFigure)
    assert [one.y for one in figure.series] == [(50, 70), (30, 30)]
    assert figure.notes == ("Attacks while training: FGSM; FGSM, PGD-5 Decision. Of several, their worst case.",)


@pytest.mark.parametrize(("epochs", "ticks"), [(1, [1]), (8, [*range(1, 9)]), (25, [5, 10, 15, 20, 25]), (200, None)])
def test_ticks_are_whole_epochs(epochs: int, ticks: list[int] | None) -> None:
    record = make_record("a", training=make_training(history={"val/accuracy": [0.5] * epochs}))
    (figure,) = history_figures([record])
    assert isinstance(figure, LineFigure)
    assert list(figure.ticks) == (ticks or [50, 100, 150, 200])


def test_runs_without_a_history_have_no_curves_and_epochs_without_a_value_no_point() -> None:
    assert history_figures(make_records(2)) == []
    lost: list[float | None] = [None, 0.5, None]
    record = make_record("a", training=make_training(history={"val/accuracy": lost, "val/gone": [None] * 3}))
    (figure,) = history_figures([record])
    assert isinstance(figure, LineFigure)
    assert (figure.series[0].x, figure.series[0].y) == ((2.0,), (50.0,))


def test_the_report_draws_the_history_in_both_renderings(tmp_path: Path) -> None:
    records = [trained(f"<{i}>", i) for i in range(2)]
    figures = [figure for figure in all_figures(records) if figure.key.startswith("history")]
    assert [type(figure) for figure in figures] == [LineFigure, PanelFigure]
    assert all(file.stat().st_size for figure in figures for file in save(figure, tmp_path))
    for panel in leaves(figures):
        assert isinstance(panel, LineFigure)
        drawing = to_plotly(panel)
        assert [trace["name"] for trace in drawing["data"]] == ["&lt;0&gt;", "&lt;1&gt;"]  # no bands, no whiskers
        assert all("error_y" not in trace and "text" not in trace for trace in drawing["data"])
        assert "epoch %{x" in drawing["data"][0]["hovertemplate"]
