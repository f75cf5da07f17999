"""The closed forms against the quadratic model of the loss and the linear piece."""

import math

import pytest
import torch
from quadratic_model import exact_distance
from torch import nn

from meseta.autodiff import CrossEntropy, dense_hessian, value_and_gradient
from meseta.certificates import BinaryTaylor, LinearPiece
from meseta.errors import UserError
from meseta.linalg import dual_vector, normalized

NORMS = pytest.mark.parametrize("name", ["L2", "Linf", "L1"])


def relu_net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2)).double()
    model[2].weight.data *= 8
    x = torch.rand(20, 4, dtype=torch.float64)
    return model, x, model(x).argmax(1)


def with_confidence(p):
    """A linear classifier of slope nu = 2 that gives class 0 the probability p at 0."""
    model = nn.Linear(1, 2).double()
    model.weight.data = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    model.bias.data = torch.tensor([math.log(p) - math.log1p(-p), 0.0], dtype=torch.float64)
    return model, torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0])


def test_is_the_exact_distance_in_the_quadratic_model():
    model, x, y = relu_net()
    f = CrossEntropy().bind(model, x, y)
    loss, g = value_and_gradient(f, x)
    exact = exact_distance(g, dense_hessian(f, x), math.log(2) - loss)
    torch.testing.assert_close(BinaryTaylor()(model, x, y).value, exact, rtol=1e-6, atol=0)


@NORMS
def test_is_the_formula_of_the_paper(name):
    model, x, y = relu_net()
    found = BinaryTaylor(norm=name)(model, x, y)
    p, nu = found.parts["confidence"], found.parts["slope"]
    torch.testing.assert_close(p, model(x).softmax(1).amax(1).detach())
    xi = math.log(2) + p.log()
    formula = ((1 + 2 * p * xi / (1 - p)).sqrt() - 1) / (p * nu)
    torch.testing.assert_close(found.value, formula, rtol=1e-9, atol=0)
    exact = LinearPiece(norm=name)(model, x, y).value
    torch.testing.assert_close(exact, (p / (1 - p)).log() / nu, rtol=1e-9, atol=0)
    assert (found.value >= exact * (1 - 1e-12)).all()


@pytest.mark.parametrize(("p", "ratio"), [(0.9, 1.22), (0.99, 2.35), (0.9999, 12.7)])
def test_overstates_the_distance_of_a_linear_classifier(p, ratio):
    model, x, y = with_confidence(p)
    found, exact = BinaryTaylor()(model, x, y).value, LinearPiece()(model, x, y).value
    assert (found / exact).item() == pytest.approx(ratio, rel=5e-3)


def test_keeps_its_precision_at_both_ends():
    nearly = 1e-11  # p = 1/2 + nearly / 4: there the model is exact to first order, and so is the distance nearly / 2
    model, x, y = with_confidence(0.5)
    model.bias.data[0] = nearly
    assert BinaryTaylor()(model, x, y).value.item() == pytest.approx(nearly / 2, rel=1e-9)
    model.bias.data[0] = 200.0  # 1 - p = e^-200: sqrt(2 log 2 / (p (1 - p))) / nu
    assert BinaryTaylor()(model, x, y).value.item() == pytest.approx(math.sqrt(2 * math.log(2)) * math.exp(100) / 2)


@NORMS
def test_no_point_of_the_ball_exceeds_the_worst_loss_and_the_steepest_step_meets_it(name):
    model, x, _ = relu_net()
    y = torch.arange(20) % 2  # right and wrong
    eps, bound = 0.3, BinaryTaylor(norm=name)
    f = CrossEntropy().bind(model, x, y)
    loss, g = value_and_gradient(f, x)
    h = dense_hessian(f, x)
    worst = bound.worst_loss(model, x, y, eps)
    q = {"L2": 2, "Linf": 1, "L1": torch.inf}[name]

    def quadratic(r):
        return loss + (g * r).sum(1) + torch.einsum("bd,bde,be->b", r, h, r) / 2

    torch.testing.assert_close(quadratic(eps * dual_vector(g, q)), worst)
    p = {"L2": 2, "Linf": torch.inf, "L1": 1}[name]
    for _ in range(200):
        assert (quadratic(eps * normalized(torch.randn_like(x), p)) <= worst * (1 + 1e-12)).all()
    torch.testing.assert_close(bound.worst_loss(model, x, y, 0), loss)


def test_more_classes_and_bad_settings_are_refused():
    model = nn.Linear(3, 4).double()
    x, y = torch.rand(2, 3, dtype=torch.float64), torch.tensor([0, 1])
    for ask in (lambda: BinaryTaylor()(model, x, y), lambda: BinaryTaylor().worst_loss(model, x, y, 0.1)):
        with pytest.raises(UserError, match="BinaryTaylor is about 2 classes, and the model has 4"):
            ask()
    with pytest.raises(UserError, match="`eps`"):
        BinaryTaylor().worst_loss(nn.Linear(3, 2).double(), x, y, -1)
    with pytest.raises(UserError, match="`norm`"):
        BinaryTaylor(norm="L0")
