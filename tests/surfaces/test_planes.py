"""Fields over planes: exact on linear models, and nothing of the model is touched."""

import pytest
import torch
from torch import nn

from meseta.attacks import FGSM, PGD
from meseta.autodiff import CrossEntropy, Decision, Margin
from meseta.linalg.norms import norm
from meseta.surfaces import (
    Adversarial,
    InputOrigin,
    InputPlane,
    ParameterOrigin,
    Random,
    attack_path,
    ball_outline,
    crossings,
    input_plane,
    over_parameters,
    over_plane,
    parameter_plane,
)
from meseta.threat import Threat

WEIGHT = torch.tensor([[1.0, -2, 0.5, 0.2], [0, 1, -1, 0.3]], dtype=torch.float64)
X = torch.tensor([[0.9, 0.1, 0.3, 0.5]], dtype=torch.float64)
GRID = torch.linspace(-0.4, 0.4, 9, dtype=torch.float64)


def linear(x):
    return x @ WEIGHT.T


def at(norm="Linf", eps=0.1, model=linear, bounds=(0.0, 1.0)):
    return InputOrigin(model, X, torch.tensor([0]), Threat(norm, eps, bounds))


@pytest.mark.parametrize("norm_name", ["Linf", "L2", "L1"])
def test_a_linear_model_has_planes_over_planes(norm_name):
    origin = at(norm_name)
    plane = input_plane(origin, [Random(), Random()])
    found = over_plane(plane, origin, {"L": Decision(), "loss": CrossEntropy()}, GRID, 2 * GRID, batch_size=7)
    slope = WEIGHT[0] - WEIGHT[1]
    i, j = (slope @ axis for axis in plane.axes)
    expected = slope @ X[0] + GRID[None, :] * i + 2 * GRID[:, None] * j
    torch.testing.assert_close(found["L"], expected)
    torch.testing.assert_close(found["loss"], torch.nn.functional.softplus(-expected))


def test_the_boundary_of_a_linear_model_is_where_it_must_be():
    origin = at()
    plane = input_plane(origin, [Random(), Adversarial()])
    slope = WEIGHT[0] - WEIGHT[1]
    margin = (slope @ X[0]).item()
    for (ahead, back), axis in zip(crossings(plane, origin, 5.0), plane.axes, strict=True):
        rate = (slope @ axis).item()
        toward, away = (ahead, back) if rate < 0 else (back, ahead)
        assert toward == pytest.approx(margin / abs(rate), rel=1e-9)
        assert away is None
    assert crossings(plane, origin, 0.01) == [(None, None), (None, None)]


def test_logits_that_are_not_finite_are_beyond_the_boundary():
    def broken(x):
        return torch.where(x[:, :1] > 1.0, torch.nan, linear(x))

    origin = at(model=broken)
    plane = InputPlane(X[0], torch.eye(4, dtype=torch.float64)[:2])
    assert crossings(plane, origin, 0.3)[0] == (pytest.approx(0.1, abs=1e-9), None)
    found = over_plane(plane, origin, {"L": Decision()}, GRID, GRID)["L"]
    assert found[:, GRID > 0.15].isnan().all()
    assert found[:, GRID < 0.05].isfinite().all()


def test_a_margin_keeps_the_rival_that_it_has_at_the_example():
    torch.manual_seed(0)
    model = nn.Linear(4, 5).double()
    origin = InputOrigin(model, X, model(X).argmax(1), Threat("L2", 1.0))
    plane = input_plane(origin, [Random(), Random()])
    rival = model(X).scatter(1, origin.y[:, None], -torch.inf).argmax()
    found = over_plane(plane, origin, {"m": Margin()}, 9 * GRID, 9 * GRID)["m"]
    points = plane.points(*(9 * torch.cartesian_prod(GRID, GRID)).flip(1).T)
    logits = model(points)
    torch.testing.assert_close(found.flatten(), (logits[:, origin.y] - logits[:, rival, None])[:, 0].detach())


@pytest.mark.parametrize("norm_name", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("clipped", [False, True])
def test_the_outline_of_the_ball_has_length_eps(norm_name, clipped):
    origin = at(norm_name, 0.2)
    plane = input_plane(origin, [Random(), Adversarial()], clipped=clipped)
    outline = torch.tensor(ball_outline(plane, origin, angles=64), dtype=torch.float64)
    moves = plane.points(*outline.T) - plane.x
    torch.testing.assert_close(norm(moves, origin.threat.p), torch.full((len(outline),), 0.2, dtype=torch.float64))
    if clipped:
        assert plane.points(*(50 * outline.T)).aminmax() == (0, 1)
    else:
        assert len(outline) == 65


def test_coordinates_find_back_the_points_and_measure_what_is_off():
    origin = at("L2")
    plane = input_plane(origin, [Random(), Adversarial()])
    where, off = plane.coordinates(plane.points(GRID, GRID.flip(0)))
    torch.testing.assert_close(where, torch.stack([GRID, GRID.flip(0)], 1))
    assert off.max() < 1e-12
    normal = torch.linalg.svd(plane.axes, full_matrices=True).Vh[-1]
    torch.testing.assert_close(plane.coordinates(plane.points(GRID[:1], GRID[:1]) + 0.3 * normal)[1].item(), 0.3)


def test_a_path_goes_from_the_input_over_each_iterate_to_the_end():
    origin = at("L2", 0.3)
    bim = PGD(threat=origin.threat, steps=5, random_start=False, drop_broken=False, alpha=0.05)
    path = attack_path(bim, linear, X, origin.y)
    assert len(path) == 6
    assert torch.equal(path[0], X[0])
    torch.testing.assert_close((path[1:] - path[:-1]).norm(dim=1), torch.full((5,), 0.05, dtype=torch.float64))
    assert torch.equal(path[-1:], bim(linear, X, origin.y))
    assert len(attack_path(FGSM(threat=origin.threat), linear, X, origin.y)) == 2
    long = PGD(threat=origin.threat, steps=300, alpha=1e-3, random_start=False, drop_broken=False)
    assert len(attack_path(long, linear, X, origin.y)) == 100


def test_the_attack_meets_the_model_in_eval_mode():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.SiLU(), nn.Linear(6, 2)).double()
    model(torch.rand(8, 4, dtype=torch.float64))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = attack_path(FGSM(threat=Threat("Linf", 0.1)), model, X, torch.tensor([0]))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    assert torch.equal(path, attack_path(FGSM(threat=Threat("Linf", 0.1)), model, X, torch.tensor([0])))


def test_means_over_parameters_are_those_of_a_model_with_these_parameters():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.SiLU(), nn.Flatten(), nn.Linear(27, 4)).double()
    model.train()
    x, y = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.randint(4, (6,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    origin = ParameterOrigin(model, x, y)
    plane = parameter_plane(origin, [Random(), Random()])
    found = over_parameters(plane, origin, {"loss": CrossEntropy()}, GRID[:3], GRID[4:6])["loss"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    model.eval()
    for row, j in enumerate(GRID[4:6].tolist()):
        for column, i in enumerate(GRID[:3].tolist()):
            nn.utils.vector_to_parameters(plane.at(i, j), model.parameters())
            torch.testing.assert_close(found[row, column], nn.functional.cross_entropy(model(x), y).detach())
