"""The dual: exact on quadratics, from below whatever it is given, and never beyond the ball."""

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import F64

from meseta.certificates.ball_search import largest_ball
from meseta.certificates.dual import dual_radius
from meseta.certificates.taylor import taylor_radius


def quadratic(seed, d=4):
    """f(z) = 1 + b z + z^T A z / 2, its spectrum's ends, and the gradient at 0."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(d, d, dtype=F64, generator=generator)
    a, b = (a + a.T) / 2, torch.randn(d, dtype=F64, generator=generator)
    eigenvalues = torch.linalg.eigvalsh(a)
    return lambda z: 1 + z @ b + (z @ a * z).sum(1) / 2, -eigenvalues[0], eigenvalues[-1], b


def exact_distance(f, d=4):
    """The nearest point of {f <= 0} among many directions, by the quadratic formula along each."""
    u = torch.randn(50_000, d, dtype=F64, generator=torch.Generator().manual_seed(0))
    u = u / u.norm(dim=1, keepdim=True)
    up, down = f(u), f(-u)
    curve, slope = (up + down) / 2 - 1, (up - down) / 2  # f(t u) = 1 + slope t + curve t^2
    discriminant = slope**2 - 4 * curve
    t = 2 / (-slope + discriminant.clamp_min(0).sqrt())
    return t[(discriminant >= 0) & (t > 0)].min()


@cache
def at_zero(seed, radius=torch.inf, **options):
    f, low, high, b = quadratic(seed)
    ends = low.clamp_min(0)[None], high.clamp_min(0)[None]
    x = torch.zeros(1, 4, dtype=F64)
    return dual_radius(f, x, *ends, torch.tensor([radius], dtype=F64), **options)[0], f, ends, b


def test_exact_where_the_dual_has_no_gap():
    for seed in range(3):
        found, f, _, _ = at_zero(seed, multipliers=20, steps=100)
        torch.testing.assert_close(found, exact_distance(f), rtol=2e-2, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10), st.integers(1, 20), st.floats(0.01, 3))
def test_from_below_however_few_steps_it_makes(seed, multipliers, steps, radius):
    f = quadratic(seed)[0]
    found, _, _, _ = at_zero(seed, multipliers=multipliers, steps=steps)
    truth = exact_distance(f)
    assert found <= truth * (1 + 1e-6)
    inside, _, _, _ = at_zero(seed, radius, multipliers=multipliers, steps=steps)
    assert inside <= min(radius, truth) * (1 + 1e-6)


def test_no_worse_than_the_closed_form_when_it_converges():
    for seed in range(3):
        found, _, (low, _), b = at_zero(seed, multipliers=20, steps=100)
        assert found >= taylor_radius(torch.ones(1, dtype=F64), b.norm()[None], low)[0] * (1 - 5e-3)


def test_a_constant_function_is_certified_as_far_as_its_ball():
    x = torch.zeros(2, 3, dtype=F64)
    nothing, ball = torch.zeros(2, dtype=F64), torch.tensor([0.5, 2.0], dtype=F64)
    torch.testing.assert_close(dual_radius(lambda z: 1 + 0 * z.sum(1), x, nothing, nothing, ball), ball)


def test_the_largest_ball_is_the_fixed_point_of_a_falling_reach():
    low, high = torch.tensor([0.0, 0.0, 0.2], dtype=F64), torch.tensor([4.0, torch.inf, 1.0], dtype=F64)
    found = largest_ball(lambda r: 1 / (1 + r), low, high, 30)
    golden = (5**0.5 - 1) / 2
    torch.testing.assert_close(found, torch.tensor([golden, 0.0, golden], dtype=F64))
