import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, FiniteDifferenceHessian, Logit, Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import GradientNorm, SpectralCurvature
from meseta.linalg import Lanczos, PowerIteration


def eigenvalues(b, field):
    return torch.linalg.eigvalsh(dense_hessian(field.bind(b.model, b.x, b.y), b.x))


@pytest.mark.parametrize("field", [CrossEntropy(), Margin(), Decision(), Logit()])
def test_equals_dense_eigenvalues_with_sign(smooth_batch, field):
    b = smooth_batch
    truth = eigenvalues(b, field)
    largest = truth.gather(1, truth.abs().argmax(1, keepdim=True)).squeeze(1)
    for which, expected in (("largest_magnitude", largest), ("largest", truth[:, -1]), ("smallest", truth[:, 0])):
        measured = SpectralCurvature(field=field, solver=Lanczos(which=which, tol=1e-6))(b.model, b.x, b.y)
        torch.testing.assert_close(measured.value, expected, rtol=1e-4, atol=1e-9)
        assert measured.converged.all()


def test_defaults_are_within_one_percent(batch):
    measured = SpectralCurvature()(batch.model, batch.x, batch.y)
    truth = eigenvalues(batch, CrossEntropy()).abs().amax(1)
    torch.testing.assert_close(measured.value.abs(), truth, rtol=1e-2, atol=0)


def test_logistic_regression_has_curvature_p_one_minus_p_w_squared():
    model = nn.Linear(7, 2).double()
    x, y = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0])
    p = model(x).softmax(1)[:, 0]
    w = model.weight[0] - model.weight[1]
    measured = SpectralCurvature()(model, x, y)
    torch.testing.assert_close(measured.value, (p * (1 - p) * (w @ w)).detach())
    gradient = GradientNorm()(model, x, y)
    wrong = torch.where(y == 0, 1 - p, p)
    torch.testing.assert_close(gradient.value, (wrong * w.norm()).detach())


def test_a_margin_on_a_piecewise_linear_network_is_refused_and_the_ways_out_work(relu_batch):
    b = relu_batch
    with pytest.raises(UserError, match=r"exactly zero on all 6 examples.*piecewise-linear network .ReLU"):
        SpectralCurvature(field=Margin())(b.model, b.x, b.y)
    assert SpectralCurvature(field=CrossEntropy())(b.model, b.x, b.y).value.all()
    assert SpectralCurvature(field=Margin(), radius=0.5)(b.model, b.x, b.y).value.any()


def test_at_a_radius_a_quadratic_field_shows_its_exact_curvature():
    class Quadratic(nn.Module):
        def forward(self, x):
            q = 1.5 * x[:, :1] ** 2 - 2 * x[:, 1:2] ** 2
            return torch.cat([q, torch.zeros_like(q)], 1)

    x, y = torch.rand(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    for radius in (None, 0.3):
        measured = SpectralCurvature(field=Margin(rival=1), radius=radius)(Quadratic(), x, y)
        torch.testing.assert_close(measured.value, torch.full((3,), -4.0, dtype=torch.float64))


@pytest.mark.parametrize("radius", [0.05, 0.5])
def test_at_a_radius_value_and_residual_are_those_of_the_direction_found(smooth_batch, radius):
    """|value| <= max_v |D_h(v)|, and no example is called converged whose direction is no near-eigenvector."""
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    measured = SpectralCurvature(radius=radius)(b.model, b.x, b.y)
    exact = SpectralCurvature()(b.model, b.x, b.y)
    difference = FiniteDifferenceHessian(f, b.x, radius, central=True)
    v = torch.randn_like(b.x)
    torch.testing.assert_close(difference(-v), -difference(v))
    assert (measured.residual[measured.converged] <= 0.1 * measured.value[measured.converged].abs()).all()
    if radius == 0.05:
        torch.testing.assert_close(measured.value, exact.value, rtol=0.02, atol=1e-9)


def test_a_very_confident_example_does_not_spoil_its_batch():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(20, 30), nn.SiLU(), nn.Linear(30, 3))
    x = torch.rand(6, 20)
    y = inner(x).argmax(1)
    margins = Decision().of_logits(inner(x), y).detach()
    scale = torch.tensor([1.0, 98.0, 90.0, 102.0, 5.0, 1.0]) / torch.tensor([1.0, *margins[1:4].tolist(), 1.0, 1.0])

    def model(inputs):
        return inner(inputs) * scale[:, None]

    measured = SpectralCurvature()(model, x, y)
    assert measured.value.isfinite().all()
    torch.testing.assert_close(
        measured.value[[0, 5]], SpectralCurvature()(inner, x, y).value[[0, 5]], rtol=1e-2, atol=0
    )


def test_attention_has_a_curvature():
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(encoder, nn.Flatten(), nn.Linear(24, 3)).double()
    x, y = torch.rand(2, 3, 8, dtype=torch.float64), torch.tensor([0, 1])
    measured = SpectralCurvature(solver=Lanczos(tol=1e-6))(model, x, y)
    model.eval()
    truth = torch.linalg.eigvalsh(dense_hessian(CrossEntropy().bind(model, x, y), x)).abs().amax(1)
    torch.testing.assert_close(measured.value.abs(), truth, rtol=1e-4, atol=0)


def test_confident_examples_keep_their_curvature_in_float32():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.SiLU(), nn.Linear(30, 3))
    model[2].weight.data *= 300
    x = torch.rand(16, 20)
    y = model(x).argmax(1)
    assert model(x).softmax(1).amax(1).max() == 1  # float32 cannot tell p from 1 any more
    single = SpectralCurvature(solver=Lanczos(tol=1e-3))(model, x, y).value
    double = SpectralCurvature(solver=Lanczos(tol=1e-6))(model.double(), x.double(), y).value
    torch.testing.assert_close(single.double(), double, rtol=1e-2, atol=1e-37)


def test_zero_gradient_is_no_obstacle_to_any_solver():
    def saddle(x):
        return torch.stack([x[:, 0] ** 2 - 3 * x[:, 1] ** 2, torch.zeros_like(x[:, 0])], 1)

    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    for solver in (Lanczos(), PowerIteration(steps=30)):
        measured = SpectralCurvature(field=Margin(), solver=solver)(saddle, x, y)
        torch.testing.assert_close(measured.value, torch.tensor([-6.0], dtype=torch.float64), rtol=1e-2, atol=0)


def test_bad_radius():
    with pytest.raises(UserError, match="`radius`"):
        SpectralCurvature(radius=-1)
    with pytest.raises(UserError, match="`q`"):
        GradientNorm(q=0.5)
