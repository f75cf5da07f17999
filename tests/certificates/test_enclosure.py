"""Enclosures: everything they say of a ball holds at points of the ball, and they are tight where it is small."""

import pytest
import torch
from networks import F64, SMOOTH, conv_net, mlp
from torch import nn

from meseta.autodiff.dense import dense_hessian
from meseta.certificates.chain import read_chain
from meseta.certificates.enclosure import Enclosure

RADII = [0.05, 0.5, None]


def points_of(x, radius, count=20):
    """Points of the ball, on its surface and inside; far away where there is no ball."""
    step = torch.randn(count, *x.shape[1:], dtype=F64, generator=torch.Generator().manual_seed(0))
    step = step / step.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))
    length = torch.linspace(0, 1, count, dtype=F64).view(-1, *[1] * (x.dim() - 1))
    return x + step * (20 * length if radius is None else radius * length.sqrt())


def enclosure(model, x, radius):
    chain = read_chain(model, x, "Test", curved=False)
    return chain, Enclosure(chain, x, None if radius is None else torch.full((len(x),), radius, dtype=F64))


def cases():
    for name, activation in SMOOTH.items():
        for depth in (2, 3, 4):
            yield pytest.param(mlp(activation, depth), (5,), id=f"{name}-{depth}")
        yield pytest.param(conv_net(activation), (2, 8, 8), id=f"{name}-conv")


@pytest.mark.parametrize("dense", [True, False], ids=["matrices", "norms"])
@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize(("model", "shape"), cases())
def test_curvature_and_slope_hold_in_the_whole_ball(model, shape, radius, dense, monkeypatch):
    if not dense:
        monkeypatch.setattr("meseta.certificates.affine.DENSE", 0)
    x = torch.rand(1, *shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    rows = torch.tensor([[[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]], dtype=F64)
    _, found = enclosure(model, x, radius)
    low, high, slope = found.curvature(-rows), found.curvature(rows), found.slope(rows)
    points = points_of(x, radius, 6 if len(shape) == 3 else 20)
    for t in range(rows.shape[1]):
        f = lambda z, u=rows[0, t]: model(z) @ u  # noqa: E731
        eigenvalues = torch.linalg.eigvalsh(dense_hessian(f, points))
        assert (-eigenvalues[:, 0] <= low[0, t]).all()
        assert (eigenvalues[:, -1] <= high[0, t]).all()
        z = points.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(f(z).sum(), z)
        assert (gradient.flatten(1).norm(dim=1) <= slope[0, t]).all()


@pytest.mark.parametrize("activation", [*SMOOTH.values(), nn.ReLU, nn.LeakyReLU])
def test_slopes_and_jacobians_hold_in_the_whole_ball(activation):
    model = mlp(activation, 4)
    x = torch.rand(1, 5, dtype=F64)
    chain, found = enclosure(model, x, 0.4)
    for z in points_of(x, 0.4).split(1):
        values = chain.activated(z)
        jacobian = chain.maps[0].matrix
        for layer, (affine, bound) in enumerate(zip(chain.maps, found.jacobians, strict=False)):
            if layer:
                jacobian = affine.matrix @ (slope[0][:, None] * jacobian)
            difference = jacobian - bound.centre[0]
            assert torch.linalg.matrix_norm(jacobian, 2) <= bound.norm[0] * (1 + 1e-9)
            assert (jacobian.norm(dim=1) <= bound.rows[0] * (1 + 1e-9)).all()
            assert torch.linalg.matrix_norm(difference, 2) <= bound.error[0] + 1e-9
            assert (difference.norm(dim=1) <= bound.error_rows[0] + 1e-9).all()
            n = affine(values[layer]).requires_grad_()
            (slope,) = torch.autograd.grad(chain.functions[layer](n).sum(), n)
            assert (found.slopes[layer].low <= slope).all()
            assert (slope <= found.slopes[layer].high).all()


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_in_a_small_ball_the_slope_is_that_at_the_centre(depth):
    model = mlp(nn.SiLU, depth)
    x = torch.rand(1, 5, dtype=F64)
    _, found = enclosure(model, x, 1e-6)
    rows = torch.tensor([[[1.0, -1.0, 0.0]]], dtype=F64)
    z = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((model(z) @ rows[0, 0]).sum(), z)
    torch.testing.assert_close(found.slope(rows)[0, 0], gradient.norm(), rtol=1e-4, atol=0)


def test_in_a_small_ball_the_curvature_is_that_at_the_centre_but_for_the_sum_over_layers():
    """With one hidden layer there is nothing to sum: positive and negative parts apart, the bound is the truth."""
    model = mlp(nn.Softplus, 2)
    with torch.no_grad():
        model[2].weight.abs_()  # all curvature of a logit has one sign
    x = torch.rand(1, 5, dtype=F64)
    _, found = enclosure(model, x, 1e-6)
    row = torch.tensor([[[1.0, 0.0, 0.0]]], dtype=F64)
    low, high = found.curvature(-row), found.curvature(row)
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(lambda z: model(z)[:, 0], x))
    torch.testing.assert_close(high[0, 0], eigenvalues[0, -1], rtol=1e-4, atol=0)
    assert low[0, 0] < 1e-4 * high[0, 0]


def test_larger_balls_have_larger_bounds():
    model = mlp(nn.GELU, 3)
    x = torch.rand(1, 5, dtype=F64)
    rows = torch.tensor([[[1.0, -1.0, 0.0]]], dtype=F64)
    found = [enclosure(model, x, r)[1] for r in (0.01, 0.1, 1.0, 10.0, None)]
    low = torch.cat([e.curvature(-rows)[0] for e in found])
    slope = torch.cat([e.slope(rows)[0] for e in found])
    assert (low.diff() >= -1e-9).all()
    assert (slope.diff() >= -1e-9).all()
