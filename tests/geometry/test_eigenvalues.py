"""The first eigenvalues against dense ones."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import Eigenvalues, SpectralCurvature
from meseta.linalg import Lanczos


@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
@pytest.mark.parametrize("which", ["largest_magnitude", "largest", "smallest"])
def test_equal_dense_eigenvalues_in_order(smooth_batch, field, which):
    b = smooth_batch
    truth = torch.linalg.eigvalsh(dense_hessian(field.bind(b.model, b.x, b.y), b.x))
    key = {"largest_magnitude": -truth.abs(), "largest": -truth, "smallest": truth}[which]
    expected = truth.gather(1, key.argsort(1)[:, :3])
    found = Eigenvalues(field=field, k=3, solver=Lanczos(which=which, tol=1e-7))(b.model, b.x, b.y)
    torch.testing.assert_close(found.parts["eigenvalues"], expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.value, expected[:, 0], rtol=1e-5, atol=1e-9)
    assert found.parts["residuals"].shape == (len(b.x), 3)
    assert found.converged.all()


def test_the_first_is_the_spectral_curvature(batch):
    found = Eigenvalues(k=1)(batch.model, batch.x, batch.y)
    assert torch.equal(found.value, SpectralCurvature()(batch.model, batch.x, batch.y).value)


def test_all_are_given_where_inputs_have_fewer_values_and_one_is_enough():
    model = nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    x, y = torch.rand(3, 1, dtype=torch.float64), torch.tensor([0, 1, 0])
    found = Eigenvalues()(model, x, y)
    truth = dense_hessian(CrossEntropy().bind(model, x, y), x).flatten(1)
    torch.testing.assert_close(found.parts["eigenvalues"], truth)


def test_the_cross_entropy_of_a_piecewise_linear_network_has_k_minus_1(relu_batch):
    b = relu_batch
    found = Eigenvalues(k=4)(b.model, b.x, b.y).parts["eigenvalues"]
    assert (found[:, :2] > 0).all()
    assert (found[:, 2:].abs() < 1e-12 * found[:, :1]).all()


def test_a_saturated_softmax_in_float32_gives_zero_and_harms_nobody():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))
    x, y = torch.rand(2, 4), torch.tensor([0, 1])
    scale = torch.tensor([[1.0], [1e6]])
    found = Eigenvalues(k=2)(lambda inputs: model(inputs) * scale, x, model(x).argmax(1))
    assert found.parts["eigenvalues"].isfinite().all()
    assert not found.parts["eigenvalues"][1].any()
    assert found.parts["eigenvalues"][0].any()
    assert Eigenvalues(k=2)(model, x, y).converged.all()


def test_bad_settings_and_blind_fields_are_refused(relu_batch):
    with pytest.raises(UserError, match="Eigenvalues: the margins' Hessian is exactly zero"):
        Eigenvalues(field=Decision())(relu_batch.model, relu_batch.x, relu_batch.y)
    with pytest.raises(UserError, match="`k` must be at most the 3 steps"):
        Eigenvalues(solver=Lanczos(steps=3))
    with pytest.raises(UserError, match="`k`"):
        Eigenvalues(k=0)
    with pytest.raises(UserError, match="`solver`"):
        Eigenvalues(solver=None)
