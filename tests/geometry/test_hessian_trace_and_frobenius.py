"""HessianTrace and HessianFrobenius: within their own standard errors of the dense matrix."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import HessianFrobenius, HessianTrace

both = pytest.mark.parametrize("measure", [HessianTrace, HessianFrobenius])


def trace(matrix):
    return matrix.diagonal(dim1=1, dim2=2).sum(1)


@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
def test_are_within_five_standard_errors_of_the_dense_matrix(smooth_batch, field):
    b = smooth_batch
    matrix = dense_hessian(field.bind(b.model, b.x, b.y), b.x)
    for measure, truth in ((HessianTrace, trace(matrix)), (HessianFrobenius, matrix.flatten(1).norm(dim=1))):
        found = measure(field=field, samples=200, seed=1)(b.model, b.x, b.y)
        assert ((found.value - truth).abs() <= 5 * found.residual).all()
        assert (found.residual < 0.2 * matrix.flatten(1).norm(dim=1)).all()
        assert found.products == 200


def test_the_standard_errors_are_right_over_seeds(smooth_batch):
    b = smooth_batch
    matrix = dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x)
    for measure, truth in ((HessianTrace, trace(matrix)), (HessianFrobenius, matrix.flatten(1).norm(dim=1))):
        found = [measure(samples=30, seed=s)(b.model, b.x, b.y) for s in range(12)]
        z = torch.stack([(f.value - truth) / f.residual for f in found])
        assert 0.5 < z.square().mean() < 2


def saddle(x):
    return torch.stack([2 * x[:, 0] ** 2 - 2 * x[:, 1] ** 2, torch.zeros_like(x[:, 0])], 1)


def test_a_saddle_has_no_trace_but_is_not_flat():
    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    found = HessianTrace(field=Margin())(saddle, x, y)
    assert (found.value, found.residual) == (0, 0)
    found = HessianFrobenius(field=Margin())(saddle, x, y)
    torch.testing.assert_close(found.value, torch.tensor([32.0], dtype=torch.float64).sqrt())
    assert found.residual == 0


@both
def test_one_value_two_classes_and_both_dtypes(measure):
    model = nn.Linear(1, 2).double()
    x, y = torch.tensor([[0.3], [0.8]]).double(), torch.tensor([0, 1])
    p = model(x).softmax(1)[:, 0]
    truth = (p * (1 - p) * (model.weight[0] - model.weight[1]) ** 2).detach()
    torch.testing.assert_close(measure()(model, x, y).value, truth)
    single = measure()(model.float(), x.float(), y)
    assert single.value.dtype == single.residual.dtype == torch.float32
    torch.testing.assert_close(single.value.double(), truth, rtol=1e-5, atol=0)


@both
def test_a_saturated_softmax_gives_zero_with_no_error(measure):
    model = nn.Linear(3, 3)
    x = torch.rand(2, 3)
    scale = torch.tensor([[1.0], [1e6]])
    found = measure()(lambda inputs: model(inputs) * scale, x, model(x).argmax(1))
    assert found.value.isfinite().all()
    assert (found.value[1], found.residual[1]) == (0, 0)
    assert found.value[0] > 0


@both
def test_bad_settings_and_blind_fields_are_refused(measure, relu_batch):
    with pytest.raises(UserError, match=f"{measure.__name__}: the margins' Hessian is exactly zero"):
        measure(field=Decision())(relu_batch.model, relu_batch.x, relu_batch.y)
    with pytest.raises(UserError, match="`samples`"):
        measure(samples=1)
    with pytest.raises(UserError, match="`seed`"):
        measure(seed=-1)
