"""Projection, steepest step and sampling against their definitions, for all three norms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meseta import Threat
from meseta.errors import UserError
from meseta.linalg import norm

NORMS = ["Linf", "L2", "L1"]
cases = given(
    st.sampled_from(NORMS),
    st.floats(1e-3, 5),
    st.sampled_from([(0.0, 1.0), (-2.0, 3.0), None]),
    st.integers(0, 10**6),
    st.floats(0.01, 20),
)


def draw(bounds, seed, spread, d=6, b=4):
    g = torch.Generator().manual_seed(seed)
    low, high = bounds or (-3, 3)
    x = low + (high - low) * torch.rand(b, 1, d, generator=g, dtype=torch.float64)
    return x, x + spread * torch.randn(b, 1, d, generator=g, dtype=torch.float64)


@settings(max_examples=150, deadline=None)
@cases
def test_projection_is_feasible_idempotent_and_the_identity_inside(name, eps, bounds, seed, spread):
    threat = Threat(name, eps, bounds)
    x, points = draw(bounds, seed, spread)
    projected = threat.project(points, x)
    assert threat.contains(projected, x, slack=1e-6).all()
    torch.testing.assert_close(threat.project(projected, x), projected, rtol=1e-6, atol=1e-7)
    inside = threat.contains(points, x, slack=0)
    torch.testing.assert_close(projected[inside], points[inside])


@settings(max_examples=60, deadline=None)
@cases
def test_projection_is_the_nearest_point(name, eps, bounds, seed, spread):
    """Variational inequality: <points - P, z - P> <= 0 for every feasible z."""
    threat = Threat(name, eps, bounds)
    x, points = draw(bounds, seed, spread)
    projected = threat.project(points, x)
    for _ in range(20):
        z = threat.project(x + 3 * eps * torch.randn_like(x), x)
        inner = ((points - projected) * (z - projected)).flatten(1).sum(1)
        assert (inner <= 1e-5 * (1 + spread) * (1 + eps)).all()


@settings(max_examples=150, deadline=None)
@cases
def test_farthest_point_is_feasible_and_no_feasible_point_is_farther(name, eps, bounds, seed, spread):
    """A point maximises g^T z over a convex set if and only if stepping along g and projecting leads back to it."""
    threat = Threat(name, eps, bounds)
    x, points = draw(bounds, seed, spread)
    g = points - x
    g[0], g[1, ..., :3], g[2, ..., 1:] = 0, 0, g[2, ..., :1]  # nothing to gain, partly nothing, all the same
    farthest = threat.farthest(g, x)
    assert threat.contains(farthest, x, slack=1e-9).all()
    torch.testing.assert_close(farthest[0], x[0])
    gain = (g * (farthest - x)).flatten(1).sum(1)
    for step in (0.1, 10):
        other = threat.project(farthest + step * eps * g, x)
        assert ((g * (other - x)).flatten(1).sum(1) <= gain + 1e-6 * (1 + gain)).all()


@settings(max_examples=60, deadline=None)
@cases
def test_samples_are_inside(name, eps, bounds, seed, spread):
    threat = Threat(name, eps, bounds)
    x, _ = draw(bounds, seed, spread)
    g = torch.Generator().manual_seed(seed)
    first = threat.sample(x, generator=g)
    assert threat.contains(first, x, slack=1e-9).all()
    again = threat.sample(x, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(first, again)


@pytest.mark.parametrize(("name", "mean_radius"), [("L2", 3 / 4), ("L1", 3 / 4)])
def test_samples_fill_the_ball_uniformly(name, mean_radius):
    """In dimension 3 the radius of a uniform point has mean 3/4 of eps, in every norm."""
    threat = Threat(name, 2.0, None)
    x = torch.zeros(20_000, 3)
    radius = norm(threat.sample(x, generator=torch.Generator().manual_seed(0)), threat.p) / 2
    error = radius.std() / len(x) ** 0.5
    assert abs(radius.mean() - mean_radius) < 5 * error


@pytest.mark.parametrize("name", NORMS)
def test_steepest_step_attains_the_dual_norm(name):
    threat = Threat(name, 1.0, None)
    g = torch.randn(5, 2, 3, dtype=torch.float64)
    step = threat.steepest(g, torch.zeros_like(g))
    torch.testing.assert_close(norm(step, threat.p), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close((g * step).flatten(1).sum(1), norm(g, threat.dual))
    assert not threat.steepest(torch.zeros_like(g), g).any()


def test_l1_step_avoids_coordinates_without_room():
    threat = Threat("L1", 1.0)
    x = torch.tensor([[1.0, 0.5, 0.0]])
    assert threat.steepest(torch.tensor([[9.0, 1.0, -8.0]]), x).tolist() == [[0, 1, 0]]


def test_dual_exponents():
    assert [Threat(name).dual for name in NORMS] == [1, 2, float("inf")]


@pytest.mark.parametrize("eps", [0, -0.1, float("nan"), float("inf"), "8/255", None])
def test_bad_eps(eps):
    with pytest.raises(UserError, match="`eps` must be positive and finite"):
        Threat(eps=eps)


def test_bad_norm_and_bounds():
    with pytest.raises(UserError, match="`norm` must be one of Linf, L2, L1"):
        Threat(norm="L3")
    for bounds in [(1.0, 0.0), (0.0, float("nan")), (0.0, float("inf"))]:
        with pytest.raises(UserError, match="`bounds`"):
            Threat(bounds=bounds)


def test_contains_refuses_nan():
    x = torch.full((1, 2), 0.5)
    assert not Threat(eps=10.0).contains(x * torch.nan, x).any()


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_a_radius_of_its_own_projects_each_example_as_a_threat_of_that_eps_would(norm, bounds):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 9, dtype=torch.float64, generator=generator)
    points = x + torch.randn(4, 9, dtype=torch.float64, generator=generator)
    radius = torch.tensor([0.0, 0.1, 0.7, 99.0], dtype=torch.float64)
    projected = Threat(norm, 5.0, bounds).project(points, x, radius=radius)
    torch.testing.assert_close(projected[0], x[0])
    for i in range(1, 4):
        single = Threat(norm, radius[i].item(), bounds).project(points[i : i + 1], x[i : i + 1])
        torch.testing.assert_close(projected[i : i + 1], single, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(("norm", "farthest"), [("Linf", 0.9), ("L2", (0.81 + 0.36) ** 0.5), ("L1", 1.5)])
def test_reach_is_the_distance_to_the_farthest_corner(norm, farthest):
    x = torch.tensor([[0.1, 0.6]], dtype=torch.float64)
    assert Threat(norm).reach(x).item() == pytest.approx(farthest)
    assert Threat(norm, 1.0, None).reach(x).item() == float("inf")
