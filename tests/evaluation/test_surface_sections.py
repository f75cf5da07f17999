"""Surfaces as sections of a record: what they say is what the model does."""

import pytest
import torch
from torch import nn

from meseta.attacks import PGD
from meseta.autodiff import CrossEntropy, Decision, Logit
from meseta.errors import UserError
from meseta.evaluation import parameter_surface, surface
from meseta.evaluation.record import Surface
from meseta.surfaces import Adversarial, Gradient, Random
from meseta.threat import Threat


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.SiLU(), nn.Dropout(0.5), nn.Linear(12, 3)).double()


X = torch.rand(6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


def test_a_surface_says_what_the_model_does_at_its_points(network):
    network.train()
    found = surface(
        network, X, Y, index=4, axes=(Random(), Gradient()), fields=(CrossEntropy(), Logit(index=2)), resolution=5
    )
    assert network.training
    assert network.eval()(X[4:5]).argmax() == found.predicted
    assert (found.label, found.index, found.norm, found.eps) == (1, 4, "Linf", 8 / 255)
    assert found.x == found.y == pytest.approx([-24 / 255, -12 / 255, 0, 12 / 255, 24 / 255], rel=1e-5)
    assert list(found.fields) == ["CrossEntropy", "Logit(index=2)", "Decision"]
    logits = network(X[4:5])
    centre = {name: rows[2][2] for name, rows in found.fields.items()}
    assert centre["CrossEntropy"] == pytest.approx(nn.functional.cross_entropy(logits, Y[4:5]).item(), rel=1e-4)
    assert centre["Logit(index=2)"] == pytest.approx(logits[0, 2].item(), rel=1e-4)
    assert centre["Decision"] == pytest.approx(Decision().of_logits(logits, Y[4:5]).item(), rel=1e-4)
    assert Surface.model_validate_json(found.model_dump_json()) == found


def test_distances_and_path_agree_with_the_field(network):
    network.eval()
    y = network(X).argmax(1)
    found = surface(network, X, y, index=1, threat=Threat("L2", 2.0), span=4.0, resolution=41, attack=PGD(steps=10))
    axis = found.axes[1]
    assert axis.name == "Adversarial(CrossEntropy)"
    column = [row[20] for row in found.fields["Decision"]]
    first = next(i for i in range(20, 41) if column[i] < 0)
    assert found.y[first - 1] <= axis.forwards <= found.y[first]
    assert found.path.succeeded
    assert found.path.points[0] == (0, 0)
    assert 0 <= found.path.off <= 1
    assert found.cosine == pytest.approx(0, abs=0.8)


def test_runs_on_the_axes_of_another_model_show_the_same_plane(network):
    torch.manual_seed(3)
    other = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double()
    own = surface(network, X, Y, resolution=3)
    alone, borrowed = surface(other, X, Y, resolution=3), surface(other, X, Y, resolution=3, axes_of=network, of="a")
    assert own.plane == borrowed.plane != alone.plane
    assert borrowed.of == "a"
    assert borrowed.fields != own.fields


def test_clipped_points_are_valid_inputs_and_values_that_are_not_finite_are_none(network):
    def outside(x):
        inside = ((x >= 0) & (x <= 1)).flatten(1).all(1, keepdim=True)
        return torch.where(inside, network.eval()(x), torch.nan)

    flat, clipped = (
        surface(outside, X, Y, span=1.0, resolution=5, clipped=c, axes=(Random(), Random())) for c in (False, True)
    )
    assert flat.fields["Decision"][0][0] is None
    assert all(value is not None for row in clipped.fields["Decision"] for value in row)
    assert (flat.clipped, clipped.clipped) == (False, True)


def test_a_model_without_finite_logits_predicts_nothing(network):
    found = surface(lambda x: network(x) * torch.nan, X, Y, axes=(Random(), Random()), resolution=3)
    assert (found.label, found.predicted) == (0, None)


def test_means_over_parameters(network):
    found = parameter_surface(network, X, Y, resolution=3, span=0.1)
    network.eval()
    assert found.fields["CrossEntropy"][1][1] == pytest.approx(
        nn.functional.cross_entropy(network(X), Y).item(), rel=1e-4
    )
    assert (found.space, found.index, found.norm, found.n) == ("parameters", None, None, 6)
    with pytest.raises(UserError, match="must be a Module"):
        parameter_surface(lambda x: x, X, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": 6}, "`index` must be below the 6 examples"),
        ({"fields": ()}, "at least one field"),
        ({"fields": (Random(),)}, "`fields` must be a ScalarField"),
        ({"resolution": 1}, "`resolution` must be a whole number"),
        ({"span": 0.0}, "`span` must be positive"),
        ({"axes": (Random(),)}, "two axes"),
        ({"axes": (Adversarial(), Adversarial())}, "twice is one direction"),
        ({"threat": Threat("Linf", 0.1, (0.4, 0.5))}, "must lie in the bounds"),
    ],
)
def test_mistakes_are_named(network, options, message):
    with pytest.raises(UserError, match=message):
        surface(network, X, Y, **options)
