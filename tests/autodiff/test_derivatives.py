"""Gradient, Jacobian, Hessian and Gauss-Newton products against dense twins and analytic truths."""

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from meseta.autodiff import (
    CrossEntropy,
    Decision,
    FiniteDifferenceHessian,
    GaussNewton,
    Hessian,
    LogitJacobian,
    Margin,
    dense_gauss_newton,
    dense_hessian,
    dense_jacobian,
    logits_and_jacobian,
    value_and_gradient,
)
from meseta.errors import UserError


def products(operator, dense, shape):
    v = torch.randn(shape, dtype=torch.float64)
    expected = torch.einsum("bde,be->bd", dense, v.flatten(1)).view(shape)
    torch.testing.assert_close(operator(v), expected, rtol=1e-8, atol=1e-10)


def test_gradient_is_per_example(batch):
    f = CrossEntropy().bind(batch.model, batch.x, batch.y)
    value, gradient = value_and_gradient(f, batch.x)
    for i in range(len(batch.x)):
        x, y = batch.x[i : i + 1], batch.y[i : i + 1]
        v, g = value_and_gradient(CrossEntropy().bind(batch.model, x, y), x)
        torch.testing.assert_close((value[i], gradient[i]), (v[0], g[0]))


def test_gradient_leaves_the_callers_tensors_alone(batch):
    x = batch.x.clone().requires_grad_()
    _, gradient = value_and_gradient(Decision().bind(batch.model, x, batch.y), x)
    assert x.grad is None
    assert not gradient.requires_grad
    assert all(p.grad is None for p in batch.model.parameters())


def test_gradient_of_a_constant_is_zero_and_of_a_detached_model_an_error(batch):
    _, gradient = value_and_gradient(lambda x: x.flatten(1).sum(1) * 0, batch.x)
    assert not gradient.any()
    with pytest.raises(UserError, match="cut off from its input"):
        value_and_gradient(lambda x: batch.model(x.detach()).detach().sum(1), batch.x)


def test_gradient_and_penalty_pass_gradcheck(smooth_batch):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    x = b.x[:].clone().requires_grad_()
    assert gradcheck(f, x)
    assert gradgradcheck(f, x)


@pytest.mark.parametrize("field", [CrossEntropy(), Margin(), Decision()])
def test_hessian_product_equals_dense_twin(batch, field):
    f = field.bind(batch.model, batch.x, batch.y)
    products(Hessian(f, batch.x), dense_hessian(f, batch.x), batch.x.shape)


def test_dense_hessian_equals_the_product_of_torch(smooth_batch):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    full = torch.autograd.functional.hessian(lambda x: f(x).sum(), b.x).flatten(4 if b.x.dim() == 4 else 2)
    d = b.x[0].numel()
    full = full.reshape(len(b.x), d, len(b.x), d)
    dense = dense_hessian(f, b.x)
    for i in range(len(b.x)):
        torch.testing.assert_close(dense[i], full[i, :, i])


def test_hessian_product_is_differentiable_in_the_parameters(smooth_batch):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    v = torch.randn_like(b.x)
    weight = next(b.model.parameters())

    def curvature():
        return (Hessian(f, b.x)(v, create_graph=True) * v).sum()

    (gradient,) = torch.autograd.grad(curvature(), weight)
    direction, h = torch.randn_like(weight), 1e-5
    with torch.no_grad():
        weight += h * direction
        up = curvature().item()
        weight -= 2 * h * direction
        down = curvature().item()
    assert (gradient * direction).sum().item() == pytest.approx((up - down) / (2 * h), rel=1e-5)


def test_finite_difference_tends_to_the_exact_product(smooth_batch):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    v = torch.randn_like(b.x)
    exact = Hessian(f, b.x)(v)
    errors = [(FiniteDifferenceHessian(f, b.x, h)(v) - exact).abs().max().item() for h in (1e-2, 1e-3, 1e-4)]
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.2)
    assert errors[2] == pytest.approx(errors[1] / 10, rel=0.2)


def test_finite_difference_sees_curvature_that_a_relu_margin_hides(relu_batch):
    b = relu_batch
    f = Margin().bind(b.model, b.x, b.y)
    v = torch.randn_like(b.x)
    assert not Hessian(f, b.x)(v).any()
    assert FiniteDifferenceHessian(f, b.x, 0.5)(v).any()


def test_finite_difference_of_the_zero_vector_is_zero(smooth_batch):
    b = smooth_batch
    h = FiniteDifferenceHessian(CrossEntropy().bind(b.model, b.x, b.y), b.x, 0.1)
    assert not h(torch.zeros_like(b.x)).any()


def test_finite_difference_refuses_a_radius_below_the_resolution():
    model = nn.Linear(3072, 2)
    x, y = torch.full((2, 3072), 0.9), torch.tensor([0, 1])
    f = CrossEntropy().bind(model, x, y)
    v = torch.randn(2, 3072)
    for noisy in (1e-6, 1e-5):
        with pytest.raises(UserError, match="would measure rounding"):
            FiniteDifferenceHessian(f, x, noisy)(v)
    FiniteDifferenceHessian(f, x, 1e-2)(v)
    FiniteDifferenceHessian(CrossEntropy().bind(model.double(), x, y), x.double(), 1e-6)(v.double())


def test_jacobian_equals_dense_twin(batch):
    logits, jacobian = logits_and_jacobian(batch.model, batch.x)
    torch.testing.assert_close(logits, batch.model(batch.x))
    torch.testing.assert_close(jacobian, dense_jacobian(batch.model, batch.x))


def test_jacobian_of_a_linear_model_is_its_weight():
    model = nn.Linear(5, 3).double()
    _, jacobian = logits_and_jacobian(model, torch.rand(4, 5, dtype=torch.float64))
    torch.testing.assert_close(jacobian, model.weight.expand(4, 3, 5))


def test_jacobian_products_equal_the_dense_twin_wherever_they_are_linearized(batch):
    b = batch
    v, dense = LogitJacobian(b.model, b.x), dense_jacobian(b.model, b.x).flatten(2)
    u, direction = torch.randn_like(v.logits), torch.randn_like(b.x)
    forward = torch.einsum("bkd,bk->bd", dense, u).view_as(b.x)
    transposed = torch.einsum("bkd,bd->bk", dense, direction.flatten(1))
    torch.testing.assert_close(v.times(u), forward)
    torch.testing.assert_close(v.transposed_times(direction), transposed)
    torch.testing.assert_close(v.linearize(u), forward)
    torch.testing.assert_close(v.transposed_times(direction), transposed)


def test_gauss_newton_equals_dense_twin(batch):
    products(GaussNewton(batch.model, batch.x), dense_gauss_newton(batch.model, batch.x), batch.x.shape)


def test_gauss_newton_is_the_loss_hessian_of_a_piecewise_linear_network(relu_batch):
    b = relu_batch
    products(GaussNewton(b.model, b.x), dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x), b.x.shape)


def test_gauss_newton_keeps_its_precision_on_confident_examples():
    weight = torch.tensor([[40.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    x, v = torch.tensor([[1.0, 0.5]]), torch.tensor([[0.3, -0.7]])

    def product(dtype):
        model = nn.Linear(2, 3, bias=False).to(dtype)
        model.weight.data = weight.to(dtype)
        return GaussNewton(model, x.to(dtype))(v.to(dtype)).double()

    torch.testing.assert_close(product(torch.float32), product(torch.float64), rtol=1e-4, atol=0)
