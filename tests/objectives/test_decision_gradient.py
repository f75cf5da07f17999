"""The slope of the decision function against a slow twin."""

import pytest
import torch
import torch.nn.functional as F
from test_objectives import INF, compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta.autodiff import Decision
from meseta.errors import UserError
from meseta.geometry import GradientNorm
from meseta.objectives import DecisionGradient, Erm


@pytest.mark.parametrize("q", [1, 2, INF])
def test_decision_gradient(batch, q):
    total = 0
    for x, y in zip(batch.x, batch.y, strict=True):
        point = x[None].clone().requires_grad_()
        z = batch.model(point)[0]
        decision = z[y] - max(z[j] for j in range(len(z)) if j != y)
        slope = torch.linalg.vector_norm(torch.autograd.grad(decision, point, create_graph=True)[0], q)
        total = total + F.cross_entropy(z[None], y[None]) + 0.3 * slope
    compare(DecisionGradient(weight=0.3, q=q)(batch.model, batch.x, batch.y), total / len(batch.x), batch.model)


def test_of_a_linear_model_it_is_a_row_difference():
    model = nn.Linear(5, 3).double()
    x, y = torch.rand(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    z, w = model(x).detach(), model.weight.detach()
    rivals = z.scatter(1, y[:, None], -INF).argmax(1)
    terms = DecisionGradient(q=1)(model, x, y).terms
    torch.testing.assert_close(terms["decision_gradient"], (w[y] - w[rivals]).abs().sum(1))


@pytest.mark.parametrize("q", [1, 2])
def test_passes_gradcheck_in_the_parameters(q):
    torch.manual_seed(0)
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)

    def total(a, b):
        return DecisionGradient(q=q)(lambda inputs: torch.tanh(inputs @ a.T) @ b.T, x, y).total

    assert gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


@pytest.mark.parametrize("q", [1, 2, INF])
def test_training_lowers_the_slope_on_held_out_data(q):
    def slope(objective):
        return GradientNorm(field=Decision(), q=q)(*trained(objective)).value.mean()

    assert slope(DecisionGradient(weight=0.1, q=q)) < 0.7 * slope(Erm())


@pytest.mark.parametrize("bad", [{"weight": -1}, {"q": 0.5}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        DecisionGradient(**bad)
