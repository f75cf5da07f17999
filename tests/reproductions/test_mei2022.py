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
    COARSE,
    COLLAPSED,
    EXACT,
    FINE,
    RESOLVED,
    TUNED,
    Attacked,
    Mei2022,
    Movement,
    Steps,
    differences,
    label,
    more_than_half,
    name_of,
    similar,
    undecided,
)

TWO_NETWORKS = replace(Mei2022.at("smoke"), ks=(0, 1, 5))


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
    assert {name for name, run in runs.items() if run.watch} == {"pgd", name_of(*BASELINE), name_of(*TUNED)}
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


def test_the_short_scale_watches_every_epoch_and_attacks_as_many_to_choose_as_to_judge():
    short = Mei2022.at("short")
    assert short.watched_every == 1
    assert short.n_val == short.n_test


def moved(shares: dict[int, float], n: int = 200) -> Movement:
    """Return a movement by the share of settled examples after 1, 5 and 10 steps."""
    share = [shares[max(step for step in shares if step <= i)] for i in range(1, 11)]
    steps = Steps([sqrt(2)] * 10, share, n)
    return Movement(steps, steps)


def movements(coarse: float, fine: float, resolved: float, exact: float, five: float = 0.0):
    last = {COARSE: coarse, FINE: fine, differences(RESOLVED): resolved, EXACT: exact}
    found = {how: moved({1: 0.0, 5: five, 10: share}) for how, share in last.items()}
    return {name_of(*BASELINE): found, name_of(1, BASELINE[1]): {COARSE: found[COARSE]}}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((20, 95, 95, 95), [True, True, True, True, True]),
        ((20, 20, 95, 30, 40), [True, True, False, False, False]),
        ((95, 95, 95, 95, 94), [True, False, None, None, None]),  # what converges needs no cause
        ((20, 50, 95, 50, 19), [True, True, None, None, None]),
    ],
)
def test_claims_on_the_iteration_are_of_shares_of_examples(shares, expected):
    found = TWO_NETWORKS._movement_claims(movements(*shares))
    assert [claim.holds for claim in found] == expected
    assert all("n = 200" in claim.evidence for claim in found)


def test_ten_steps_must_settle_more_on_every_network():
    found = movements(60, 95, 95, 95)
    found[name_of(1, BASELINE[1])] = {COARSE: moved({1: 50.0, 5: 58.0, 10: 60.0})}
    assert TWO_NETWORKS._movement_claims(found)[2].holds is None


def test_steps_of_no_product_have_not_settled():
    steps = Steps.of(torch.tensor([[0.01, 1.4], [torch.nan, 1.4], [0.02, 0.05], [1.2, 0.01]]))
    assert steps.share == [50.0, 50.0]
    assert steps.median[0] == pytest.approx(0.02)
    assert steps.n == 4


def test_the_root_of_two_is_published_only_of_what_the_paper_measured():
    found = {**movements(20, 95, 95, 95), "pgd": movements(20, 95, 95, 95)[name_of(*BASELINE)]}
    rows = TWO_NETWORKS._movement_table(found).rows
    published = [row.name for row in rows if any(entry.published for entry in row.entries)]
    assert published == [f"{label(name_of(k, BASELINE[1]))}: {COARSE}" for k in (5, 1)]


def test_nothing_is_decided_of_networks_that_guess():
    claims = TWO_NETWORKS._movement_claims(movements(20, 95, 95, 95))
    assert undecided(claims, []) == claims
    lost = undecided(claims, ["PGD"])
    assert [claim.holds for claim in lost] == [None] * len(claims)
    assert all(claim.evidence.endswith(f"PGD: {COLLAPSED}.") for claim in lost)


def test_a_majority_is_told_from_half_beyond_chance():
    assert [more_than_half(share, 100) for share in (70, 52, 30)] == [True, None, False]


def compared(monkeypatch, n: int, ratio: float, **values: float | None) -> list[bool | None]:
    of = {"pgd": "pgd", name_of(*TUNED): "haat", "exact": "exact", name_of(0, BASELINE[1]): "noise"}
    monkeypatch.setattr(Attacked, "of", lambda name, run, guess: Attacked(label(name), values[of[name]], n))
    costs = {label("pgd"): 1.0, label(name_of(*TUNED)): ratio}
    found = Mei2022.at("smoke")._comparison_claims({name: Path(name) for name in of}, costs)
    return [claim.holds for claim in found]


