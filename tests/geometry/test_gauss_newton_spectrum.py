"""The exact loss curvature from K vector-Jacobian products, against dense matrices."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, dense_gauss_newton, dense_hessian
from meseta.geometry import GaussNewtonSpectrum


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 7), nn.ReLU(), nn.Linear(7, width))

    def forward(self, x):
        return x + self.inner(x)


def networks():
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-0.5, 0.5)
    norm.running_var.uniform_(0.5, 2)
    conv = [nn.Conv2d(1, 4, 3), norm, nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Flatten()]
    return {
        "relu": nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 5)),
        "conv": nn.Sequential(*conv, nn.Linear(16, 5)),
        "residual": nn.Sequential(nn.Flatten(), Residual(36), Residual(36), nn.Linear(36, 5)),
        "two classes": nn.Sequential(nn.Flatten(), nn.Linear(36, 20), nn.ReLU(), nn.Linear(20, 2)),
    }


def spectrum(matrix, classes):
    """The eigenvalues in the order of the measure: all but zeros."""
    return torch.linalg.eigvalsh(matrix)[:, -classes:]


@pytest.mark.parametrize("name", networks())
def test_equals_the_dense_hessian_of_the_loss_on_piecewise_linear_networks(name):
    model = networks()[name].double().eval()
    x = torch.rand(6, 1, 6, 6, dtype=torch.float64)
    classes = model(x).shape[1]
    for y in (torch.zeros(6, dtype=torch.long), torch.arange(6) % classes):  # whatever the label
        found = GaussNewtonSpectrum()(model, x, y)
        matrix = dense_hessian(CrossEntropy().bind(model, x, y), x)
        truth = spectrum(matrix, classes)
        scale = truth[:, -1:]
        assert found.parts["eigenvalues"].shape == (6, classes)
        torch.testing.assert_close(found.parts["eigenvalues"] / scale, truth / scale, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found.value, truth[:, -1], rtol=1e-10, atol=0)
        torch.testing.assert_close(found.parts["frobenius"], matrix.flatten(1).norm(dim=1), rtol=1e-10, atol=0)
        torch.testing.assert_close(found.parts["trace"], matrix.diagonal(dim1=1, dim2=2).sum(1), rtol=1e-10, atol=0)


def test_differs_from_the_hessian_by_the_second_term_on_smooth_networks(smooth_batch):
    b = smooth_batch
    found = GaussNewtonSpectrum()(b.model, b.x, b.y)
    gauss_newton = dense_gauss_newton(b.model, b.x)
    torch.testing.assert_close(
        found.parts["eigenvalues"], spectrum(gauss_newton, b.classes).clamp_min(0), rtol=1e-10, atol=1e-14
    )
    logits = b.model(b.x).detach()
    p = logits.softmax(1) - nn.functional.one_hot(b.y, b.classes)
    each = [dense_hessian(lambda v, k=k: b.model(v)[:, k], b.x) for k in range(b.classes)]
    second = torch.einsum("bk,kbde->bde", p, torch.stack(each))
    full = dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x)
    torch.testing.assert_close(gauss_newton + second, full)
    gap = (found.value - torch.linalg.matrix_norm(full, 2)).abs()
    assert (gap > 1e-6).all()
    assert (gap <= torch.linalg.matrix_norm(second, 2) * (1 + 1e-9)).all()


@pytest.mark.parametrize("entries", [1, 400])
def test_a_batch_that_exceeds_the_memory_is_taken_in_parts_and_products_stand_in_for_a_jacobian(
    smooth_batch, entries, monkeypatch
):
    b = smooth_batch
    whole = GaussNewtonSpectrum()(b.model, b.x, b.y)
    monkeypatch.setattr("meseta.geometry.second_order.ENTRIES", entries)
    monkeypatch.setattr("meseta.geometry.gauss_newton_spectrum.ENTRIES", entries)
    found = GaussNewtonSpectrum()(b.model, b.x, b.y)
    torch.testing.assert_close(found.value, whole.value)
    torch.testing.assert_close(found.parts, whole.parts)


def test_confident_examples_keep_their_curvature_in_float32():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 3))
    x = torch.rand(8, 20)
    y = model(x).argmax(1)
    margins = (model(x).topk(2).values @ torch.tensor([1.0, -1.0])).detach()

    def confident(inputs):
        return model(inputs) * (40 / margins).to(inputs.dtype)[:, None]

    single = GaussNewtonSpectrum()(confident, x, y)
    double = GaussNewtonSpectrum()(lambda v: model.double()(v) * (40 / margins.double())[:, None], x.double(), y)
    assert (double.value > 0).all()
    torch.testing.assert_close(single.value.double(), double.value, rtol=1e-3, atol=0)
    assert single.value.dtype == torch.float32


def test_saturated_nonfinite_and_one_valued_inputs():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 3))
    x, y = torch.rand(3, 1), torch.tensor([0, 1, 2])
    scale = torch.tensor([[1.0], [torch.nan], [1e8]])
    found = GaussNewtonSpectrum()(lambda v: inner(v) * scale, x, y)
    assert found.value[1].isnan()
    assert found.value[2] == 0
    torch.testing.assert_close(found.value[:1], GaussNewtonSpectrum()(inner, x[:1], y[:1]).value)
    assert (found.parts["eigenvalues"][0, :2] < 1e-5 * found.value[0]).all()  # rank one: one input value


def test_it_is_no_measure_of_a_field():
    assert GaussNewtonSpectrum().name == "GaussNewtonSpectrum"
    with pytest.raises(TypeError, match="field"):
        GaussNewtonSpectrum(field=CrossEntropy())
