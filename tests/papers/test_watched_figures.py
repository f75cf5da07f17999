"""Figures over the epochs of training: SOAR 2 and 3, HAAT 1 and 3."""

import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from report_factory import make_evaluation, make_history, make_masking, make_record, make_training

from meseta.attacks import FGSM, PGD
from meseta.configuration import parse, parser, plain
from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.objectives import Erm, Objective, Soar
from meseta.papers import Haat1, Haat4, Soar2, Soar3
from meseta.report.curves import history_figures
from meseta.report.figure import LineFigure, PanelFigure, leaves
from meseta.report.printed import save
from meseta.report.verdict import UPPER_BOUND
from meseta.threat import Threat
from meseta.training import RunConfig, Watch

SEEN = "PGD-20 CrossEntropy Linf 0.03137"


def watched(name: str, objective: Objective = Erm(), **seen: list[float | None]) -> Record:
    history = make_history(4) | {f"watch/{what}": values for what, values in seen.items()}
    return make_record(name, training=make_training(history=history), config=plain(RunConfig(objective=objective)))


def rising(start: float) -> list[float | None]:
    return [start, None, start + 0.1, start + 0.2]


def soar(weight: float) -> Record:
    seen = {"test/accuracy": rising(0.7), f"test/accuracy {SEEN}": rising(weight)}
    return watched(f"soar-{weight}", Soar(weight=weight), **seen)


def the_watch_in(error: str) -> RunConfig:
    """Parse the command that an error gives."""
    words = shlex.split(error[error.index("meseta train") :])
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
        Haat4().draw([soar(0.5), other])


def test_soar_3_draws_the_attack_that_it_is_asked_for_and_no_other_of_its_beginning() -> None:
    seen = {"test/accuracy": rising(0.7)}
    for steps, share in ((200, 0.1), (20, 0.3)):
        seen[f"test/accuracy PGD-{steps} CrossEntropy Linf 0.1"] = rising(share)
    record = watched("a", **seen)
    for steps, share in ((20, 30), (200, 10)):
        attack = PGD(threat=Threat("Linf", 0.1), steps=steps)
        _, robust = leaves([Soar3(attack=attack).draw([record])])
        assert robust.series[0].y[0] == pytest.approx(share)
    with pytest.raises(UserError, match="has no history") as error:
        Soar3(attack=FGSM(threat=Threat("L2", 0.5))).draw([record])
    watch = the_watch_in(str(error.value)).watch
    assert watch is not None
    assert watch.attacks == (FGSM(threat=Threat("L2", 0.5)),)


def test_the_command_that_trains_again_names_the_files_of_the_run_that_lacks_a_watch(tmp_path: Path) -> None:
    runs = [SimpleNamespace(record=watched(name), folder=tmp_path / f"a run-{name}") for name in ("erm", "erm", "pgd")]
    fine = SimpleNamespace(record=soar(0.5), folder=tmp_path / "soar")
    Soar3().take([fine], print)
    with pytest.raises(UserError) as error:
        Soar3().take([fine, runs[0]], print)
    words = shlex.split(str(error.value)[str(error.value).index("meseta train") :])
    assert words[3:6] == [str(tmp_path / "a run-erm" / "config.yaml"), "--name", "a run-erm-watched"]
    with pytest.raises(UserError, match="record: erm, pgd have no history") as error:
        Haat4().take(runs, print)
    assert all(str(run.folder) in str(error.value) for run in runs)


def test_a_regulariser_that_was_watched_with_its_value_clip_says_so() -> None:
    seen = {"train/soar directions=1": rising(1.0), "train/soar directions=100": rising(2.0)}
    clipped = Watch(splits=("train",), objectives=(Soar(), Soar(directions=100)))
    open_ = Watch(splits=("train",), objectives=(Soar(value_clip=None), Soar(value_clip=None, directions=100)))
    records = [
        watched(name, **seen).model_copy(update={"config": plain(RunConfig(watch=watch))})
        for name, watch in (("clipped", clipped), ("open", open_))
    ]
    first, second = leaves([Soar2().draw(records)])
    assert first.notes == ("clipped: watched with the value clip 10, which R does not exceed.",)
    assert second.notes == ()


def test_haat_1_has_clean_and_attacked_panels_for_each_run_and_haat_3_a_panel_for_each_accuracy() -> None:
    seen = {
        f"{split}/{name}": rising(0.4)
        for split in ("train", "val", "test")
        for name in ("accuracy", f"accuracy {SEEN}", "accuracy worst case Linf 0.03137")
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
        with pytest.raises(UserError, match="plain, other have no history of what is drawn") as error:
            figure.draw([watched("plain"), watched("other")])
        watch = the_watch_in(str(error.value)).watch
        assert watch is not None
        assert (watch.every, watch.splits) == (20, ("train", "val", "test"))
        assert [type(one).__name__ for one in watch.attacks] == ["PGD", "AutoAttack"]
    with pytest.raises(UserError, match="2 runs or more"):
        Haat4().check_runs(1)
