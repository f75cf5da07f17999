"""All eigenvalues against the dense twin, and against what must follow from them."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, Logit, Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import HessianSpectrum


@pytest.mark.parametrize("field", [CrossEntropy(), Margin(), Decision(), Logit()])
def test_equals_the_dense_twin(smooth_batch, field):
    b = smooth_batch
    matrix = dense_hessian(field.bind(b.model, b.x, b.y), b.x)
    truth = torch.linalg.eigvalsh(matrix)
    found = HessianSpectrum(field=field)(b.model, b.x, b.y)
    parts = found.parts
    torch.testing.assert_close(parts["eigenvalues"], truth, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.value, truth.gather(1, truth.abs().argmax(1, keepdim=True)).squeeze(1))
    torch.testing.assert_close(parts["trace"], matrix.diagonal(dim1=1, dim2=2).sum(1))
    torch.testing.assert_close(parts["frobenius"], matrix.flatten(1).norm(dim=1))
    torch.testing.assert_close(parts["nuclear"], torch.linalg.svdvals(matrix).sum(1))
    torch.testing.assert_close(parts["negative"], truth.clamp_max(0).sum(1).abs() / truth.abs().sum(1))
    assert found.products == b.x[0].numel()


def test_a_quadratic_shows_its_own_spectrum_and_share_of_negative_curvature():
    bends = torch.tensor([3.0, -1.0, 0.0, -4.0], dtype=torch.float64)

    def model(x):
        return torch.stack([(bends * x**2).sum(1) / 2, torch.zeros_like(x[:, 0])], 1)

    found = HessianSpectrum(field=Margin())(model, torch.rand(2, 4, dtype=torch.float64), torch.tensor([0, 0]))
    torch.testing.assert_close(found.parts["eigenvalues"], bends.sort().values.expand(2, 4))
    torch.testing.assert_close(found.value, torch.full((2,), -4.0, dtype=torch.float64))
    torch.testing.assert_close(found.parts["negative"], torch.full((2,), 5 / 8, dtype=torch.float64))
    torch.testing.assert_close(found.parts["small"], torch.full((2,), 1 / 4, dtype=torch.float64))


def test_a_batch_that_exceeds_the_memory_is_taken_in_parts(smooth_batch, monkeypatch):
    b = smooth_batch
    whole = HessianSpectrum()(b.model, b.x, b.y)
    for entries in (2 * b.x[0].numel() ** 2, 1):
        monkeypatch.setattr("meseta.geometry.second_order.ENTRIES", entries)
        parts = HessianSpectrum()(b.model, b.x, b.y)
        torch.testing.assert_close(parts.value, whole.value)
        torch.testing.assert_close(parts.parts, whole.parts)


def test_flat_and_nonfinite_examples_harm_nobody():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 3))
    x, y = torch.rand(3, 3), torch.tensor([0, 1, 2])
    scale = torch.tensor([[1.0], [torch.nan], [1e6]])
    y[2] = inner(x)[2].argmax()
    found = HessianSpectrum()(lambda inputs: inner(inputs) * scale, x, y)
    assert found.value[1].isnan()
    assert found.parts["eigenvalues"][1].isnan().all()
    assert found.value[2] == 0  # saturated in float32
    assert found.parts["negative"][2].isnan()  # a share of nothing
    alone = HessianSpectrum()(inner, x[:1], y[:1])
    torch.testing.assert_close(found.parts["eigenvalues"][:1], alone.parts["eigenvalues"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_value_and_two_classes(dtype):
    model = nn.Linear(1, 2).to(dtype)
    x = torch.rand(2, 1, dtype=dtype)
    found = HessianSpectrum()(model, x, torch.tensor([0, 1]))
    p = model(x).softmax(1)[:, 0]
    truth = (p * (1 - p) * (model.weight[0] - model.weight[1]) ** 2).detach()
    torch.testing.assert_close(found.parts["eigenvalues"][:, 0], truth)
    assert found.value.dtype == dtype
    assert not found.parts["negative"].any()


def test_large_inputs_and_blind_fields_are_refused(relu_batch):
    b = relu_batch
    with pytest.raises(UserError, match=r"`most`.* have 72, above 71. Use Eigenvalues"):
        HessianSpectrum(most=71)(b.model, b.x, b.y)
    with pytest.raises(UserError, match="HessianSpectrum: the margins' Hessian is exactly zero"):
        HessianSpectrum(field=Margin())(b.model, b.x, b.y)
    with pytest.raises(UserError, match="`most`"):
        HessianSpectrum(most=0)
