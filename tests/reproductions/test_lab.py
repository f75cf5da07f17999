"""The lab: everything is done once, interrupted trainings again, and diverged ones are missing, not robust."""

from dataclasses import replace

import pytest

from meseta.attacks import FGSM
from meseta.data import DataConfig
from meseta.errors import Diverged, UserError
from meseta.evaluation.record import read_record
from meseta.models import Mlp, Network
from meseta.objectives import InputGradient
from meseta.report.reproduced import Entry
from meseta.reproductions import Lab
from meseta.reproductions.lab import (
    accuracies,
    alike,
    best,
    exceeds,
    has_diverged,
    held_out,
    judged,
    judged_at,
    mean,
    worst_cases,
)
from meseta.threat import Threat
from meseta.training import RunConfig, Sgd

RUN = RunConfig(name="a", data=DataConfig(train_limit=128), model=Mlp(hidden=(8,)), epochs=1)
THREAT = Threat("Linf", 0.05)


@pytest.fixture
def said():
    return []


@pytest.fixture
def lab(tmp_path, said):
    return Lab(tmp_path, thorough=False, say=said.append)


def test_a_run_is_trained_attacked_and_judged_once(lab, said):
    for _ in range(2):
        (run,) = lab.train(RUN)
        lab.attack([run], [FGSM()], [THREAT], n=20)
        lab.judge([run], THREAT, n=20)
    assert [line.split(":")[1].split()[0] for line in said] == ["training", "attacking", "attacking"]
    (clean,), (left,) = accuracies([run], None), accuracies([run], FGSM(), THREAT)
    assert 0 <= left <= clean <= 100
    assert worst_cases([run], [FGSM()], THREAT) == [left]
    record = read_record(run)
    assert record.evaluation.suite == "quick"
    assert record.evaluation.masking is not None
    row = judged("a", [Entry(ours=[clean])], [run], THREAT)
    assert row.worst_case == [100 * record.evaluation.robust[0].worst_case]
    assert row.verdict == record.evaluation.masking.verdict
    assert judged_at([run], THREAT) == "L∞ 0.05, suite quick and masking checks, n = 20"


def test_an_interrupted_training_goes_on(lab, said):
    (run,) = lab.train(RUN)
    weights = (run / "model.safetensors").read_bytes()
    (run / "record.json").unlink()
    lab.train(RUN)
    assert len(said) == 3
    assert said[-1] == f"going on with {run}"
    assert (run / "model.safetensors").read_bytes() == weights


def test_a_name_stands_for_one_training(lab):
    lab.train(RUN)
    with pytest.raises(UserError, match="given twice"):
        lab.train(RUN, RUN)
    with pytest.raises(UserError, match="another configuration"):
        lab.train(replace(RUN, epochs=2))


def test_a_diverged_training_is_missing_and_is_not_tried_again(lab, said):
    wild = replace(RUN, name="wild", epochs=3, optimizer=Sgd(lr=1e30), objective=InputGradient(weight=1e30))
    with pytest.raises(Diverged, match="not finite"):
        lab.train(wild)
    for _ in range(2):
        runs = lab.train(RUN, wild, may_diverge=True)
    assert [has_diverged(run) for run in runs] == [False, True]
    assert sum("not finite" in line for line in said) == 1
    lab.attack(runs, [FGSM()], [THREAT], n=8)
    left = accuracies(runs, FGSM(), THREAT)
    assert left[1] is None
    assert mean(left) is None
    assert best(runs, lambda run: 1.0) == runs[0]
    assert judged("wild", [], runs[1:], THREAT).verdict is None
    assert judged("both", [], runs, THREAT).worst_case[1] is None
    assert held_out(runs[1]) is None
    with pytest.raises(UserError, match="another configuration"):
        lab.train(replace(wild, epochs=4), may_diverge=True)


def test_clean_accuracy_is_of_all_examples_or_of_those_that_were_attacked(lab):
    (run,) = lab.train(RUN)
    lab.look([run], THREAT)
    lab.attack([run], [FGSM()], [THREAT], n=8)
    counts = [one.n for one in read_record(run).other_evaluations]
    assert counts == [len(RUN.data.load().test), 8]
    of = {one.n: one for one in read_record(run).other_evaluations}
    for most, n in ((None, counts[0]), (8, 8)):
        assert accuracies([run], None, most=most) == [100 * of[n].clean_accuracy]
        assert accuracies([run], FGSM(), THREAT, most=most) == [100 * of[n].robust[0].worst_case]
    assert held_out(run) == 100 * read_record(run).training.metrics["val/accuracy"]


def test_other_processes_train_the_same_and_their_errors_are_raised(lab, tmp_path):
    runs = [RUN, replace(RUN, name="b", seed=1)]
    alone = lab.train(*runs)
    two = Lab(tmp_path / "two", processes=2)
    together = two.train(*runs)
    for one, other in zip(alone, together, strict=True):
        first, second = (Network.from_pretrained(run).state_dict() for run in (one, other))
        assert all(first[name].equal(second[name]) for name in first)
    with pytest.raises(UserError, match="nowhere"):
        two.train(*(replace(RUN, name=name, model=None, start_from=str(tmp_path / "nowhere")) for name in "xy"))


def test_missing_attacks_are_named(lab):
    (run,) = lab.train(RUN)
    with pytest.raises(UserError, match="was not evaluated"):
        accuracies([run], None)
    with pytest.raises(UserError, match="was not attacked"):
        accuracies([run], FGSM(), THREAT)


@pytest.mark.parametrize(
    ("first", "second", "n", "expected"),
    [(60, 40, 200, True), (40, 60, 200, False), (52, 48, 200, None), (52, 48, 20_000, True), (None, 1, 9, None)],
)
def test_accuracies_are_told_apart_where_chance_does_not_explain_it(first, second, n, expected):
    assert exceeds(first, second, n) is expected


def test_a_lead_and_a_likeness_by_so_many_points_are_told_apart_from_chance():
    assert [exceeds(60, 40, 2000, by=by) for by in (10, 20, 30)] == [True, None, False]
    assert [alike(60, second, 5000, within=5) for second in (60, 55, 50)] == [True, None, False]
    assert alike(60, 60, 50, within=5) is None
    assert alike(None, 60, 50, within=5) is None
