"""Figures over the epochs of training: SOAR 2 and 3, HAAT 1 and 3."""

import shlex
from pathlib import Path

import pytest
from report_factory import make_evaluation, make_history, make_masking, make_record, make_training

from meseta.configuration import parse, parser, plain
from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.objectives import Erm, Objective, Soar
from meseta.papers import Haat1, Haat4, Soar2, Soar3
from meseta.report.curves import history_figures
from meseta.report.figure import LineFigure, PanelFigure, leaves
from meseta.report.printed import save
from meseta.report.verdict import UPPER_BOUND
from meseta.training import RunConfig

PGD = "PGD-20 CrossEntropy Linf 0.03137"


def watched(name: str, objective: Objective = Erm(), **seen: list[float | None]) -> Record:
    history = make_history(4) | {f"watch/{what}": values for what, values in seen.items()}
    return make_record(name, training=make_training(history=history), config=plain(RunConfig(objective=objective)))


def rising(start: float) -> list[float | None]:
    return [start, None, start + 0.1, start + 0.2]


def soar(weight: float) -> Record:
    seen = {"test/accuracy": rising(0.7), f"test/accuracy {PGD}": rising(weight)}
    return watched(f"soar-{weight}", Soar(weight=weight), **seen)


def the_watch_in(error: str) -> RunConfig:
    """Parse the command that an error gives."""
    words = shlex.split(error.split("for example: ")[1])
    assert words[:3] == ["meseta", "train", "--config"]
    return parse(parser(RunConfig), RunConfig, words[6:])[0]


def test_soar_2_has_a_line_for_each_number_of_directions() -> None:
    seen = {"train/soar directions=1": rising(1.0), "train/soar directions=100": rising(2.0)}
    drawn = Soar2().draw([watched("a", **seen)])
    assert isinstance(drawn, LineFigure)
    assert (drawn.key, [one.name for one in drawn.series]) == ("soar-2", ["1 direction", "100 directions"])
    assert (drawn.series[1].x, drawn.series[1].y) == ((1, 3, 4), pytest.approx((2.0, 2.1, 2.2)))
    assert len(leaves([Soar2().draw([watched(name, **seen) for name in "abc"])])) == 3
    with pytest.raises(UserError, match="has no history of what is drawn") as error:
        Soar2(split="val").draw([watched("a", **seen)])
    watch = the_watch_in(str(error.value)).watch
    assert watch is not None
    assert (watch.splits, watch.attacks) == (("val",), ())
    assert [(one.directions, one.value_clip) for one in watch.objectives] == [(1, None), (100, None)]


def test_soar_3_has_clean_and_attacked_accuracy_with_a_line_for_each_weight(tmp_path: Path) -> None:
    drawn = Soar3().draw([soar(weight) for weight in (0.0, 0.1, 0.5)])
    clean, robust = leaves([drawn])
    assert [one.name for one in clean.series] == [one.name for one in robust.series] == ["λ = 0", "λ = 0.1", "λ = 0.5"]
    assert robust.series[2].y == pytest.approx((50, 60, 70))
    assert clean.series[0].y == pytest.approx((70, 80, 90))
    assert robust.title == "Test, PGD-20 CrossEntropy, L∞ 0.03137"
    assert all(file.stat().st_size for file in save(drawn, tmp_path))
    masked = soar(0.5).model_copy(update={"evaluation": make_evaluation(masking=make_masking(BlackBox="broken"))})
    notes = (f"soar-0.5: {UPPER_BOUND}",)
    assert [figure.draw([masked, soar(0.1)]).notes for figure in (Soar3(), Haat1(), Haat4())] == [notes] * 3
    assert [figure.notes[1:] for figure in history_figures([masked]) if figure.key == "history-accuracy"] == [notes]
    with pytest.raises(UserError, match=r"`?record`?: soar has no history") as error:
        Soar3().draw([soar(0.5), watched("soar")])
    watch = the_watch_in(str(error.value)).watch
    assert watch is not None
    assert [one.name for one in watch.attacks] == ["PGD-20 CrossEntropy"]


def test_runs_that_were_watched_with_other_attacks_are_not_compared() -> None:
    other = watched("b", **{"test/accuracy": rising(0.7), "test/accuracy PGD-20 CrossEntropy Linf 0.1": rising(0.2)})
    with pytest.raises(UserError, match="watched with different settings"):
        Soar3().draw([soar(0.5), other])


def test_haat_1_has_clean_and_attacked_panels_for_each_run_and_haat_3_a_panel_for_each_accuracy() -> None:
    seen = {
        f"{split}/{name}": rising(0.4)
        for split in ("train", "val", "test")
        for name in ("accuracy", f"accuracy {PGD}", "accuracy worst case Linf 0.03137")
    }
    records = [watched(name, **seen) for name in ("haat", "pgd")]
    first = Haat1().draw(records)
    assert isinstance(first, PanelFigure)
    (clean, robust), _ = first.rows
    assert [one.name.split(",")[0] for one in clean.series] == ["training", "validation", "test"]
    assert [one.name.split(",")[1] for one in robust.series] == [" PGD-20 CrossEntropy"] * 3
    assert clean.series[1].x == (1, 2, 3, 4)  # all of the validation split, after every epoch
    assert len({one.style for panel in (clean, robust) for one in panel.series}) == 6

    third = Haat4().draw(records)
    assert [len(one.series) for one in leaves([third])] == [2] * 6
    assert [one.title.split(",")[0] for one in leaves([third])] == ["Training", "Validation", "Test"] * 2
    for figure in (Haat1(), Haat4()):
        with pytest.raises(UserError, match="has no history of what is drawn") as error:
            figure.draw([watched("plain"), watched("other")])
        watch = the_watch_in(str(error.value)).watch
        assert watch is not None
        assert (watch.every, watch.splits) == (20, ("train", "val", "test"))
        assert [type(one).__name__ for one in watch.attacks] == ["PGD", "AutoAttack"]
    with pytest.raises(UserError, match="2 runs or more"):
        Haat4().check_runs(1)
