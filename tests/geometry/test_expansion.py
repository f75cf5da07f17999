"""Expansions along a direction: exact where the function is a polynomial of their order."""

import math

import pytest
import torch

from meseta.autodiff import CrossEntropy, Decision, Margin, value_and_gradient
from meseta.errors import UserError
from meseta.geometry import Expansion
from meseta.geometry.expansion import FIRST_ORDER, ITSELF, SECOND_ORDER
from meseta.threat import Threat

DIFFERENCE = "second order, difference at h = "


def polynomial(*coefficients):
    """Two logits whose margin is sum_k coefficients[k] sum_i x_i^k."""

    def model(x):
        value = sum(c * (x.flatten(1) ** k).sum(1) for k, c in enumerate(coefficients))
        return torch.stack([value, torch.zeros_like(value)], 1)

    return model


X, Y = 0.3 + 0.4 * torch.rand(3, 5, generator=torch.Generator().manual_seed(0)).double(), torch.zeros(3).long()


@pytest.mark.parametrize("direction", ["random", "gradient"])
def test_every_second_order_expansion_of_a_quadratic_is_itself_at_any_h(direction):
    """With t^2 ||eta|| / 2 before the difference along the unit vector, as in the caption; any other factor fails."""
    expansion = Expansion(field=Margin(), threat=Threat(eps=0.2), direction=direction, h=(0.01, 0.3, 2.0))
    found = expansion(polynomial(0.5, -1.0, 3.0), X, Y)
    assert set(found.curves) == {ITSELF, FIRST_ORDER, SECOND_ORDER, *(f"{DIFFERENCE}{h}" for h in ("0.01", "0.3", "2"))}
    truth = found.curves.pop(ITSELF)
    first = found.curves.pop(FIRST_ORDER)
    assert ((truth - first)[:, -1] > 1e-3).all()
    for curve in found.curves.values():
        torch.testing.assert_close(curve, truth, rtol=1e-9, atol=1e-12)


def test_a_linear_function_is_its_first_order():
    found = Expansion(field=Margin(), h=())(polynomial(0.0, 2.0), X, Y)
    for name in (FIRST_ORDER, SECOND_ORDER):
        torch.testing.assert_close(found.curves[name], found.curves[ITSELF])
    assert found.t[0] == 0
    assert found.t[-1] == 1


def test_of_a_cubic_each_expansion_misses_what_it_must():
    """f = sum x^3: f(x + t eta) is the Taylor series; the difference adds t^2/2 * 3 h sum eta^3 / ||eta||."""
    found = Expansion(field=Margin(), threat=Threat(eps=0.3), h=(0.5,))(polynomial(0, 0, 0, 1.0), X, Y)
    eta, t = found.eta, found.t
    cubic = (eta**3).sum(1)[:, None]
    itself = found.curves[ITSELF]
    torch.testing.assert_close(itself - found.curves[SECOND_ORDER], t**3 * cubic)
    extra = t**2 / 2 * 3 * 0.5 * cubic / eta.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.curves[f"{DIFFERENCE}0.5"] - found.curves[SECOND_ORDER], extra)


def test_with_h_the_length_of_the_step_the_slope_at_its_end_is_right(smooth_batch):
    b = smooth_batch
    threat = Threat(eps=0.1, bounds=None)
    length = float(Expansion(threat=threat, h=())(b.model, b.x, b.y).eta[0].norm())
    found = Expansion(threat=threat, h=(length,), points=11)(b.model, b.x, b.y)
    curve = found.curves[f"{DIFFERENCE}{length:g}"]
    slope = (3 * curve[:, -1] - 4 * curve[:, -2] + curve[:, -3]) / (2 * found.t[1])  # exact: it is quadratic in t
    _, there = value_and_gradient(CrossEntropy().bind(b.model, b.x, b.y), b.x + found.eta)
    torch.testing.assert_close(slope, (there * found.eta).flatten(1).sum(1), rtol=1e-6, atol=1e-9)


def test_the_step_lies_in_ball_and_bounds_and_does_not_depend_on_the_batch(smooth_batch):
    b = smooth_batch
    threat = Threat("L2", 1.5)
    for direction in ("random", "gradient"):
        expansion = Expansion(threat=threat, direction=direction, h=(0.1,))
        found = expansion(b.model, b.x, b.y)
        assert threat.contains(b.x + found.eta, b.x).all()
        alone = expansion(b.model, b.x[2:3], b.y[2:3])
        for name, curve in found.curves.items():
            torch.testing.assert_close(alone.curves[name][0], curve[2], rtol=1e-9, atol=1e-10)
    again = Expansion(threat=threat, seed=1)(b.model, b.x, b.y)
    assert not torch.equal(again.eta, Expansion(threat=threat)(b.model, b.x, b.y).eta)


def test_the_steepest_step_raises_a_loss_and_lowers_a_margin(smooth_batch):
    b = smooth_batch
    for field, sign in ((CrossEntropy(), 1), (Decision(), -1)):
        curve = Expansion(field=field, direction="gradient", threat=Threat(eps=1e-3, bounds=None))(b.model, b.x, b.y)
        rise = curve.curves[ITSELF][:, -1] - curve.curves[ITSELF][:, 0]
        assert (sign * rise > 0).all()


@pytest.mark.parametrize(
    "bad", [{"direction": "up"}, {"h": (0.1, 0.0)}, {"points": 1}, {"seed": -1}, {"field": 3}, {"threat": 0.1}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Expansion(**bad)


def test_a_difference_below_the_resolution_is_refused():
    with pytest.raises(UserError, match="would measure rounding"):
        Expansion(field=Margin(), h=(1e-8,))(polynomial(0, 1.0, 1.0), X.float(), Y)


def test_inputs_outside_the_bounds_are_refused_and_nan_stays_nan():
    with pytest.raises(UserError, match="bounds"):
        Expansion()(polynomial(0, 1.0), X + 1, Y)

    def broken(x):  # a logarithm of what the step makes negative
        value = (x[:, 0] - 0.3).log()
        return torch.stack([value, torch.zeros_like(value)], 1)

    found = Expansion(field=Margin(), threat=Threat(eps=0.5), direction="gradient", h=())(broken, X, Y)
    assert found.curves[ITSELF][:, -1].isnan().all()
    assert math.isfinite(found.curves[SECOND_ORDER][0, -1])