def test_intervals_decide_whether_two_trainings_differ(monkeypatch):
    near = {"pgd": 30, "haat": 36, "exact": 30, "noise": 35}
    assert compared(monkeypatch, 2000, 5, **near) == [True, True, True, True, True]
    assert compared(monkeypatch, 50, 5, **near) == [None, None, True, None, None]
    apart = {"pgd": 30, "haat": 60, "exact": 60, "noise": 10}
    assert compared(monkeypatch, 2000, 1, **apart) == [False, False, False, False, False]
    worse = {"pgd": 30, "haat": 24, "exact": 33, "noise": 10}
    assert compared(monkeypatch, 2000, 5, **worse) == [True, False, True, False, True]
    lost = {"pgd": 10, "haat": 10, "exact": None, "noise": None}
    assert compared(monkeypatch, 5000, 5, **lost) == [True, None, True, None, None]


def test_similarity_is_refuted_only_beyond_ten_points():
    assert similar(Attacked("a", 30, 20), Attacked("b", 30, 20)) is None
    assert similar(Attacked("a", 90, 20), Attacked("b", 10, 20)) is False
    assert similar(Attacked("a", 30, 2000), Attacked("b", 30, 2000)) is True
    assert similar(Attacked("a", 42, 2000), Attacked("b", 30, 2000)) is None  # told apart, not by more than ten


@pytest.mark.parametrize(
    ("val", "train", "expected"),
    [
        ([10, 40, 40, 30, 20, 20], [10, 20, 30, 50, 60, 70], [True, True]),
        ([10, 20, 20, 30, 40, 45], [10, 20, 30, 50, 60, 70], [False, False]),
        ([10, 40, 40, 30, 20, 20], [10, 40, 40, 30, 20, 20], [True, False]),  # it falls everywhere: no overfitting
        ([20, 25, 24, 24, 26, 25], [20, 25, 24, 24, 26, 25], [None, None]),
    ],
)
def test_the_course_of_training_is_told_from_chance(monkeypatch, val, train, expected):
    seen = {"val": dict(enumerate(val, 1)), "train": dict(enumerate(train, 1))}
    monkeypatch.setattr(Mei2022, "_watched", lambda self, run, split, attack: seen[split])
    monkeypatch.setattr(mei2022, "held_out", lambda run: 60.0)
    reproduction = replace(Mei2022.at("smoke"), epochs=6, n_watched=400)
    assert [claim.holds for claim in reproduction._course_claims(Path("run"))] == expected
    assert [claim.holds for claim in replace(reproduction, n_watched=8)._course_claims(Path("run"))] == [None, None]
    monkeypatch.setattr(mei2022, "held_out", lambda run: 10.0)
    found = reproduction._course_claims(Path("run"))
    assert [claim.holds for claim in found] == [None, None]


@pytest.mark.parametrize(
    ("five", "n", "expected"),
    [
        (60, 400, [True, True, False]),
        (10, 400, [False, False, False]),
        (31, 400, [None, None, True]),
        (31, 150, [None, None, None]),
        (60, 20, [None, None, None]),
    ],
)
def test_the_best_setting_leads_all_others_beyond_chance(monkeypatch, five, n, expected):
    scores = {"k0": 30, "k1": 30, "k5": five, "k10": 31, "fine": 30, "rough": 31, "exact": 31}
    monkeypatch.setattr(mei2022.Mei2022, "_score", lambda self, run: (scores[run.name], n))
    monkeypatch.setattr(mei2022, "held_out", lambda run: 60.0)
    by_k = {0: Path("k0"), 1: Path("k1"), 5: Path("k5"), 10: Path("k10")}
    by_radius = {1e-6: Path("fine"), 5e-6: Path("k5"), RESOLVED: Path("rough")}
    found = Mei2022.at("smoke")._tuning_claims(by_k, by_radius, Path("exact"))
    assert [claim.holds for claim in found] == expected
    assert all(f"n = {n}" in claim.evidence for claim in found)


def test_nothing_is_decided_from_a_model_that_guesses(monkeypatch):
    monkeypatch.setattr(mei2022.Mei2022, "_score", lambda self, run: (60 if run.name == "k5" else 10, 5000))
    monkeypatch.setattr(mei2022, "held_out", lambda run: 10.0)
    by_k, by_radius = {1: Path("k1"), 5: Path("k5")}, {1e-6: Path("k1"), 5e-6: Path("k5")}
    found = Mei2022.at("smoke")._tuning_claims(by_k, by_radius, Path("exact"))
    assert [claim.holds for claim in found] == [None, None, None]
    assert all(COLLAPSED in claim.evidence for claim in found)
