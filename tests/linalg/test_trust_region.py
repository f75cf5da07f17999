"""The trust-region problem against its dual, which is convex in one number."""

import pytest
import torch

from meseta.linalg import norm
from meseta.linalg.trust_region import maximizer, trust_region_step


def problems(n=40, d=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, d, generator=generator, dtype=torch.float64)
    g = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return g * torch.logspace(-4, 2, n, dtype=torch.float64)[:, None], (a + a.mT) / 2


def value(g, h, s):
    return (g * s).sum(1) + torch.einsum("bi,bij,bj->b", s, h, s) / 2


def dual(g, h, radius):
    """min over lambda > max(theta_max, 0) of lambda r^2 / 2 + g^T (lambda I - h)^-1 g / 2, by ternary search."""
    theta, vectors = torch.linalg.eigh(h)
    c2 = torch.einsum("bij,bi->bj", vectors, g) ** 2
    least = theta[:, -1:].clamp_min(0)

    def bound(log_above):
        above = log_above.exp()
        return ((least + above) * radius**2 + (c2 / (above + least - theta)).sum(1, keepdim=True)) / 2

    low, high = torch.full_like(least, -60.0), torch.full_like(least, 60.0)
    for _ in range(200):
        third = (high - low) / 3
        left = bound(low + third) < bound(high - third)
        low, high = torch.where(left, low, low + third), torch.where(left, high - third, high)
    return bound((low + high) / 2).squeeze(1)


@pytest.mark.parametrize("shift", [0.0, -5.0, 5.0])
@pytest.mark.parametrize("radius", [1e-3, 1.0, 50.0])
def test_it_is_the_maximum_on_indefinite_concave_and_convex_quadratics(shift, radius):
    g, h = problems()
    h = h + shift * torch.eye(9, dtype=torch.float64)
    best = dual(g, h, radius)
    for s in (maximizer(g, h, radius), trust_region_step(lambda v: torch.einsum("bij,bj->bi", h, v), g, radius, 9)):
        assert (norm(s) <= radius * (1 + 1e-9)).all()
        torch.testing.assert_close(value(g, h, s), best, rtol=1e-6, atol=1e-9 * radius)


def test_the_hard_case_is_filled_up_along_the_top_eigenvector():
    """g orthogonal to the top eigenspace, and too short to reach the radius without it; and g = 0."""
    h = torch.diag(torch.tensor([2.0, 1.0, -3.0], dtype=torch.float64)).expand(2, 3, 3)
    g = torch.tensor([[0.0, 0.3, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    free = torch.tensor([0.3 / (2 - 1), 0.5 / (2 + 3)], dtype=torch.float64)
    for s in (maximizer(g, h, 1.0), trust_region_step(lambda v: torch.einsum("bij,bj->bi", h, v), g, 1.0, 3)):
        torch.testing.assert_close(norm(s), torch.ones(2).double())
        torch.testing.assert_close(s[0, 1:], free)
        torch.testing.assert_close(s[1].abs(), torch.tensor([1.0, 0, 0]).double(), rtol=0, atol=1e-9)


def test_where_the_quadratic_is_concave_and_its_maximum_inside_no_length_is_added():
    g, h = torch.tensor([[0.2, 0.1]]).double(), -torch.eye(2).double()[None]
    torch.testing.assert_close(maximizer(g, h, 5.0), g)


def test_more_products_never_find_less_and_one_follows_the_gradient():
    g, h = problems(d=12)
    values = [value(g, h, trust_region_step(lambda v: torch.einsum("bij,bj->bi", h, v), g, 1.0, k)) for k in (1, 4, 12)]
    assert (values[1] >= values[0] - 1e-9).all()
    assert (values[2] >= values[1] - 1e-9).all()
    one = trust_region_step(lambda v: torch.einsum("bij,bj->bi", h, v), g, 1.0, 1)
    torch.testing.assert_close(torch.cosine_similarity(one, g), torch.ones(40).double())


def test_a_product_that_is_not_finite_leaves_the_neighbours_alone():
    g, h = problems(n=3)
    broken = h.clone()
    broken[1] = torch.nan
    fine, spoilt = (trust_region_step(lambda v, m=m: torch.einsum("bij,bj->bi", m, v), g, 1.0, 9) for m in (h, broken))
    assert spoilt.isfinite().all()
    torch.testing.assert_close(spoilt[[0, 2]], fine[[0, 2]])
