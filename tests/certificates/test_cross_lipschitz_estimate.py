"""The largest slope in the ball against a grid, and the bound against true distances."""

import pytest
import torch
from torch import nn

from meseta.certificates import CrossLipschitzEstimate, LinearPiece
from meseta.errors import UserError

NORMS = pytest.mark.parametrize("name", ["L2", "Linf", "L1"])


def rising(x):
    """A margin whose slope grows along one axis: 1 - u - u^2, u = x_0; it vanishes at (sqrt 5 - 1) / 2."""
    u = x[:, 0]
    return torch.stack([1 - u - u**2, torch.zeros_like(u)], 1)


def relu_net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).double()
    model[2].weight.data *= 3
    x = torch.rand(8, 4, dtype=torch.float64)
    return model, x, model(x).argmax(1)


@NORMS
def test_is_exact_on_linear_models(name):
    torch.manual_seed(0)
    model = nn.Linear(5, 4).double().requires_grad_(False)
    x = torch.rand(7, 5, dtype=torch.float64)
    y = model(x).argmax(1)
    found, exact = CrossLipschitzEstimate(norm=name, steps=2)(model, x, y), LinearPiece(norm=name)(model, x, y)
    torch.testing.assert_close(found.value, exact.value)
    torch.testing.assert_close(found.parts["largest_slope"], exact.parts["slope"])


@NORMS
def test_finds_the_theorem_s_radius_where_the_slope_rises(name):
    """G(R) = 1 + 2 R, so that R G(R) = 1 at R = 1/2; the linear piece says 1, the truth is 0.618."""
    x, y = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0])
    point = LinearPiece(norm=name)(rising, x, y).value.item()
    sampled = CrossLipschitzEstimate(norm=name, samples=40, steps=0)(rising, x, y).value.item()
    climbed = CrossLipschitzEstimate(norm=name, samples=20, steps=4)(rising, x, y).value.item()
    assert point == pytest.approx(1)
    assert min(climbed, sampled) >= 0.5
    assert max(climbed, sampled) < 0.75
    assert climbed == pytest.approx(0.5, rel=0.1)


@NORMS
def test_on_a_piecewise_linear_network_samples_lower_the_linear_piece_s_distance(name):
    model, x, y = relu_net()
    piece = LinearPiece(norm=name)(model, x, y).value
    few, many = (CrossLipschitzEstimate(norm=name, samples=n, steps=0)(model, x, y).value for n in (4, 64))
    assert (many <= few).all()
    assert (few <= piece * (1 + 1e-12)).all()
    assert (many < 0.95 * piece).any()


def test_parts_belong_to_the_point_that_decides():
    model, x, y = relu_net()
    found = CrossLipschitzEstimate(samples=64)(model, x, y)
    assert (found.parts["largest_slope"] >= found.parts["slope"] * (1 - 1e-12)).all()
    assert (found.value >= found.parts["margin"] / found.parts["largest_slope"] * (1 - 1e-12)).all()


def test_where_the_point_is_flat_the_search_starts_in_the_unit_ball():
    def plateau(x):
        u = (x[:, 0] - 0.1).clamp_min(0)
        return torch.stack([1 - u, torch.zeros_like(u)], 1)

    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    assert LinearPiece()(plateau, x, y).value.item() == torch.inf
    assert CrossLipschitzEstimate(samples=64)(plateau, x, y).value.item() == pytest.approx(1)


def test_ascent_stays_where_the_slope_is_flat_and_gives_up():
    model, x, y = relu_net()
    sampled, climbed = (CrossLipschitzEstimate(samples=8, steps=n)(model, x, y).value for n in (0, 3))
    assert torch.equal(sampled, climbed)


def test_bad_settings():
    with pytest.raises(UserError, match="`samples` must be a whole number, at least 1"):
        CrossLipschitzEstimate(samples=0)
    with pytest.raises(UserError, match="`slab`"):
        CrossLipschitzEstimate(slab=0)
