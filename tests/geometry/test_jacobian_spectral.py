import pytest
import torch
from torch import nn

from meseta.autodiff import dense_jacobian
from meseta.errors import UserError
from meseta.geometry import JacobianFrobenius, JacobianSpectral
from meseta.linalg import Lanczos


def singular_values(b):
    return torch.linalg.svdvals(dense_jacobian(b.model, b.x).flatten(2))


def test_equals_the_largest_singular_value_in_at_most_as_many_products_as_classes(batch):
    b = batch
    measured = JacobianSpectral()(b.model, b.x, b.y)
    torch.testing.assert_close(measured.value, singular_values(b)[:, 0])
    assert measured.converged.all()
    assert measured.products <= b.classes


def test_a_singular_value_lies_within_the_residual_which_is_in_units_of_the_value():
    torch.manual_seed(0)
    model = nn.Linear(200, 100).double()
    x, y = torch.rand(2, 200, dtype=torch.float64), torch.tensor([0, 1])
    truth = torch.linalg.svdvals(model.weight.detach())
    for steps in (1, 3, 8, 20):
        measured = JacobianSpectral(solver=Lanczos(steps=steps, tol=1e-12))(model, x, y)
        distance = (truth - measured.value[:, None]).abs().amin(1)
        assert (distance <= measured.residual * (1 + 1e-9)).all()
        assert (measured.residual <= truth[0]).all()
        assert (measured.value <= truth[0] * (1 + 1e-12)).all()


def test_scaling_the_model_scales_value_and_residual(smooth_batch):
    b, measure = smooth_batch, JacobianSpectral(solver=Lanczos(steps=1))
    one, thousand = measure(b.model, b.x, b.y), measure(lambda x: 1000 * b.model(x), b.x, b.y)
    torch.testing.assert_close(thousand.value, 1000 * one.value)
    torch.testing.assert_close(thousand.residual, 1000 * one.residual)


def test_lies_between_the_frobenius_norm_and_its_share(batch):
    b = batch
    spectral, frobenius = (m()(b.model, b.x, b.y).value for m in (JacobianSpectral, JacobianFrobenius))
    assert (spectral <= frobenius * (1 + 1e-9)).all()
    assert (spectral >= frobenius / b.classes**0.5 * (1 - 1e-9)).all()


def test_is_reached_by_a_small_step_along_the_singular_vector(smooth_batch):
    b = smooth_batch
    _, _, rows = torch.linalg.svd(dense_jacobian(b.model, b.x).flatten(2), full_matrices=False)
    moved = b.model(b.x + 1e-5 * rows[:, 0].view_as(b.x)) - b.model(b.x)
    value = JacobianSpectral()(b.model, b.x, b.y).value
    torch.testing.assert_close(moved.norm(dim=1) / 1e-5, value, rtol=1e-3, atol=0)


def test_a_constant_model_has_zero():
    model = nn.Linear(4, 3)
    nn.init.zeros_(model.weight)
    measured = JacobianSpectral()(model, torch.rand(2, 4), torch.tensor([0, 1]))
    assert not measured.value.any()
    assert not measured.residual.any()


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="`solver` must be an Eigensolver"):
        JacobianSpectral(solver=3)
    with pytest.raises(UserError, match="`seed`"):
        JacobianSpectral(seed=-1)
