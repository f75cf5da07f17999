"""The closed form that the bounds share, and the gap of the loss."""

import math

import pytest
import torch
from quadratic_model import exact_distance

from meseta.autodiff import CrossEntropy
from meseta.certificates import loss_gap, taylor_radius


def test_radius_solves_its_equation_and_is_stable_where_the_curvature_vanishes():
    f, g, k = torch.rand(3, 100, dtype=torch.float64)
    r = taylor_radius(f, g, k)
    torch.testing.assert_close(r * (g + r * k / 2), f)
    torch.testing.assert_close(taylor_radius(f, g, k * 1e-30), f / g, rtol=1e-14, atol=0)
    torch.testing.assert_close(taylor_radius(f, 0 * g, k), (2 * f / k).sqrt())
    zero = torch.zeros(1)
    assert taylor_radius(zero + 1, zero, zero) == torch.inf
    assert taylor_radius(zero + 1, zero / 0, zero).isnan()


@pytest.mark.parametrize("classes", [2, 5])
def test_gap_is_log_2_minus_the_loss_also_near_log_2(classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, classes, generator=generator, dtype=torch.float64) * 3
    y = torch.randint(classes, (50,), generator=generator)
    torch.testing.assert_close(loss_gap(logits, y), math.log(2) - CrossEntropy().of_logits(logits, y))
    close = torch.tensor([[1e-12, 0.0]], dtype=torch.float64)
    assert loss_gap(close, torch.tensor([0])).item() == pytest.approx(5e-13, rel=1e-10)
    far = torch.tensor([[1000.0, 0.0]])
    assert loss_gap(far, torch.tensor([0])).item() == pytest.approx(math.log(2))
    assert loss_gap(far, torch.tensor([1])).item() == pytest.approx(math.log(2) - 1000)


def test_the_exact_distance_reaches_the_gap_and_no_shorter_step_does():
    """The helper that other tests rely on, against a brute search in the plane."""
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    root = torch.randn(6, 2, 2, generator=generator, dtype=torch.float64)
    h, gap = root @ root.mT, torch.rand(6, generator=generator, dtype=torch.float64)
    angle = torch.linspace(0, 2 * math.pi, 100001, dtype=torch.float64)
    u = torch.stack([angle.cos(), angle.sin()], 1)
    slope, bend = u @ g.mT, torch.einsum("nd,bde,ne->nb", u, h, u)
    brute = (2 * gap / (slope + (slope**2 + 2 * bend * gap).sqrt())).amin(0)
    torch.testing.assert_close(exact_distance(g, h, gap), brute, rtol=1e-7, atol=0)
