import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Margin, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.geometry import NormalizedCurvature
from meseta.linalg import Lanczos


@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
def test_is_the_dense_ratio(smooth_batch, field):
    b = smooth_batch
    f = field.bind(b.model, b.x, b.y)
    curvature = torch.linalg.matrix_norm(dense_hessian(f, b.x), 2)
    slope = value_and_gradient(f, b.x)[1].flatten(1).norm(dim=1)
    found = NormalizedCurvature(field=field, solver=Lanczos(tol=1e-7))(b.model, b.x, b.y)
    torch.testing.assert_close(found.value, curvature / (slope + 1e-6))
    torch.testing.assert_close(found.parts["curvature"], curvature)
    torch.testing.assert_close(found.parts["gradient"], slope)
    assert found.converged.all()
    assert (found.residual <= 1e-7 * found.value + 1e-14).all()


def test_the_scale_of_the_field_does_not_matter(smooth_batch):
    b = smooth_batch
    once = NormalizedCurvature(field=Margin(), floor=1e-12)(b.model, b.x, b.y)
    scaled = NormalizedCurvature(field=Margin(), floor=1e-12)(lambda v: 7 * b.model(v), b.x, b.y)
    torch.testing.assert_close(once.value, scaled.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_a_minimum_the_floor_keeps_it_finite_and_saturation_is_zero(dtype):
    bend = torch.tensor([3.0, 0.0], dtype=dtype)

    def model(v):
        return torch.stack([bend * v[:, 0] ** 2 / 2, torch.zeros_like(v[:, 0])], 1)

    x, y = torch.zeros(2, 1, dtype=dtype), torch.zeros(2, dtype=torch.long)
    found = NormalizedCurvature(field=Margin(), floor=0.01)(model, x, y)
    torch.testing.assert_close(found.value, torch.tensor([300.0, 0.0], dtype=dtype))


def test_bad_settings_and_blind_fields_are_refused(relu_batch):
    with pytest.raises(UserError, match="NormalizedCurvature: the margins' Hessian is exactly zero"):
        NormalizedCurvature(field=Margin())(relu_batch.model, relu_batch.x, relu_batch.y)
    # One nonfinite example is not a sign that the others are curved.
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 3))
    scale = torch.tensor([[1.0], [torch.nan]])
    with pytest.raises(UserError, match="NormalizedCurvature: the margins' Hessian is exactly zero"):
        NormalizedCurvature(field=Margin())(lambda v: model(v) * scale, torch.rand(2, 3), torch.tensor([0, 1]))
    for bad in ({"floor": 0}, {"solver": None}):
        with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
            NormalizedCurvature(**bad)
