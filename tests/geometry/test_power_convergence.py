import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import PowerConvergence
from meseta.models import SiluCnn


def quadratic(*eigenvalues):
    """Two logits whose margin is x^T diag(eigenvalues) x / 2."""
    a = torch.tensor(eigenvalues, dtype=torch.float64)

    def model(x):
        value = (x**2 @ a) / 2
        return torch.stack([value, torch.zeros_like(value)], 1)

    return model


X, Y = torch.rand(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize("eigenvalues", [(4.0, 1.0, 0.1), (-4.0, 1.0, 0.1), (4.0, -2.0, 0.1)])
def test_the_exact_curve_falls_with_the_ratio_of_the_eigenvalues(eigenvalues):
    measured = PowerConvergence(field=Margin(), steps=14)(quadratic(*eigenvalues), X, Y)
    curve = measured.parts["exact"]
    assert curve.shape == (2, 14)
    assert torch.equal(measured.value, curve[:, -1])
    ratio = abs(eigenvalues[1] / eigenvalues[0])
    torch.testing.assert_close(curve[:, 10:] / curve[:, 9:-1], torch.full_like(curve[:, 10:], ratio), rtol=1e-3, atol=0)


def test_a_negative_dominant_eigenvalue_flips_the_sign_which_counts_as_published_alone():
    parts = PowerConvergence(field=Margin(), radius=0.1)(quadratic(-4.0, 1.0, 0.1), X, Y).parts
    assert (parts["exact"][:, -1] < 1e-4).all()
    assert (parts["exact_as_published"][:, -1] > 1.99).all()
    assert (parts["difference_as_published"][:, -1] > 1.99).all()
    parts = PowerConvergence(field=Margin(), radius=0.1)(quadratic(4.0, 1.0, 0.1), X, Y).parts
    torch.testing.assert_close(parts["exact"][:, 2:], parts["exact_as_published"][:, 2:])


def test_differences_of_a_quadratic_are_exact():
    parts = PowerConvergence(field=Margin(), radius=0.3)(quadratic(4.0, -2.0, 0.1), X, Y).parts
    torch.testing.assert_close(parts["difference"], parts["exact"], rtol=1e-6, atol=1e-9)


def test_every_step_is_that_of_the_dense_iteration(smooth_batch):
    b = smooth_batch
    hessian = dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x)
    generator = torch.Generator().manual_seed(3)
    u = torch.randn((1, *b.x.shape[1:]), generator=generator, dtype=torch.float64).flatten(1).expand(len(b.x), -1)
    u = u / u.norm(dim=1, keepdim=True)
    curve = PowerConvergence(steps=4, seed=3)(b.model, b.x, b.y).parts["exact_as_published"]
    for step in range(4):
        moved = torch.einsum("bde,be->bd", hessian, u)
        moved = moved / moved.norm(dim=1, keepdim=True)
        torch.testing.assert_close(curve[:, step], (moved - u).norm(dim=1), rtol=1e-6, atol=1e-9)
        u = moved


def test_at_the_published_radius_float32_differences_of_images_are_rounding():
    """At d = 3072 the curve in float32 stays at 1, the distance of u and u' whose noise has the error of grad f(x) in
    common (cosine 1/2), where in float64 it follows the exact one."""
    generator = torch.Generator().manual_seed(0)
    model = SiluCnn().build((3, 32, 32), 10, generator=generator)
    x = 0.5 + 0.5 * torch.rand(3, 3, 32, 32, generator=generator)
    y = torch.tensor([1, 2, 3])
    measure = PowerConvergence(steps=8)
    single = measure(model, x, y).parts
    double = measure(model.double(), x.double(), y).parts
    torch.testing.assert_close(double["difference"], double["exact"], rtol=1e-2, atol=1e-2)
    assert ((single["difference"][:, 0] - 2**0.5).abs() < 0.1).all()  # the start is random: nearly orthogonal
    assert ((single["difference"][:, 1:] - 1).abs() < 0.1).all()


def test_a_zero_hessian_is_nan_and_never_converged():
    model = nn.Linear(3, 2).double()
    model.weight.data.zero_()
    assert PowerConvergence()(model, X, Y).value.isnan().all()


def test_a_margin_on_a_piecewise_linear_network_is_refused(relu_batch):
    b = relu_batch
    with pytest.raises(UserError, match="PowerConvergence: the margins' Hessian is exactly zero on all 6 examples"):
        PowerConvergence(field=Margin())(b.model, b.x, b.y)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"radius": 0.0}, {"seed": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        PowerConvergence(**bad)
