"""The input gradient by a finite difference of losses, at a radius."""

import pytest
import torch
import torch.nn.functional as F
from test_objectives import INF, compare, slow_losses_and_gradients, trained
from torch import nn

from meseta.errors import UserError
from meseta.geometry import GradientNorm
from meseta.linalg import dual_vector, norm
from meseta.objectives import Erm, InputGradient


def slow_direction(g, q):
    """The v with ||v||_p = 1 and <g, v> = ||g||_q, of a flat gradient."""
    if q == INF:
        v = torch.zeros_like(g)
        v[g.abs().argmax()] = g[g.abs().argmax()].sign()
        return v
    return g.sign() if q == 1 else g / g.norm()


@pytest.mark.parametrize("q", [1, 2, INF])
@pytest.mark.parametrize("power", [1, 2])
def test_at_a_radius(batch, q, power):
    h, total = 0.05, 0
    for x, y, loss, g in zip(batch.x, batch.y, *slow_losses_and_gradients(batch), strict=True):
        v = slow_direction(g.detach(), q)
        there = F.cross_entropy(batch.model(x[None] + h * (v / v.norm()).view_as(x)), y[None])
        total = total + loss + 0.3 * (v.norm() * (there - loss).abs() / h) ** power
    objective = InputGradient(weight=0.3, q=q, power=power, radius=h)
    compare(objective(batch.model, batch.x, batch.y), total / len(batch.x), batch.model)


@pytest.mark.parametrize("q", [1, 2, INF])
def test_the_difference_tends_to_the_norm_and_to_first_order_in_the_radius(smooth_batch, q):
    b = smooth_batch
    exact = InputGradient(q=q).penalize(b.model, b.x, b.y, None).terms["input_gradient"]
    errors = [
        (InputGradient(q=q, radius=h).penalize(b.model, b.x, b.y, None).terms["input_gradient"] - exact).abs()
        for h in (2e-3, 1e-3)
    ]
    assert (errors[1] < 1e-2 * exact).all()
    torch.testing.assert_close(errors[0] / errors[1], torch.full_like(exact, 2), rtol=0.1, atol=0)


@pytest.mark.parametrize("q", [1, 1.5, 2, 3, INF])
@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_dual_vectors(q, scale):
    torch.manual_seed(0)
    g = scale * torch.randn(5, 2, 3, dtype=torch.float64)
    g[3] = 0
    p = INF if q == 1 else 1 if q == INF else q / (q - 1)
    v = dual_vector(g, q)
    torch.testing.assert_close(norm(v, p), torch.tensor([1, 1, 1, 0, 1.0]).double())
    torch.testing.assert_close((g / scale * v).flatten(1).sum(1), norm(g / scale, q))


def test_rounding_in_single_precision_is_far_below_the_curvature_of_the_step(trained_cnn):
    model, x, y = trained_cnn
    x, y = x[:100], y[:100]
    single, double = (
        InputGradient(radius=1e-2)(m, i, y).terms["input_gradient"].double()
        for m, i in ((model, x), (model.double(), x.double()))
    )
    exact = InputGradient()(model, x.double(), y).terms["input_gradient"]
    model.float()
    rounding, truncation = ((a - b).abs() / exact for a, b in ((single, double), (double, exact)))
    assert rounding.max() < 2e-3
    assert rounding.median() < 0.02 * truncation.median()


def test_dropout_does_not_drown_the_difference():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Dropout(0.5), nn.Linear(32, 3)).double()
    x, y = torch.rand(8, 6).double(), torch.arange(8) % 3
    exact = InputGradient()(model.eval(), x, y).terms["input_gradient"]
    value = InputGradient(radius=1e-3)(model.train(), x, y)
    torch.testing.assert_close(value.terms["input_gradient"], exact, rtol=1e-2, atol=0)
    assert not torch.allclose(value.terms["cross_entropy"], F.cross_entropy(model.eval()(x), y, reduction="none"))


def test_training_lowers_the_gradient_on_held_out_data():
    def slope(objective):
        return GradientNorm()(*trained(objective)).value.mean()

    assert slope(InputGradient(weight=1.0, radius=1e-2)) < 0.7 * slope(Erm())


def test_a_radius_below_the_resolution_is_refused():
    model = nn.Linear(4, 3)
    with pytest.raises(UserError, match="`radius`"):
        InputGradient(radius=1e-6)(model, torch.ones(2, 4), torch.tensor([0, 2]))
    with pytest.raises(UserError, match="`radius`"):
        InputGradient(radius=0)
