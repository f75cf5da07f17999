"""Level sets whose curvature is known; reparametrisations, which must not change it."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, Logit, Margin, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.geometry import LevelSetCurvature
from meseta.linalg import Lanczos


def of(f, x, **settings):
    """Measure the level sets of f, as a margin of two logits."""

    def model(inputs):
        value = f(inputs)
        return torch.stack([value, torch.zeros_like(value)], 1)

    return LevelSetCurvature(field=Margin(rival=1), **settings)(model, x, torch.zeros(len(x), dtype=torch.long))


@pytest.fixture
def points(generator):
    return torch.randn(6, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sphere_has_curvature_one_over_its_radius(points, dtype):
    x = points.to(dtype)
    outwards = of(lambda v: (v**2).sum(1), x)
    torch.testing.assert_close(outwards.value, 1 / x.norm(dim=1))
    assert outwards.converged.all()
    assert outwards.value.dtype == dtype
    inwards = of(lambda v: -(v**2).sum(1), x)
    torch.testing.assert_close(inwards.value, -1 / x.norm(dim=1))
    torch.testing.assert_close(inwards.parts["gradient"], 2 * x.norm(dim=1))


def test_a_cylinder_has_that_of_its_circle(points):
    found = of(lambda v: (v[:, :2] ** 2).sum(1), points)
    torch.testing.assert_close(found.value, 1 / points[:, :2].norm(dim=1))


def test_a_plane_has_none_whatever_f_does_along_its_normal(points):
    w = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0], dtype=torch.float64)
    found = of(lambda v: torch.tanh(v @ w) + 2 * (v @ w) ** 2, points)
    assert (found.value.abs() < 1e-12).all()


def test_a_saddle_has_the_larger_of_its_two_with_its_sign():
    """x_3 = (a x_1^2 + b x_2^2) / 2 at the origin has the principal curvatures a and b."""
    for a, b, expected in ((1.0, -3.0, -3.0), (2.0, -1.0, 2.0)):
        found = of(lambda v, a=a, b=b: (a * v[:, 0] ** 2 + b * v[:, 1] ** 2) / 2 - v[:, 2], torch.zeros(1, 3).double())
        torch.testing.assert_close(found.value, torch.tensor([expected], dtype=torch.float64))


def test_it_does_not_depend_on_the_values_of_f(smooth_batch):
    b = smooth_batch
    exact = Lanczos(tol=1e-8)
    f = Logit(index=0).bind(b.model, b.x, b.y)
    truth = of(f, b.x, solver=exact).value
    for phi in (torch.exp, torch.tanh, lambda t: t + t**3, lambda t: 100 * t):
        torch.testing.assert_close(of(lambda v, phi=phi: phi(f(v)), b.x, solver=exact).value, truth)
    torch.testing.assert_close(of(lambda v: -f(v), b.x, solver=exact).value, -truth)


def test_the_loss_of_two_classes_has_the_level_sets_of_the_margin():
    """Also where the model is so confident that the gradient of the loss is 1e-20."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.SiLU(), nn.Linear(9, 2)).double()
    x = torch.rand(5, 6, dtype=torch.float64)
    y = model(x).argmax(1)
    scale = 46 / Decision().of_logits(model(x), y).detach()

    def confident(inputs):
        return scale[:, None] * model(inputs)

    solver = Lanczos(tol=1e-8)
    loss = LevelSetCurvature(solver=solver)(confident, x, y)
    assert (loss.parts["gradient"] < 1e-15).all()
    margin = LevelSetCurvature(field=Margin(), solver=solver)(model, x, y)
    torch.testing.assert_close(loss.value, -margin.value, rtol=1e-6, atol=0)


@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
def test_equals_its_dense_definition(smooth_batch, field):
    b = smooth_batch
    f = field.bind(b.model, b.x, b.y)
    g = value_and_gradient(f, b.x)[1].flatten(1)
    n = g / g.norm(dim=1, keepdim=True)
    p = torch.eye(g.shape[1], dtype=torch.float64) - n[:, :, None] * n[:, None]
    truth = torch.linalg.eigvalsh(p @ dense_hessian(f, b.x) @ p / g.norm(dim=1)[:, None, None])
    truth = truth.gather(1, truth.abs().argmax(1, keepdim=True)).squeeze(1)
    found = LevelSetCurvature(field=field)(b.model, b.x, b.y)
    torch.testing.assert_close(found.value, truth, rtol=1e-3, atol=0)
    assert found.converged.all()


def test_undefined_where_the_gradient_is_zero_and_for_one_value():
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    found = of(lambda v: (v**2).sum(1), x)
    assert found.value[0].isnan()
    torch.testing.assert_close(found.value[1], torch.tensor(1.0, dtype=torch.float64))
    assert found.converged.tolist() == [False, True]
    assert of(lambda v: v[:, 0] ** 2, torch.ones(2, 1)).value.isnan().all()


def test_the_margin_of_a_piecewise_linear_network_and_ends_of_the_spectrum_are_refused(relu_batch):
    b = relu_batch
    with pytest.raises(UserError, match="LevelSetCurvature: the margins' Hessian is exactly zero"):
        LevelSetCurvature(field=Margin())(b.model, b.x, b.y)
    assert LevelSetCurvature()(b.model, b.x, b.y).value.all()
    with pytest.raises(
        UserError, match="`solver` must look for the largest_magnitude eigenvalue, got which='smallest'"
    ):
        LevelSetCurvature(solver=Lanczos(which="smallest"))
    with pytest.raises(UserError, match="`solver`"):
        LevelSetCurvature(solver=2)
