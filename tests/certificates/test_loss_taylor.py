"""Both forms of the lemma around the exact minimiser of the quadratic model, and the threshold log 2."""

import math

import pytest
import torch
from quadratic_model import exact_distance
from torch import nn

from meseta.autodiff import CrossEntropy, dense_hessian, value_and_gradient
from meseta.certificates import LossTaylor
from meseta.errors import UserError
from meseta.linalg import Lanczos, OperatorNorm

TIGHT = Lanczos(which="largest", tol=1e-8)


def network(activation, classes, inputs=4):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(inputs, 12), activation, nn.Linear(12, classes)).double()
    model[2].weight.data *= 12
    x = torch.rand(60, inputs, dtype=torch.float64)
    confidence, y = model(x).softmax(1).max(1)
    right = confidence > 0.55
    return model, x[right][:12], y[right][:12]


def quadratic_model(model, x, y):
    f = CrossEntropy().bind(model, x, y)
    value, gradient = value_and_gradient(f, x)
    return gradient, dense_hessian(f, x), math.log(2) - value


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU(), nn.Tanh()])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_two_forms_enclose_the_exact_distance_in_the_quadratic_model(activation, classes):
    model, x, y = network(activation, classes)
    found = LossTaylor(solver=TIGHT)(model, x, y)
    g, h, gap = quadratic_model(model, x, y)
    exact = exact_distance(g, h, gap)
    assert len(x) == 12
    torch.testing.assert_close(found.parts["gap"], gap)
    torch.testing.assert_close(
        found.parts["curvature"], torch.linalg.eigvalsh(h)[:, -1].clamp_min(0), rtol=1e-6, atol=0
    )
    assert (found.value <= exact * (1 + 1e-6)).all()
    assert (exact <= found.parts["upper"] * (1 + 1e-6)).all()
    if classes == 2 and isinstance(activation, nn.ReLU):  # the gradient is the eigenvector
        torch.testing.assert_close(found.value, found.parts["upper"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
def test_in_linf_no_corner_of_the_box_gets_there_earlier_and_the_upper_form_does_get_there(activation):
    model, x, y = network(activation, 3)
    found = LossTaylor(norm="Linf", solver=TIGHT)(model, x, y)
    g, h, gap = quadratic_model(model, x, y)
    generator = torch.Generator().manual_seed(0)
    inside = 2 * torch.rand(4000, x.shape[1], generator=generator, dtype=torch.float64) - 1
    r = torch.cat([inside, inside.sign()]) * found.value[:, None, None]
    assert ((r @ g[:, :, None]).squeeze(2) + ((r @ h) * r).sum(2) / 2 <= gap[:, None] * (1 + 1e-9)).all()
    assert (found.value <= found.parts["upper"] * (1 + 1e-9)).all()


def test_d_times_the_eigenvalue_is_never_above_d_times_the_largest_column_sum():
    model, x, y = network(nn.Tanh(), 3)
    _, h, _ = quadratic_model(model, x, y)
    found = LossTaylor(norm="Linf", solver=TIGHT)(model, x, y)
    assert (found.parts["curvature"] <= x.shape[1] * h.abs().sum(2).amax(1) * (1 + 1e-6)).all()


def test_right_without_a_majority_has_distance_zero():
    model = nn.Linear(2, 3).double()
    model.weight.data = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.8, 0.0]], dtype=torch.float64)
    model.bias.data.zero_()
    found = LossTaylor()(model, torch.ones(1, 2, dtype=torch.float64), torch.tensor([0]))
    assert found.correct.all()
    assert found.value.item() == found.parts["upper"].item() == 0
    assert found.parts["gap"].item() < 0


def test_where_the_model_of_the_loss_bends_down_only_the_slope_counts():
    """A loss l0 + t - t^2 never rises by more than 1/4: the upper form is infinite where the gap is larger."""

    def model(x):
        loss = 0.2 + x[:, 0] - x[:, 0] ** 2 - x[:, 1] ** 2
        return torch.stack([torch.zeros_like(loss), loss.expm1().log()], 1)

    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    found = LossTaylor(solver=TIGHT)(model, x, y)
    assert found.parts["curvature"].item() == 0
    assert found.value.item() == pytest.approx(math.log(2) - 0.2)
    assert found.parts["upper"].item() == torch.inf


def test_bad_settings():
    with pytest.raises(UserError, match="`norm`"):
        LossTaylor(norm="L1")
    for solver in (Lanczos(), OperatorNorm(), "lanczos"):
        with pytest.raises(UserError, match="largest eigenvalue"):
            LossTaylor(solver=solver)
