"""Mustafa 2020: the paper's rule of choice, and claims that can come out either way."""

from dataclasses import replace
from pathlib import Path

import pytest

from meseta.objectives import AdversarialTraining, CrossHolder
from meseta.report.reproduced import ReproducedTable, Row
from meseta.reproductions import mustafa2020
from meseta.reproductions.mustafa2020 import METHODS, PLAIN, Mustafa2020, Task

ONE = Mustafa2020(n_test=200, floors=(0.99, 0.88))
METHOD_RUNS = {name: [Path(name)] for name in (PLAIN, *METHODS)}


def curves(monkeypatch, **left):
    """Let each method keep so much at ε = 1 to 5."""
    by_run = {"plain": [50, 10, 0, 0, 0], "Cross-Hölder": left["ch"], "Cross-Lipschitz": left["cl"]}
    by_run["adversarial training"] = left["at"]
    monkeypatch.setattr(
        mustafa2020,
        "worst_cases",
        lambda runs, attacks, threat, split="test": [by_run[run.name][round(threat.eps) - 1] for run in runs],
    )


def test_the_defaults_are_the_published_settings():
    assert (ONE.steps, ONE.restarts, ONE.chosen_at) == (50, 10, (3.0, 4.0))
    assert ONE.floors == (0.99, 0.88)
    chosen = {run.name: run.objective for method in METHODS.values() for run in ONE._grid(Task("mnist"), method)}
    assert isinstance(chosen["mnist-at-5-s0"], AdversarialTraining)
    assert chosen["mnist-cl-0.2-s0"] == CrossHolder(weight=0.2, curvature=0.0)
    assert chosen["mnist-ch-0.02-0.5-s0"] == CrossHolder(weight=0.02, curvature=0.5)


@pytest.mark.parametrize(
    ("clean", "score", "expected"),
    [
        ({"a": 99.5, "b": 99.0, "c": 98.9}, {"a": 10, "b": 30, "c": 90}, "b"),  # the best above the floor
        ({"a": 98.0, "b": 97.0, "c": 98.9}, {"a": 10, "b": 30, "c": 20}, "c"),  # none above it: the cleanest
    ],
)
def test_the_choice_is_the_best_sum_above_the_clean_floor(monkeypatch, clean, score, expected):
    monkeypatch.setattr(mustafa2020, "held_out", lambda run: clean[run.name])
    monkeypatch.setattr(
        mustafa2020, "worst_cases", lambda runs, attacks, threat, split: [score[run.name] / 2 for run in runs]
    )
    monkeypatch.setattr("meseta.reproductions.lab.has_diverged", lambda run: False)
    runs = ONE._by_rule(Task("mnist"), [Path("a"), Path("b"), Path("c")])
    assert runs[0] == Path(expected)
    below = clean[expected] < 99
    assert ("none reaches the floor" in ONE._remark(Task("mnist"), "Cross-Hölder", runs[0])) == below
    assert sorted(runs) == [Path("a"), Path("b"), Path("c")]


@pytest.mark.parametrize(("ch", "holds"), [(60, True), (20, False), (41, None)])
def test_a_claim_holds_fails_or_is_left_open(monkeypatch, ch, holds):
    curves(monkeypatch, at=[90, 80, 70, 60, 40], cl=[90, 80, 70, 60, 40], ch=[90, 80, 70, 60, ch])
    claims = ONE._claims(Task("mnist"), METHOD_RUNS)
    assert [claim.holds for claim in claims] == [holds, holds]
    assert ONE._effective(Task("mnist"), METHOD_RUNS).holds is True


def test_where_nothing_is_left_nothing_is_decided(monkeypatch):
    curves(monkeypatch, at=[90, 60, 20, 1, 0], cl=[90, 50, 10, 1, 0], ch=[90, 70, 30, 2, 0])
    assert {claim.holds for claim in ONE._claims(Task("mnist"), METHOD_RUNS)} == {None}
    assert ONE._effective(Task("mnist"), METHOD_RUNS).holds is False


@pytest.mark.parametrize(("ch", "holds"), [(30.0, True), (2.0, False), (14.0, None), (None, None)])
def test_the_worst_case_of_all_attacks_decides_the_lead(ch, holds):
    left = {"adversarial training": 40.0, "Cross-Lipschitz": 12.0, "Cross-Hölder": ch}
    rows = [Row(name=name, entries=[], worst_case=[value]) for name, value in left.items()]
    table = ReproducedTable(key="x", title="x", columns=[], rows=rows)
    assert replace(ONE, n_judged=200)._judged_claim(table).holds is holds


def test_on_fashion_adversarial_training_must_lead_at_every_radius(monkeypatch):
    curves(monkeypatch, at=[95, 80, 70, 60, 5], cl=[80, 60, 40, 20, 5], ch=[80, 65, 50, 40, 30])
    claims = {claim.text: claim.holds for claim in ONE._claims(Task("fashion"), METHOD_RUNS)}
    assert claims["Cross-Hölder keeps less than adversarial training up to ε = 4."] is True
    assert claims["Cross-Hölder keeps more than Cross-Lipschitz beyond ε = 4."] is True


def test_another_unit_scales_every_radius_and_names_other_adversarial_runs():
    task = Task("mnist", unit=0.3)
    assert [threat.eps for threat in ONE._threats(task, (1.0, 5.0))] == pytest.approx([0.3, 1.5])
    pixel, scaled = ({run.name for run in ONE._grid(one, "at")} for one in (Task("mnist"), task))
    assert not pixel & scaled
    assert ONE._grid(task, "ch") == ONE._grid(Task("mnist"), "ch")
    assert ONE._grid(task, "at")[0].objective.attack.threat.eps == pytest.approx(0.6)
