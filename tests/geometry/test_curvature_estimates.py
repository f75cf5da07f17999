"""The estimates of Mustafa's Figure 3 beside the truth."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Margin, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.geometry import CurvatureEstimates
from meseta.linalg import HessianAscent, Lanczos


@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
def test_every_estimate_is_what_it_says_and_below_the_truth(smooth_batch, field):
    b = smooth_batch
    f = field.bind(b.model, b.x, b.y)
    matrix = dense_hessian(f, b.x)
    g = value_and_gradient(f, b.x)[1].flatten(1)
    found = CurvatureEstimates(field=field, solver=Lanczos(tol=1e-8))(b.model, b.x, b.y)
    parts = found.parts
    truth = torch.linalg.matrix_norm(matrix, 2)
    torch.testing.assert_close(found.value, truth)
    along = torch.einsum("bde,be->bd", matrix, g).norm(dim=1) / g.norm(dim=1)
    torch.testing.assert_close(parts["gradient_direction"], along)
    torch.testing.assert_close(parts["ascent_minus_gradient"], parts["hessian_ascent"] - along)
    torch.testing.assert_close(parts["gradient_direction_ratio"], along / truth)
    torch.testing.assert_close(parts["hessian_ascent_ratio"], parts["hessian_ascent"] / truth)
    assert (parts["gradient_direction_ratio"] <= 1 + 1e-9).all()
    assert (parts["hessian_ascent_ratio"] <= 1 + 1e-9).all()


def test_the_ascent_is_algorithm_1_written_out(smooth_batch):
    """v <- v + o grad_v ||Hv||, then v / ||v||, ten times from a normal vector with o = 0.1."""
    b = smooth_batch
    matrix = dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x)
    start = torch.randn(b.x[:1].shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).flatten()
    for i, h in enumerate(matrix):
        v = start / start.norm()
        for _ in range(10):
            v.requires_grad_()
            (step,) = torch.autograd.grad((h @ v).norm(), v)
            v = (v + 0.1 * step).detach()
            v = v / v.norm()
        found = CurvatureEstimates(seed=7)(b.model, b.x[i : i + 1], b.y[i : i + 1])
        torch.testing.assert_close(found.parts["hessian_ascent"][0], (h @ v).norm())


def test_the_ascent_sees_the_less_of_a_curvature_the_smaller_it_is():
    bends = torch.linspace(-0.5, 1, 30, dtype=torch.float64)
    x, y = torch.rand(1, 30, dtype=torch.float64), torch.tensor([0])
    ratios = []
    for scale in (30.0, 1.0, 0.01):

        def model(v, scale=scale):
            return torch.stack([scale * (bends * v**2).sum(1) / 2, torch.zeros_like(v[:, 0])], 1)

        found = CurvatureEstimates(field=Margin())(model, x, y)
        torch.testing.assert_close(found.value, torch.tensor([scale], dtype=torch.float64), rtol=1e-3, atol=0)
        ratios.append(found.parts["hessian_ascent_ratio"].item())
    assert ratios[0] > 0.9 > ratios[1] > ratios[2]


def test_products_are_counted(smooth_batch):
    b = smooth_batch
    found = CurvatureEstimates(solver=Lanczos(steps=3), ascent=HessianAscent(steps=4))(b.model, b.x, b.y)
    assert found.products == 3 + 2 * 4 + 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_undefined_where_there_is_no_gradient_or_no_curvature(dtype):
    """A minimum, a flat place, a linear function: NaN for what has no meaning, never 0."""
    bend = torch.tensor([3.0, 0.0, 0.0, 1.0], dtype=dtype)
    slope = torch.tensor([0.0, 0.0, 2.0, 1.0], dtype=dtype)

    def model(v):
        return torch.stack([bend * v[:, 0] ** 2 / 2 + slope * v[:, 0], torch.zeros_like(v[:, 0])], 1)

    found = CurvatureEstimates(field=Margin())(model, torch.zeros(4, 1, dtype=dtype), torch.zeros(4).long())
    torch.testing.assert_close(found.value, bend)
    nan = torch.nan
    expected = {
        "gradient_direction": [nan, nan, 0, 1],
        "hessian_ascent": [3, 0, 0, 1],
        "gradient_direction_ratio": [nan, nan, nan, 1],
        "hessian_ascent_ratio": [1, nan, nan, 1],
    }
    for name, values in expected.items():
        torch.testing.assert_close(found.parts[name], torch.tensor(values, dtype=dtype), equal_nan=True)


def test_a_nonfinite_example_is_nan_in_every_part():
    inner = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    scale = torch.tensor([[1.0], [torch.nan], [1.0]])
    x, y = torch.rand(3, 3), torch.tensor([0, 1, 1])
    found = CurvatureEstimates()(lambda v: inner(v) * scale, x, y)
    for part in (found.value, *found.parts.values()):
        assert part.isfinite().tolist() == [True, False, True]


def test_bad_settings_and_blind_fields_are_refused(relu_batch):
    with pytest.raises(UserError, match="CurvatureEstimates: the margins' Hessian is exactly zero"):
        CurvatureEstimates(field=Margin())(relu_batch.model, relu_batch.x, relu_batch.y)
    for bad in ({"solver": None}, {"ascent": Lanczos()}, {"seed": -1}):
        with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
            CurvatureEstimates(**bad)
