from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from meseta.data import DataConfig
from meseta.models import LeNet300100
from meseta.objectives import CrossLipschitz, Curvature, Jacobian
from meseta.report.reproduced import Entry, Row
from meseta.reproductions import Guo2020
from meseta.reproductions import guo2020_propositions as module
from meseta.reproductions.guo2020 import CW, FGSM, MATCHED, PGD, PUBLISHED, REFERENCE, REGULARISERS
from meseta.reproductions.guo2020_propositions import (
    Findings,
    LastLayer,
    LinearPieces,
    overstatement,
    propositions,
)

SHORT = Guo2020.at("short")
(TASK,) = SHORT._tasks("mlp")


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
    assert pieces.failures(pieces.eq16(gap, classes**2), upper) == 0
    assert pieces.failures(pieces.eq17(gap), upper) == 0
    if classes == 2:
        assert pieces.failures(pieces.eq16(gap, classes * (classes - 1)), upper) > 10


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
    at = 0.0 if classes == 2 else 1.0, 0.0
    return Findings(classes, dict.fromkeys(names, share), dict.fromkeys(names, 1.0), dict.fromkeys(module.WEIGHTS, at))


def test_the_propositions_claims_come_out_either_way():
    found = [propositions({"two": findings(2, share), "ten": findings(10, share)}).claims for share in (0.0, 7.0)]
    decided = [[claim.holds for claim in claims] for claims in found]
    for text in ("formal guarantee", "as printed, with K(K − 1)", "With K²", "(17)", "The chain", "without squares"):
        at = [i for i, claim in enumerate(found[0]) if text in claim.text]
        assert at, text
        assert all((decided[0][i], decided[1][i]) == (True, False) for i in at), text


def rows(**changed: tuple[float, ...]):
    """Return rows at every weight of the grid, alike but for those of some regularisers."""
    found = {}
    for name in REGULARISERS:
        values = changed.get(name.replace("-", "_").replace(" ", "_"), (99.0, 60.0, 50.0, 1.0, 0.9))
        for weight in TASK.effort.weights:
            found[name, weight] = Row(name=name, entries=[Entry(ours=[value]) for value in values])
    return found


def test_claims_about_the_regularisers_come_out_either_way():
    alike = rows()
    assert SHORT._similar(TASK, alike).holds
    assert not SHORT._similar(TASK, rows(Jacobian=(99.0, 60.0, 44.0, 1.0, 0.9))).holds
    assert not SHORT._similar(TASK, rows(Jacobian=(99.0, 60.0, 50.0, 1.0, 0.7))).holds
    assert not SHORT._curvature_best(TASK, alike).holds
    assert SHORT._curvature_best(TASK, rows(curvature=(99.0, 60.0, 51.0, 1.0, 1.0))).holds
    assert not SHORT._closest(TASK, alike).holds
    apart = rows(input_gradient=(99.0, 50.0, 40.0, 1.0, 0.9), curvature=(99.0, 70.0, 60.0, 1.0, 0.9))
    assert SHORT._closest(TASK, apart).holds
    assert (FGSM, PGD, CW) == (1, 2, 4)


def test_claims_are_open_where_trainings_diverged():
    lost = rows()
    for weight in TASK.effort.weights:
        lost["Jacobian", weight] = Row(name="Jacobian", entries=[Entry(ours=[None])] * 5)
        lost["curvature", weight] = Row(name="curvature", entries=[Entry(ours=[None])] * 5)
    assert SHORT._similar(TASK, lost).holds is None
    assert SHORT._closest(TASK, lost).holds is None
    assert SHORT._curvature_best(TASK, lost).holds is None
    assert SHORT._stable(TASK, {("curvature", 0.1): [Path("nowhere")]}).holds
