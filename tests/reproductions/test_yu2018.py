"""Yu 2018: what is trained, how weights are chosen, and claims that may come out either way."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from meseta.attacks import FGSM, PGD
from meseta.autodiff import Decision, Hessian
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.models import LeNet5, Mlp
from meseta.objectives import AdversarialTraining, DecisionGradient, InputGradient, Sum
from meseta.papers import Yu3, Yu4, Yu7
from meseta.reproductions import Lab, yu2018
from meseta.reproductions.lab import COLLAPSED, has_diverged, reaches
from meseta.reproductions.yu2018 import (
    Choice,
    Trained,
    Yu2018,
    _around,
    _at,
    _edge,
    _known,
    _left,
    _left_together,
    _note,
    _plateau,
    _readings,
    _rise,
)
from meseta.reproductions.yu2018_claims import (
    ATTACKS,
    CLEAN,
    COLUMNS,
    METHODS,
    PUBLISHED,
    Sample,
    _grows,
    _nearer,
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
    weight_claims,
)
from meseta.training import RunConfig, Sgd

ALL, FEW = Sample(10_000, 3), Sample(40, 1)
TABLES = [(mnist_claims, "mnist"), (cifar_claims, "cifar10")]


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


@pytest.mark.parametrize(("claims", "name"), TABLES)
def test_the_papers_claims_hold_of_its_own_tables(claims, name):
    assert all(claim.holds for claim in claims(as_printed(name), ALL, []))


@pytest.mark.parametrize(("claims", "name"), TABLES)
def test_the_papers_claims_may_fail(claims, name):
    worse = {
        (method, cell): 50.0 - 20 * (method == "Ours") + 10 * (method == "MinMax" and cell[1] == 0)
        for method, cell in as_printed(name)
    } | {("Ours+AdvTrain", (attack, k)): 0.0 for attack in ATTACKS for k in range(3)}
    assert all(claim.holds is False for claim in claims(worse, ALL, []))
    missing = as_printed(name) | {("Ours", (attack, k)): None for attack in ATTACKS for k in range(3)}
    assert all(claim.holds is None for claim in claims(missing, ALL, []))


@pytest.mark.parametrize(("claims", "name"), TABLES)
def test_nothing_is_decided_by_fractions_of_an_image_or_where_all_is_broken(claims, name):
    printed_cells = as_printed(name)
    close = {key: 85.0 + 0.5 * (key[0] == "Ours") for key in printed_cells}
    nothing = dict.fromkeys(printed_cells, 0.0)
    ordered = [claim for claim in claims(close, FEW, []) if "keeps" in claim.text or "falls" in claim.text]
    assert ordered
    assert all(claim.holds is None for claim in ordered)
    more = [claim for claim in claims(nothing, ALL, []) if "more than" in claim.text or "faster" in claim.text]
    assert more
    assert all(claim.holds is None for claim in more)
    assert all("n = 40, 1 seed)" in claim.evidence for claim in ordered)


@pytest.mark.parametrize(("claims", "name"), TABLES)
def test_what_the_rule_did_not_choose_is_not_compared(claims, name):
    found = claims(as_printed(name), ALL, ["CrossEntropy"])
    undecided = [claim.text for claim in found if claim.holds is None]
    assert undecided == [claim.text for claim in found if "Not compared: no weight of CrossEntropy" in claim.evidence]
    assert len(undecided) == {"mnist": 2, "cifar10": 1}[name]
    assert all("cross-entropy gradient" in text or "drops faster" in text for text in undecided)


def test_accuracies_against_a_number_and_changes_of_differences():
    assert [reaches(value, 87.0, 500) for value in (91.8, 88.0, 80.0, None)] == [True, None, False, None]
    assert _grows((50.0, 45.0), (60.0, 30.0), 1000)
    assert _grows((60.0, 30.0), (50.0, 45.0), 1000) is False
    assert _grows((50.0, 45.0), (60.0, 52.0), 1000) is None
    assert _grows((50.0, None), (60.0, 30.0), 1000) is None
    assert [_nearer([pair], 500) for pair in ((20.0, 60.0, 15.0), (60.0, 20.0, 15.0), (16.0, 18.0, 0.0))] == [
        True,
        False,
        None,
    ]


def test_which_training_the_row_is_of():
    cells = as_printed("cifar10")
    assert adversarial_claim("cifar10", cells, ALL, 10).holds
    swapped = {"AdvTrain": "MinMax", "MinMax": "AdvTrain"}
    other = {(m, c): cells[swapped.get(m, m), c] for m, c in cells}
    assert adversarial_claim("cifar10", other, ALL, 10).holds is False
    same = {(m, c): cells["Ours", c] for m, c in cells}
    assert adversarial_claim("cifar10", same, ALL, 10).holds is None
    assert "MinMax of 7 steps" in adversarial_claim("cifar10", cells, ALL, 7).evidence


def test_whether_finer_steps_find_more():
    def holds(*left, sample=ALL):
        return missed_claim(left, "abc"[: len(left)], "10 steps of 0.1", sample).holds

    assert holds((50.0, 40.0), (10.0, 10.0))
    assert holds((5.0, 5.0), (0.0, 0.0)) is False
    assert holds((50.0, 40.0), sample=FEW) is None
    assert holds((50.0, None)) is None
    text = missed_claim([(50.0, 40.0)], ["0.1"], "7 steps of 0.1", ALL).text
    assert "7 steps of 0.1" in text
    assert "random start" in text
    assert "every iterate" in text


def test_what_the_printed_weight_may_be_of():
    both = {"in [0, 1]": (0.16, 12.0), "from 0 to 255": (0.00064, 44.0)}
    cannot, can = weight_claims("cifar10", both, 45.0, 0.003, 2500)
    assert cannot.holds
    assert "cannot be" in cannot.text
    assert "c = 0.16" in cannot.text
    assert can.holds
    assert "can be" in can.text
    assert "c = 0.00064" in can.text
    swapped = {"in [0, 1]": (0.16, 44.0), "from 0 to 255": (0.00064, 12.0)}
    assert [claim.holds for claim in weight_claims("cifar10", swapped, 45.0, 0.003, 2500)] == [False, False]
    near = {"in [0, 1]": (0.64, 94.6)}  # 2 (99.1 - 98.4) + 1 = 2.4
    assert weight_claims("mnist", near, 97.0, 0.01, 3000)[0].holds is None
    assert weight_claims("mnist", near, None, 0.01, 3000)[0].holds is None
    assert weight_claims("mnist", {}, 97.0, 0.01, 3000) == []


def test_readings_of_the_printed_weight():
    for name, shape, expected in (
        ("mnist", (1, 28, 28), {"in [0, 1]": 500 / 784}),
        ("cifar10", (3, 32, 32), {"in [0, 1]": 500 / 3072, "from 0 to 255": 500 / 3072 / 255}),
    ):
        trained = SimpleNamespace(natural=SimpleNamespace(data=SimpleNamespace(input_shape=shape)))
        readings = _readings(Yu2018()._bench(name), trained)
        assert readings == pytest.approx(expected)
        for scale in ("short", "paper"):
            grid = Yu2018.at(scale)._bench(name).weights
            assert all(any(math.isclose(one, weight, rel_tol=0.05) for one in grid) for weight in readings.values())


def test_what_training_costs():
    seconds = {"mnist": {"Ours": 2.0, "MinMax": 11.0}, "cifar10": {"Ours": 2.2, "MinMax": 12.0}}
    assert [claim.holds for claim in cost_claims(seconds, seconds, 10)] == [True, True]
    slow = {"mnist": {"Ours": 3.0, "MinMax": 9.0}, "cifar10": {"Ours": 2.2, "MinMax": 12.0}}
    assert [claim.holds for claim in cost_claims(slow, slow, 10)] == [False, False]
    assert "With 7 steps" in cost_claims(slow, slow, 7)[1].evidence


def test_statistics_as_printed_and_otherwise():
    found = {"Natural": [500.0, 1.1, 1.26, 65.6], "Ours": [50.0, 30.0, 0.42, 90.0], "MinMax": [50.0, 54.0, 0.53, 97.1]}
    reaches = {"Natural": 0.05, "Ours": 0.1, "MinMax": 0.2}
    assert [c.holds for c in statistics_claims(found, {"Natural": 10.0, "MinMax": 12.0}, reaches, 40)] == [True] * 5
    alike = dict.fromkeys(found, found["Natural"])
    shares = {"Natural": 10.0, "MinMax": 90.0}
    same = [False, None, False, None, None]  # nothing shrinks, nothing is gained, so that there is nothing to explain
    assert [c.holds for c in statistics_claims(alike, shares, reaches, 40)] == same
    denser = found | {"MinMax": [100.0, 0.0, 1.2, 97.1]}
    far = {"Natural": 0.05, "Ours": 1.0, "MinMax": 1.0}
    assert [c.holds for c in statistics_claims(denser, shares, far, 40)] == [True, False, False, False, None]
    assert statistics_claims(found, shares, reaches, 40)[4].holds is False
    unknown = found | {"MinMax": [None] * 4}
    nothing = {"Natural": 10.0, "MinMax": None}
    assert [c.holds for c in statistics_claims(unknown, nothing, nothing | {"Ours": 0.1}, 40)] == [None] * 5
    smooth = {"Natural": [9.0, 9.0], "Ours": [3.0, 3.0]}
    assert all(claim.holds for claim in hessian_claims({"Natural": (65.6, 98.9)}, 784, 0.0, smooth))
    bent = hessian_claims({"Natural": (99.0, 65.6)}, 784, 0.1, {"Natural": [9.0, 9.0], "Ours": [3.0, 9.0]})
    assert all(claim.holds is False for claim in bent)
    assert all(c.holds is None for c in hessian_claims({}, 784, None, {name: [None, None] for name in smooth}))
    steeper = {"CrossEntropy": (30.0, 1.0), "Ours": (10.0, 1.0)}
    assert slope_claim(steeper, []).holds
    assert slope_claim(steeper, ["Ours"]).holds is None
    assert slope_claim({"CrossEntropy": (10.0, 1.0), "Ours": (30.0, 1.0)}, []).holds is False
    assert slope_claim({"CrossEntropy": (10.0, None), "Ours": (30.0, 1.0)}, []).holds is None


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
    assert (_rise(None, 0.1), _plateau(None, 0.1)) == (None, None)


def test_there_is_no_plateau_around_what_is_misclassified():
    wrong = SimpleNamespace(x=(0.0, 0.1), y=(0.0,), fields={"Decision": [[-1.0, 1.0]]})
    assert _plateau(wrong, 0.1) is None


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


RULE = [("a", 99.5, 10.0), ("b", 99.2, 40.0), ("c", 99.1, 20.0), ("d", 96.0, 90.0)]
CLEANEST, LOST = [("a", None, None), ("b", 97.5, 40.0), ("c", 98.0, 10.0)], [("a", None, None), ("b", None, None)]


@pytest.mark.parametrize(
    ("runs", "weight", "affordable", "remark"),
    [
        (RULE, 2.0, True, ""),
        (RULE[:2], 2.0, True, "the highest weight of the grid"),
        (CLEANEST, 3.0, False, "no weight is at most 1 points below natural training, this is the cleanest"),
        (LOST, 1.0, False, "every weight of the grid diverged"),
    ],
)
def test_the_rule_of_choice(runs, weight, affordable, remark, monkeypatch):
    clean = {Path(name): value for name, value, _ in runs} | {Path("natural"): 99.9}
    score = {Path(name): value for name, _, value in runs}
    monkeypatch.setattr(yu2018, "held_out", clean.get)
    monkeypatch.setattr(Yu2018, "_score", lambda self, bench, run: score[run])
    tried = {float(k): Path(name) for k, (name, *_) in enumerate(runs, 1)}
    reproduction = Yu2018()
    found = reproduction._chosen(reproduction._bench("mnist"), Path("natural"), tried)
    assert found == Choice(weight, affordable, remark)


def test_ends_of_a_grid():
    grid = (0.3, 0.01, 1.0)
    assert [_edge(weight, grid) for weight in grid] == [
        "",
        "the lowest weight of the grid",
        "the highest weight of the grid",
    ]
    assert _edge(0.3, (0.3,)) == ""


SMALL = RunConfig(name="a", data=DataConfig(train_limit=600), model=Mlp(hidden=(32,)), epochs=6)
UNSTABLE = replace(SMALL, name="b", objective=InputGradient(weight=1e8), optimizer=Sgd(lr=1e3), epochs=1)


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory):
    """A lab with a run that learnt, and one that diverged."""
    lab = Lab(tmp_path_factory.mktemp("lab"), thorough=False, say=lambda text: None)
    return lab, *lab.train(SMALL, UNSTABLE, may_diverge=True)


def test_radii_are_attacked_by_themselves(trained_runs):
    lab, run, lost = trained_runs
    reproduction = replace(Yu2018.at("smoke"), n_test=60)
    bench = reproduction._bench("mnist")
    attacks, far = [FGSM()], bench.threats[-1]
    lab.attack([run], attacks, bench.threats, n=60)  # an evaluation of all radii, which is not to be found
    reproduction._attack(lab, [run, lost], attacks, bench, n=60)
    found = _at(run, attacks, far, "test")
    assert [round(60 * found.clean_accuracy)] == [one.attacked for one in found.robust[0].attacks]
    assert _left(run, FGSM(), far) == _left_together(run, attacks, far) == 100 * found.robust[0].worst_case
    assert _left(lost, FGSM(), far) is None
    assert _left_together(lost, attacks, far) is None


def test_figures_need_enough_runs_that_did_not_diverge(trained_runs, monkeypatch):
    lab, run, lost = trained_runs
    monkeypatch.setattr(lab, "draw", lambda figure, runs: figure.key)
    one = Yu2018(figures=(4,))
    assert one._drawn(lab, {3: (Yu3(), [run, lost]), 4: (Yu4(), [run]), 7: (Yu7(), [run, run])}) == [Yu4().key]
    assert one._drawn(lab, {3: (Yu3(), [run, run]), 4: (Yu4(), [lost])}) == [Yu3().key]


def test_rows_tell_of_what_diverged_and_no_claim_is_about_it(trained_runs, monkeypatch):
    _, run, lost = trained_runs
    assert has_diverged(lost)
    assert _note([run]) == ""
    assert _note([run, lost]) == "diverged: 1 of 2 trainings met a loss that is not finite"
    assert _note([run], Choice(0.3, False, "why")) == "weight 0.3 (why)"
    trained = Trained({"Ours": [run], "MinMax": [run, lost]}, {}, {})
    rows = {"Ours": {CLEAN: [90.0]}, "MinMax": {CLEAN: [90.0, 91.0]}}
    assert _known(rows, trained) == {("Ours", CLEAN): 90.0, ("MinMax", CLEAN): None}
    monkeypatch.setattr(yu2018, "CHANCE", 100.0)
    assert _note([run]) == COLLAPSED
    assert _known(rows, trained)["Ours", CLEAN] is None


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"figures": (5,)}, "`figures` must be among"),
        ({"seeds": (0, 1)}, "`seeds` must be a whole number, at least 1, got 0"),
        ({"cifar_weights": ()}, "`cifar_weights` must hold at least one weight"),
        ({"mnist_loss_weights": (0.0,)}, "`mnist_loss_weights` must be positive"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        Yu2018(**settings)
