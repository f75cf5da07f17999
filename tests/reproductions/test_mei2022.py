"""HAAT as published and its controls, and claims that can come out either way."""

from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch

from meseta.attacks import Haat as HaatAttack
from meseta.linalg import PowerIteration
from meseta.objectives import Haat
from meseta.reproductions import mei2022
from meseta.reproductions.mei2022 import (
    BASELINE,
    EXACT,
    RESOLVED,
    TUNED,
    Attacked,
    Mei2022,
    Movement,
    label,
    name_of,
    similar,
)

COARSE, FINE = f"differences, ξ = {BASELINE[1]:g}", f"differences, ξ = {BASELINE[1]:g}, in float64"


def test_the_defaults_are_the_papers():
    paper = Mei2022()
    assert Mei2022.at("paper") == paper
    assert (paper.epochs, paper.lr, paper.eps, paper.moves) == (200, 0.1, 8 / 255, 10)
    assert BASELINE == (5, 1e-6)
    assert TUNED == (5, 5e-6)


@pytest.mark.parametrize("scale", ["smoke", "short", "paper"])
def test_every_scale_trains_what_the_claims_compare(scale):
    reproduction = Mei2022.at(scale)
    runs = reproduction._runs()
    assert {"pgd", "exact", name_of(*BASELINE), name_of(*TUNED), name_of(0, BASELINE[1])} <= set(runs)
    assert {RESOLVED, BASELINE[1], TUNED[1]} <= set(reproduction.radii)
    assert [name for name, run in runs.items() if run.watch] == ["pgd", name_of(*TUNED)]
    assert len(set(map(label, runs))) == len(runs)


def test_the_controls_differ_from_haat_in_one_thing():
    runs = Mei2022()._runs()
    published = runs[name_of(*BASELINE)].objective
    assert isinstance(published, Haat)
    attack = published.attack
    assert isinstance(attack, HaatAttack)
    exact, noise = (runs[name].objective.attack for name in ("exact", name_of(0, BASELINE[1])))
    assert exact == replace(attack, radius=None, guarded=True)
    assert noise == replace(attack, solver=PowerIteration(steps=1))


def test_no_power_iteration_leaves_the_random_start():
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    found = PowerIteration(steps=1)(lambda v: 7 * v.flip(1), start).vector
    assert torch.allclose(found, start / start.norm(dim=1, keepdim=True))


def movements(coarse: float, fine: float, resolved: float, exact: float) -> dict[str, Movement]:
    last = {COARSE: coarse, FINE: fine, f"differences, ξ = {RESOLVED:g}": resolved, EXACT: exact}
    curves = {name: [sqrt(2), *([1.0] * 4), *([0.5] * 4), value] for name, value in last.items()}
    return {name: Movement(curve, curve) for name, curve in curves.items()}


def test_the_cause_is_found_where_exact_and_resolved_products_converge():
    reproduction = Mei2022.at("smoke")
    holds = [claim.holds for claim in reproduction._movement_claims(movements(0.4, 0.01, 0.02, 0.01))]
    assert holds == [True, True, True, True, True]
    holds = [claim.holds for claim in reproduction._movement_claims(movements(0.01, 0.5, 0.02, 0.5))]
    assert holds == [True, False, True, False, False]


def test_intervals_decide_whether_two_trainings_differ(monkeypatch):
    values = {"pgd": 0.30, name_of(*TUNED): 0.36, "exact": 0.6, name_of(0, BASELINE[1]): 0.1}
    monkeypatch.setattr(Attacked, "of", classmethod(lambda cls, name, run: cls(label(name), values[name], 2000)))
    reproduction = Mei2022.at("smoke")
    monkeypatch.setattr(type(reproduction), "_peak", lambda self, run: 0.9)
    costs = {label("pgd"): 3.0, label(name_of(*TUNED)): 15.0}
    runs = {name: Path(name) for name in values}
    found = reproduction._comparison_claims(runs, costs)
    assert [claim.holds for claim in found] == [True, True, True, False, False, False]
    values |= {name_of(0, BASELINE[1]): 0.3, "exact": 0.3, name_of(*TUNED): 0.26}
    found = reproduction._comparison_claims(runs, dict.fromkeys(costs, 1.0))
    assert [claim.holds for claim in found] == [True, False, False, False, True, True]


def test_few_examples_decide_nothing():
    assert similar(Attacked("a", 0.3, 20), Attacked("b", 0.3, 20)) is None
    assert similar(Attacked("a", 0.9, 20), Attacked("b", 0.1, 20)) is False
    assert similar(Attacked("a", 0.3, 2000), Attacked("b", 0.3, 2000)) is True


@pytest.mark.parametrize(("five", "expected"), [(0.5, [True, True, True]), (0.1, [False, True, True])])
def test_the_best_settings_are_those_of_the_held_out_split(monkeypatch, five, expected):
    scores = {"k1": (0.3, 20), "k5": (five, 20), "k10": (0.35, 20), "fine": (0.2, 20), "exact": (0.3, 20)}
    monkeypatch.setattr(mei2022.Mei2022, "_score", lambda self, run: scores[run.name])
    by_k = {1: Path("k1"), 5: Path("k5"), 10: Path("k10")}
    by_radius = {1e-6: Path("fine"), 5e-6: Path("exact")}
    found = Mei2022.at("smoke")._tuning_claims(by_k, by_radius, Path("exact"))
    assert [claim.holds for claim in found] == expected
