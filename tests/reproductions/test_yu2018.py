"""Yu 2018: what is trained, how weights are chosen, and claims that may come out either way."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from meseta.attacks import PGD
from meseta.autodiff import Decision, Hessian
from meseta.errors import UserError
from meseta.models import LeNet5
from meseta.objectives import AdversarialTraining, DecisionGradient, Sum
from meseta.reproductions import yu2018
from meseta.reproductions.yu2018 import Yu2018, _around, _plateau, _rise
from meseta.reproductions.yu2018_claims import (
    ATTACKS,
    CLEAN,
    COLUMNS,
    METHODS,
    PUBLISHED,
    adversarial_claim,
    cifar_claims,
    cost_claims,
    hessian_claims,
    listed,
    missed_claim,
    mnist_claims,
    printed,
    slope_claim,
    statistics_claims,
    surface_claims,
    weight_claim,
)


def as_printed(name):
    """Return the cells of a table as the paper has them; rows that it lacks are those of Ours."""
    rows = {method: printed(name, method) or printed(name, "Ours") for method in METHODS}
    return {(method, cell): value for method, row in rows.items() for cell, value in row.items()}


def test_tables_are_as_printed():
    assert printed("mnist", "Ours")["C&W", 2] == 37.6
    assert printed("mnist", "AdvTrain")["C&W", 0] == 71.09
    assert printed("cifar10", "MinMax")[CLEAN] == 79.4
    assert printed("cifar10", "Ours+AdvTrain")["BIM", 1] == 39.3
    assert printed("mnist", "MinMax") == {}
    assert all(len(row) == len(COLUMNS) for rows in PUBLISHED.values() for row in rows.values())


def test_the_papers_claims_hold_of_its_own_tables():
    assert all(claim.holds for claim in mnist_claims(as_printed("mnist")))
    assert all(claim.holds for claim in cifar_claims(as_printed("cifar10")))


@pytest.mark.parametrize(("claims", "name"), [(mnist_claims, "mnist"), (cifar_claims, "cifar10")])
def test_the_papers_claims_may_fail(claims, name):
    worse = {
        (method, cell): 50.0 - 20 * (method == "Ours") + 10 * (method == "MinMax" and cell[1] == 0)
        for method, cell in as_printed(name)
    } | {("Ours+AdvTrain", (attack, k)): 0.0 for attack in ATTACKS for k in range(3)}
    assert not any(claim.holds for claim in claims(worse))
    missing = as_printed(name) | {("Ours", (attack, k)): None for attack in ATTACKS for k in range(3)}
    assert all(claim.holds is None for claim in claims(missing))


def test_which_training_the_row_is_of():
    cells = as_printed("cifar10")
    assert adversarial_claim("cifar10", cells).holds
    swapped = {"AdvTrain": "MinMax", "MinMax": "AdvTrain"}
    assert not adversarial_claim("cifar10", {(m, c): cells[swapped.get(m, m), c] for m, c in cells}).holds


def test_other_claims_come_out_both_ways():
    assert missed_claim([(50.0, 40.0), (10.0, 10.0)], ["a", "b"], "10 steps").holds
    assert not missed_claim([(50.0, 49.5), (10.0, 12.0)], ["a", "b"], "10 steps").holds
    assert missed_claim([(50.0, None)], ["a"], "10 steps").holds is None
    assert weight_claim("mnist", 0.64, 40.0, 0.01).holds
    assert not weight_claim("mnist", 0.64, 2.3, 0.01).holds  # 2 (99.1 - 98.4) + 1 = 2.4
    seconds = {"mnist": {"Ours": 2.0, "MinMax": 11.0}, "cifar10": {"Ours": 2.2, "MinMax": 12.0}}
    assert [claim.holds for claim in cost_claims(seconds, seconds)] == [True, True]
    slow = {"mnist": {"Ours": 3.0, "MinMax": 9.0}, "cifar10": {"Ours": 2.2, "MinMax": 12.0}}
    assert [claim.holds for claim in cost_claims(slow, slow)] == [False, False]


def test_statistics_as_printed_and_otherwise():
    found = {"Natural": [500.0, 1.1, 1.26, 65.6], "Ours": [50.0, 30.0, 0.42, 90.0], "MinMax": [50.0, 54.0, 0.53, 97.1]}
    reaches = {"Natural": 0.05, "Ours": 0.1, "MinMax": 0.2}
    assert [c.holds for c in statistics_claims(found, {"Natural": 10.0, "MinMax": 12.0}, reaches)] == [True] * 5
    alike = dict.fromkeys(found, found["Natural"])
    assert not any(c.holds for c in statistics_claims(alike, {"Natural": 10.0, "MinMax": 90.0}, reaches))
    smooth = {"Natural": [9.0, 9.0], "Ours": [3.0, 3.0]}
    assert all(claim.holds for claim in hessian_claims({"Natural": (65.6, 98.9)}, 784, 0.0, smooth))
    bent = hessian_claims({"Natural": (99.0, 65.6)}, 784, 0.1, {"Natural": [9.0, 9.0], "Ours": [3.0, 9.0]})
    assert not any(claim.holds for claim in bent)
    assert slope_claim({"CrossEntropy": (30.0, 1.0), "Ours": (10.0, 1.0)}).holds
    assert not slope_claim({"CrossEntropy": (10.0, 1.0), "Ours": (30.0, 1.0)}).holds
    assert slope_claim({"CrossEntropy": (10.0, None), "Ours": (30.0, 1.0)}).holds is None


def test_surfaces_come_out_both_ways():
    assert all(c.holds for c in surface_claims([[1.0, 1.0], [8.0, 1.0]], [[100.0, 60.0], [100.0, 100.0]]))
    assert not any(c.holds for c in surface_claims([[8.0, 1.0], [1.0, 1.0]], [[100.0, 60.0], [100.0, 99.0]]))
    assert all(c.holds is None for c in surface_claims([[None, 1.0], [8.0, 1.0]], [[None, 60.0], [100.0, 100.0]]))


PLANE = SimpleNamespace(
    x=(-0.1, 0.0, 0.1),
    y=(-0.1, 0.0, 0.1),
    fields={
        "Decision": [[-9.0, 1.0, -9.0], [1.0, 1.0, -1.0], [-9.0, 1.0, -9.0]],
        "CrossEntropy": [[9.0, 2.0, 9.0], [3.0, 1.0, 2.0], [9.0, 2.0, 9.0]],
    },
)


def test_a_surface_is_seen_within_the_ball():
    assert _around(PLANE, "CrossEntropy", 0.1) == [1.0, 2.0, 3.0, 2.0, 2.0]  # no corner: |i| + |j| = 0.2 there
    assert _plateau(PLANE, 0.1) == 80.0
    assert math.isclose(_rise(PLANE, 0.1), 1.0)


def test_methods_are_what_the_choices_say():
    bench = Yu2018()._bench("cifar10")
    minmax = bench.objective("MinMax", 10)
    assert isinstance(minmax, AdversarialTraining)
    assert isinstance(minmax.attack, PGD)
    assert (minmax.attack.threat.eps, minmax.attack.alpha, minmax.attack.steps) == (8 / 255, 1 / 255, 10)
    assert minmax.attack.loss == Decision()
    assert bench.objective("AdvTrain", 10).clean == 0.5
    both = bench.objective("Ours+AdvTrain", 10, 0.03)
    assert both == Sum(parts=(bench.objective("AdvTrain", 10), DecisionGradient(weight=0.03, q=1)))
    assert [bench.epochs_of(method) for method in METHODS] == [30, 30, 100, 100, 100, 400]
    assert bench.attacks(10)["BIM"] == PGD(steps=10, alpha=1 / 255, random_start=False, drop_broken=False)


def test_a_warm_up_grows_radius_and_step():
    bench = replace(Yu2018(), warmup=0.5)._bench("mnist")
    quarter, last = (bench.objective("MinMax", 10).at(share).attack for share in (0.25, 1.0))
    assert (quarter.threat.eps, quarter.alpha) == pytest.approx((0.15, 0.05))
    assert (last.threat.eps, last.alpha) == (0.3, 0.1)


CLEANEST, RULE = [("a", 98.0, 10.0), ("b", 97.5, 40.0)], [("a", 99.5, 10.0), ("b", 99.2, 40.0), ("c", 96.0, 90.0)]


@pytest.mark.parametrize(("runs", "chosen"), [(RULE, 2.0), (CLEANEST, 1.0), ([("a", None, None)], 1.0)])
def test_the_rule_of_choice(runs, chosen, monkeypatch):
    clean = {Path(name): value for name, value, _ in runs} | {Path("natural"): 99.9}
    score = {Path(name): value for name, _, value in runs}
    monkeypatch.setattr(yu2018, "_clean", clean.get)
    monkeypatch.setattr(Yu2018, "_score", lambda self, bench, run: score[run])
    tried = {float(k): Path(name) for k, (name, *_) in enumerate(runs, 1)}
    reproduction = Yu2018()
    assert reproduction._chosen(reproduction._bench("mnist"), Path("natural"), tried) == chosen


def test_a_smooth_twin_bends():
    x, y = torch.rand(2, 1, 28, 28), torch.tensor([0, 1])
    for activation, bends in (("relu", False), ("silu", True)):
        torch.manual_seed(0)
        model = LeNet5(activation=activation).build((1, 28, 28), 10).eval()
        product = Hessian(Decision().bind(model, x, y), x)(torch.ones_like(x))
        assert (product.abs().max().item() > 0) == bends


def test_values_are_written_with_their_signs():
    assert listed([1.0, None, -2.25], signed=True) == "+1.0, – and -2.2"
    assert listed([3.0]) == "3.0"


def test_unknown_figures():
    with pytest.raises(UserError, match="`figures` must be among"):
        Yu2018(figures=(5,))
