from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from meseta.data import DataConfig
from meseta.models import LeNet300100
from meseta.objectives import CrossLipschitz, Curvature, Jacobian
from meseta.papers import Guo2
from meseta.report.reproduced import Entry, Row
from meseta.reproductions import Guo2020, guo2020
from meseta.reproductions import guo2020_propositions as module
from meseta.reproductions.guo2020 import CURE, CW, FGSM, MATCHED, PGD, PUBLISHED, REFERENCE, REGULARISERS
from meseta.reproductions.guo2020_propositions import (
    Findings,
    LastLayer,
    LinearPieces,
    overstatement,
    propositions,
)
from meseta.reproductions.lab import DIVERGED

SHORT = Guo2020.at("short")
(TASK,) = SHORT._tasks("mlp")


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    """Let the claims know how many test examples there are without reading them."""
    monkeypatch.setattr(guo2020, "_tests", lambda data: 2000)


def network(classes: int):
    torch.manual_seed(0)
    return LeNet300100().build((1, 4, 4), classes).eval()


def examples(classes: int, n: int = 40):
    """Return inputs with the labels that the network gives them, so that it is right."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 4, 4, generator=generator)
    return x, network(classes)(x).argmax(1)


def sharp(classes: int, by: float = 8.0):
    """Return a network that is sure of what it says."""
    made = network(classes)
    with torch.no_grad():
        made.body[-1].weight.mul_(by)
        made.body[-1].bias.mul_(by)
    return made


def test_the_figures_of_appendix_f():
    assert PUBLISHED["mlp"][REFERENCE] == ((99.57, 0.05), (34.91, 0.81), (7.84, 0.50))
    assert PUBLISHED["lenet"][REFERENCE] == ((99.86, 0.03), (86.32, 4.86), (35.10, 1.97))
    assert [PUBLISHED[key][REFERENCE] for key in ("mlp_ten", "lenet_ten")] == [((98.08, 0.08),), ((99.10, 0.05),)]


def test_the_paper_scale_is_the_papers():
    full = Guo2020.at("paper")
    assert full == Guo2020()
    assert full.mlp.weights == (1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.4, 0.8, 1.6)
    assert full.vgg_ten.weights == (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
    assert (full.mlp.iterations, full.resnet.iterations, full.mlp.seeds) == (50_000, 100_000, 10)


def test_iterations_become_epochs():
    source = replace(SHORT, mnist="digits", train_limit=130)
    (task,) = source._tasks("mlp_ten")
    assert task.data == DataConfig(source="digits", train_limit=130)
    assert source._run(task, "x", iterations=10, lr=0.1).epochs == 3  # of three steps each
    assert source._run(task, "x", iterations=1, lr=0.1).epochs == 1


def test_two_classes_are_penalised_exactly_and_ten_by_what_the_scale_says():
    assert SHORT._objective("Jacobian", 0.1, 2) == Jacobian(weight=0.1, estimator="exact")
    assert SHORT._objective("Jacobian", 0.1, 10) == Jacobian(weight=0.1, estimator="sampled")
    assert Guo2020()._objective("curvature", 0.1, 10) == Curvature(weight=0.1, estimator="gram")
    assert SHORT._objective(MATCHED, 0.1, 10) == CrossLipschitz(weight=0.5)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_matched_weight_is_that_of_the_jacobian_where_logits_are_centred(classes):
    made, (x, y) = network(classes), examples(classes)
    with torch.no_grad():
        last = made.body[-1]
        last.weight.sub_(last.weight.mean(0))
    jacobian = Jacobian(weight=1.0, estimator="exact")(made, x, y).terms["jacobian"]
    matched = replace(SHORT._objective(MATCHED, 1.0, classes), estimator="exact")
    assert matched.weight * matched(made, x, y).terms["cross_lipschitz"] == pytest.approx(jacobian, rel=1e-4)


@pytest.mark.parametrize("classes", [2, 5])
def test_linear_pieces_are_the_derivatives_of_the_loss(classes):
    made, (x, y) = sharp(classes, 3), examples(classes, 4)
    pieces = LinearPieces.of(made, x, y)
    made = made.double()
    for i, (point, label) in enumerate(zip(pieces.x.double(), pieces.y, strict=True)):

        def loss(flat, label=label):
            return cross_entropy(made(flat.view(1, 1, 4, 4)), label[None])

        hessian = torch.autograd.functional.hessian(loss, point.flatten())
        gradient = torch.autograd.functional.jacobian(loss, point.flatten())
        assert torch.allclose(pieces.gradient[i], gradient, rtol=1e-3, atol=1e-6)
        assert torch.linalg.matrix_norm(hessian, 2) == pytest.approx(float(pieces.top[0][i]), rel=1e-3)
        r = torch.ones(16, dtype=torch.float64) / 10
        expected = loss(point.flatten()) + gradient @ r + r @ hessian @ r / 2
        assert pieces.quadratic(r.expand(len(pieces.y), -1))[i] == pytest.approx(expected.item(), rel=1e-3)


def test_proposition_3_1_overstates():
    assert [overstatement(p) for p in (0.9, 0.99, 0.9999)] == pytest.approx([1.22, 2.35, 12.7], rel=5e-3)
    pieces = LinearPieces.of(sharp(2), *examples(2))
    assert torch.allclose(pieces.lower(pieces.gap), pieces.upper(pieces.gap))


@pytest.mark.parametrize("classes", [2, 5])
def test_the_bounds_of_proposition_4_1(classes):
    pieces = LinearPieces.of(sharp(classes), *examples(classes))
    gap, upper = pieces.gap, pieces.upper(pieces.gap)
    lower, printed = pieces.lower(gap), classes * (classes - 1)
    assert pieces.failures(pieces.eq16(gap, classes**2), lower) == 0
    assert pieces.failures(pieces.eq17(gap), lower) == 0
    if classes == 2:
        assert torch.allclose(pieces.nu**2, 2 * pieces.nu2)
        assert pieces.failures(pieces.eq16(gap, printed), upper) > 10
        assert pieces.failures(pieces.eq16(gap, printed, pieces.nu**2), lower) == 0


def test_more_examples_may_be_attacked_than_the_propositions_take(monkeypatch):
    pieces = LinearPieces.of(sharp(2), *examples(2))
    n = len(pieces.sure)

    def nearest(k: int):
        found = SimpleNamespace(n=k, values=list(range(k)))
        monkeypatch.setattr(module, "distances_of", lambda record, attack, split: found)
        return module._nearest(None, [None], pieces).tolist()

    known = [float(i) for i in range(n) if pieces.sure[i]]
    assert nearest(n + 5) == known
    assert nearest(5) == [i for i in known if i < 5]


@pytest.mark.parametrize("classes", [2, 4])
def test_proposition_3_4_holds_at_the_matched_weight_alone(classes):
    x, y = examples(classes)
    layer = LastLayer.of(network(classes), x, (y + (x.flatten(1).sum(1) > 8)) % classes)
    jacobian = layer.solve("jacobian", 0.3)
    matched, equal = (layer.solve("cross_lipschitz", times * 0.3) for times in (classes / 2, 1))
    assert layer.apart(jacobian, matched) < 1e-5
    assert (layer.apart(jacobian, equal) < 1e-5) == (classes == 2)


def findings(classes: int, share: float) -> Findings:
    """Return findings whose inequalities all fail at a share of the examples, and whose numbers are all 1."""
    names = [value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)]
    names += [f"{name}: {how}" for name in names for how in (module.ABOVE, module.NOT_BELOW)]
    at = 0.0 if classes == 2 else 1.0, 0.0
    return Findings(classes, dict.fromkeys(names, share), dict.fromkeys(names, 1.0), dict.fromkeys(module.WEIGHTS, at))


def test_the_propositions_claims_come_out_either_way():
    found = [propositions({"two": findings(2, share), "ten": findings(10, share)}).claims for share in (0.0, 7.0)]
    decided = [[claim.holds for claim in claims] for claims in found]
    for text in ("formal guarantee", "as printed, with K(K − 1)", "With K²", "(17)", "The chain", "without squares"):
        at = [i for i, claim in enumerate(found[0]) if text in claim.text]
        assert at, text
        assert all((decided[0][i], decided[1][i]) == (True, False) for i in at), text


def test_a_lower_bound_between_those_of_the_lemma_is_not_decided():
    between = findings(10, 0.0)
    name = f"{module.EQ_17}: {module.NOT_BELOW}"
    between = replace(between, shares={**between.shares, name: 3.0})
    (claim,) = (one for one in propositions({"ten": between}).claims if "Equation (17)" in one.text)
    assert claim.holds is None
    assert "lower one at 3.0 % (ten)" in claim.evidence
    assert "where the paper has log K" in claim.evidence


@pytest.mark.parametrize("kinds", [{"two": 2}, {"ten": 10}])
def test_what_is_said_of_networks_that_there_are_not_is_open(kinds):
    part = propositions({name: findings(classes, 0.0) for name, classes in kinds.items()})
    missing = "No network with more than two classes." if "two" in kinds else "No network with two classes."
    open_claims = [claim for claim in part.claims if claim.holds is None]
    assert [claim.evidence for claim in open_claims] == [missing] * (2 if "two" in kinds else 9)
    assert len(part.claims) == 17


def test_the_printed_forms_hold_with_the_nu_of_section_3():
    two = findings(2, 0.0)
    fails = dict.fromkeys((f"{module.PRINTED_16}: {module.ABOVE}", f"{module.PRINTED_16}: {module.NOT_BELOW}"), 99.0)
    part = propositions({"two": replace(two, shares={**two.shares, **fails}), "ten": findings(10, 0.0)})
    (claim,) = (one for one in part.claims if "(16) as printed" in one.text)
    assert claim.holds is False
    assert "With section 3's ν it fails at 0.0 % (two). For K > 2 it fails at 0.0 % (ten)." in claim.evidence


def rows(**changed: tuple[float | None, ...]):
    """Return rows at every weight of the grid, alike but for those of some regularisers."""
    found = {}
    for name in (*REGULARISERS, MATCHED, CURE):
        values = changed.get(name.replace("-", "_").replace(" ", "_"), (99.0, 60.0, 50.0, 1.0, 0.9))
        for weight in TASK.effort.weights:
            found[name, weight] = Row(name=name, entries=[Entry(ours=[value]) for value in values])
    return found


LOST = (None,) * 5
AT_CHANCE = (55.0, 55.0, 55.0, 9.0, 9.0)


def test_the_numbers_of_examples():
    assert (TASK.n, TASK.near) == (1000, 100)
    (resnet,) = replace(SHORT, networks=("resnet",))._tasks("resnet")
    assert (resnet.n, resnet.near) == (200, 20)
    (whole,) = Guo2020()._tasks("mlp")
    assert (whole.n, whole.near) == (2000, 2000)
    (many,) = replace(SHORT, mlp=replace(SHORT.mlp, n=5000))._tasks("mlp")
    assert many.n == 2000
    drawn = SHORT._figure(Guo2, TASK)
    assert (drawn.n, drawn.near) == (1000, 100)


def test_two_regularisers_are_similar_only_beyond_chance():
    assert SHORT._similar(TASK, rows()).holds is True
    assert SHORT._similar(TASK, rows(Jacobian=(99.0, 60.0, 40.0, 1.0, 0.9))).holds is False
    assert SHORT._similar(TASK, rows(Jacobian=(99.0, 60.0, 44.0, 1.0, 0.9))).holds is None
    assert SHORT._similar(TASK, rows(Jacobian=(99.0, 60.0, 50.0, 1.0, 0.7))).holds is False
    assert SHORT._similar(TASK, rows(Jacobian=LOST)).holds is None
    one_missing = rows()
    one_missing["Jacobian", 0.1] = rows(Jacobian=(99.0, 60.0, 50.0, 1.0, None))["Jacobian", 0.1]
    claim = SHORT._similar(TASK, one_missing)
    assert claim.holds is True
    assert "both known at 7 of 8" in claim.evidence
    without = SHORT._similar(TASK, rows(Jacobian=(99.0, 60.0, 50.0, 1.0, None)))
    assert without.holds is None
    assert "known for both at no weight" in without.evidence


def test_the_most_alike_are_told_from_chance():
    assert SHORT._closest(TASK, rows()).holds is None
    apart = rows(input_gradient=(99.0, 50.0, 40.0, 1.0, 0.9), curvature=(99.0, 70.0, 60.0, 1.0, 0.9))
    assert SHORT._closest(TASK, apart).holds is True
    assert SHORT._closest(TASK, rows(Jacobian=(99.0, 30.0, 20.0, 1.0, 0.9))).holds is False
    assert SHORT._closest(TASK, rows(curvature=LOST)).holds is None


def test_a_missing_value_is_neither_for_nor_against_the_curvature():
    ahead = (99.0, 60.0, 60.0, 1.0, 1.1)
    assert SHORT._curvature_best(TASK, rows()).holds is None
    assert SHORT._curvature_best(TASK, rows(curvature=ahead)).holds is True
    assert SHORT._curvature_best(TASK, rows(curvature=(99.0, 60.0, 51.0, 1.0, 1.1))).holds is None
    assert SHORT._curvature_best(TASK, rows(curvature=(99.0, 60.0, 40.0, 1.0, 1.1))).holds is False
    assert SHORT._curvature_best(TASK, rows(curvature=(99.0, 60.0, 60.0, 1.0, None))).holds is None
    assert SHORT._curvature_best(TASK, rows(curvature=ahead, Jacobian=(99.0, 60.0, 50.0, 1.0, None))).holds is None
    assert SHORT._curvature_best(TASK, rows(curvature=ahead, Jacobian=LOST)).holds is None
    assert SHORT._curvature_best(TASK, rows(curvature=ahead, Jacobian=AT_CHANCE)).holds is None
    assert SHORT._curvature_best(TASK, rows(curvature=LOST)).holds is None
    assert (FGSM, PGD, CW) == (1, 2, 4)


def test_the_curvature_at_the_chosen_weights():
    weights = dict.fromkeys(REGULARISERS, 0.1)
    for left, holds in ((60.0, True), (40.0, False), (51.0, None)):
        assert SHORT._ahead_at(TASK, rows(curvature=(99.0, 60.0, left, 1.0, 1.0)), weights).holds is holds
    ahead = rows(curvature=(99.0, 60.0, 60.0, 1.0, 1.0))
    assert SHORT._ahead_at(TASK, ahead, {"curvature": 0.1, "Jacobian": 0.1}).holds is None


def test_cure_must_be_ahead_of_every_other():
    assert SHORT._cure_best(TASK, rows(CURE=(99.0, 60.0, 60.0, 1.0, 1.0))).holds is True
    assert SHORT._cure_best(TASK, rows(CURE=(99.0, 60.0, 40.0, 1.0, 1.0))).holds is False
    assert SHORT._cure_best(TASK, rows(CURE=(99.0, 60.0, 60.0, 1.0, 1.0), Jacobian=LOST)).holds is None
    assert SHORT._cure_best(TASK, rows()).holds is None


def test_the_matched_weight_is_told_from_chance():
    at_k_over_2 = {MATCHED.replace("-", "_").replace(" ", "_"): (99.0, 40.0, 30.0, 1.0, 0.9)}
    moved = (99.0, 40.0, 30.0, 1.0, 0.9)
    assert SHORT._matched(TASK, rows(**at_k_over_2, Jacobian=moved)).holds is True
    assert SHORT._matched(TASK, rows(**at_k_over_2)).holds is False
    assert SHORT._matched(TASK, rows()).holds is None
    assert SHORT._matched(TASK, rows(Jacobian=LOST)).holds is None


def test_far_more_is_more_than_a_few_points():
    def claim(task, fgsm: float, pgd: float, published: float | None = 7.84):
        found = Row(name="", entries=[Entry(ours=[99.0]), Entry(ours=[fgsm]), Entry(ours=[pgd], published=published)])
        return guo2020._finds_more([task], [found])

    assert claim(TASK, 35.0, 8.0).holds is True
    assert claim(TASK, 20.0, 19.0).holds is False
    assert claim(TASK, 20.0, 13.0).holds is None
    assert claim(TASK, 35.0, 8.0, published=None).holds is None


def runs(folder: Path, *diverged: tuple[str, float], weights=(0.1, 6.4)):
    """Return the runs of two regularisers, of which some diverged."""
    found = {}
    for key in ((name, weight) for name in ("curvature", "Jacobian") for weight in weights):
        run = folder / f"{key[0]}-{key[1]}"
        run.mkdir(parents=True)
        if key in diverged:
            (run / DIVERGED).write_text("")
        found[key] = [run]
    return found


def test_stability_is_of_the_rate_of_the_policy_and_of_the_grid(tmp_path):
    at_rate = replace(TASK, effort=replace(TASK.effort, tuning_lr=SHORT.lr))
    stable = runs(tmp_path / "a", ("curvature", 6.4))
    assert SHORT._stable(at_rate, stable).holds is True
    assert SHORT._stable(at_rate, runs(tmp_path / "b", ("curvature", 0.1))).holds is False
    slower = SHORT._stable(TASK, stable)
    assert slower.holds is None
    assert "0 of its trainings diverged, and 0 of the others" in slower.evidence
    assert "at 0.01 curvature regularisation of LeNet-300-100 met NaN" in slower.evidence


def test_a_training_that_goes_through_at_a_lower_rate_says_nothing(tmp_path):
    at_rate = replace(TASK, effort=replace(TASK.effort, tuning_lr=SHORT.lr))
    found = runs(tmp_path, ("Jacobian", 6.4))
    assert SHORT._gave_nan(TASK, found, ["Jacobian"], 6.4).holds is True
    assert SHORT._gave_nan(at_rate, found, ["Jacobian", "curvature"], 6.4).holds is False
    open_claim = SHORT._gave_nan(TASK, found, ["curvature"], 6.4, "beyond λ = 1.6")
    assert open_claim.holds is None
    assert "beyond λ = 1.6 (here: at 6.4)" in open_claim.text


def test_a_network_at_chance_is_not_held_against_the_distance_that_is_said():
    for values, holds in (((99.0, 60.0, 50.0, 1.0, 1.9), True), ((99.0, 60.0, 50.0, 1.0, 1.0), False)):
        found = {("curvature", 6.4): Row(name="", entries=[Entry(ours=[value]) for value in values])}
        assert SHORT._beyond(TASK, found).holds is holds
    at_chance = {("curvature", 6.4): Row(name="", entries=[Entry(ours=[value]) for value in AT_CHANCE])}
    assert SHORT._beyond(TASK, at_chance).holds is None


def test_the_curvature_of_ten_classes_is_exact_where_the_scale_says_so(tmp_path):
    source = replace(SHORT, mnist="digits", train_limit=130, mlp_ten=replace(SHORT.mlp_ten, weights=(0.1,)))
    (task,) = source._tasks("mlp_ten")
    found = runs(tmp_path, weights=(0.1,))
    sampled, exact = (replace(source, exact=exact)._exact_curvature(task, found) for exact in (False, True))
    assert "by one power step, which gives a lower bound" in sampled.text
    assert "needs no approximation" in exact.text
    assert sampled.holds is exact.holds is True
    costs, exact_costs = (replace(source, exact=exact)._costs(task) for exact in (False, True))
    assert 2 < costs["curvature"] < 5 < exact_costs["curvature"]


def test_clean_accuracy_is_of_all_and_the_others_of_the_first(monkeypatch):
    monkeypatch.setattr(guo2020, "accuracies", lambda runs, attack, threat=None, most=None: [float(most or 2000)])
    monkeypatch.setattr(guo2020, "_distances", lambda runs, attack: [None])
    entries = guo2020._entries(TASK, REFERENCE, [], SHORT._figure(Guo2, TASK))
    assert [entry.ours for entry in entries] == [[2000.0], [1000.0], [1000.0], [None], [None]]
    said = guo2020._numbers(TASK)
    assert "all 2000 test examples" in said
    assert said.endswith("of the first 1000")


def test_a_figure_asks_for_no_more_examples_than_all_its_networks_have():
    lab = SimpleNamespace(draw=lambda figure, runs: (type(figure).__name__, figure.n, figure.near))
    source = replace(SHORT, networks=("cifar_lenet", "resnet"), resnet=replace(SHORT.resnet, n=100))
    tasks = source._tasks("cifar_lenet", "resnet")
    assert source._drawn(lab, 6, [{}, {}], tasks) == [("Guo6", 100, 20)]
    assert replace(source, figures=(4,))._drawn(lab, 6, [{}, {}], tasks) == []
