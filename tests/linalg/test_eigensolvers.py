"""Batched eigensolvers against dense eigenvalues, with breakdown, indefiniteness and bad examples."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meseta.errors import UserError
from meseta.linalg import HessianAscent, Lanczos, PowerIteration


def symmetric(b, d, seed=0, decay=1.0):
    g = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(b, d, d, generator=g, dtype=torch.float64)).Q
    eigenvalues = torch.randn(b, d, generator=g, dtype=torch.float64) * torch.arange(1, d + 1) ** -decay
    return q @ torch.diag_embed(eigenvalues) @ q.mT, eigenvalues


def matvec(matrix):
    return lambda v: torch.einsum("bde,be->bd", matrix, v.flatten(1)).view_as(v)


def extreme(eigenvalues, which):
    if which == "largest":
        return eigenvalues.amax(1)
    if which == "smallest":
        return eigenvalues.amin(1)
    return eigenvalues.gather(1, eigenvalues.abs().argmax(1, keepdim=True)).squeeze(1)


@pytest.mark.parametrize("which", ["largest_magnitude", "largest", "smallest"])
def test_lanczos_finds_the_signed_extreme_eigenpair(which):
    matrix, eigenvalues = symmetric(8, 30)
    pair = Lanczos(steps=30, tol=1e-8, which=which)(matvec(matrix), torch.randn(8, 5, 6, dtype=torch.float64))
    torch.testing.assert_close(pair.value, extreme(eigenvalues, which))
    assert pair.converged.all()
    assert pair.vector.shape == (8, 5, 6)
    residual = torch.einsum("bde,be->bd", matrix, pair.vector.flatten(1)) - pair.value[:, None] * pair.vector.flatten(1)
    torch.testing.assert_close(residual.norm(dim=1), pair.residual, rtol=1e-3, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 14))
def test_residual_bounds_the_error_and_the_norm_is_never_exceeded(seed, d, steps):
    matrix, eigenvalues = symmetric(3, d, seed)
    start = torch.randn(3, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pair = Lanczos(steps=steps, tol=1e-6)(matvec(matrix), start)
    nearest = (eigenvalues - pair.value[:, None]).abs().amin(1)
    assert (nearest <= pair.residual + 1e-10).all()
    assert (pair.value.abs() <= eigenvalues.abs().amax(1) + 1e-10).all()
    assert pair.products <= min(steps, d)
    if steps >= d:
        torch.testing.assert_close(pair.value, extreme(eigenvalues, "largest_magnitude"))


def test_early_breakdown_of_one_example_does_not_touch_its_neighbours():
    d = 12
    matrix, eigenvalues = symmetric(4, d)
    w = torch.randn(d, dtype=torch.float64)
    matrix[1] = torch.outer(w, w)  # rank one, and the start is its eigenvector: exhausted after one step
    matrix[2] = 0
    start = torch.randn(4, d, dtype=torch.float64)
    start[1] = w
    pair = Lanczos(steps=d, tol=1e-9)(matvec(matrix), start)
    expected = extreme(eigenvalues, "largest_magnitude")
    torch.testing.assert_close(pair.value[[0, 3]], expected[[0, 3]])
    torch.testing.assert_close(pair.value[1], w @ w)
    assert pair.value[2] == 0
    assert pair.converged.all()
    alone = Lanczos(steps=d, tol=1e-9)(matvec(matrix[[0, 3]]), start[[0, 3]])
    torch.testing.assert_close(alone.value, pair.value[[0, 3]])


def test_start_in_a_small_invariant_subspace_still_finds_the_largest():
    diagonal = torch.tensor([[1.0, 0.5, -9.0, 0.2, 0.1]], dtype=torch.float64)
    start = torch.tensor([[1.0, 0, 0, 0, 0]], dtype=torch.float64)
    pair = Lanczos(steps=5)(lambda v: diagonal * v, start)
    torch.testing.assert_close(pair.value, torch.tensor([-9.0], dtype=torch.float64), rtol=1e-2, atol=0)


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_larger_invariant_subspace_is_left_too_alone_and_in_company(neighbours):
    diagonal = torch.tensor([[1.0, 0.5, -9.0, 0.2, 0.1]], dtype=torch.float64)
    start = torch.tensor([[1.0, 1.0, 0, 0, 0]], dtype=torch.float64)
    matrix = torch.cat([diagonal, torch.linspace(1, 5, 5, dtype=torch.float64)[None]])[: 1 + neighbours]
    starts = torch.cat([start, torch.ones(1, 5, dtype=torch.float64)])[: 1 + neighbours]
    pair = Lanczos(steps=5)(lambda v: matrix * v, starts)
    torch.testing.assert_close(pair.value[0], torch.tensor(-9.0, dtype=torch.float64), rtol=1e-2, atol=0)


def test_zero_start_is_replaced_and_zero_matrix_has_converged():
    matrix, eigenvalues = symmetric(2, 6)
    pair = Lanczos(steps=6)(matvec(matrix), torch.zeros(2, 6, dtype=torch.float64))
    torch.testing.assert_close(pair.value, extreme(eigenvalues, "largest_magnitude"), rtol=1e-2, atol=0)
    zero = Lanczos()(torch.zeros_like, torch.randn(2, 6))
    assert not zero.value.any()
    assert zero.converged.all()


def test_convergence_is_relative_to_the_eigenvalue_asked_for():
    """A small negative eigenvalue below a large positive one: never called converged while it is wrong."""
    diagonal = torch.cat([torch.tensor([100.0, -0.2, -0.1]), torch.linspace(0, 5, 97)]).double()[None]
    start = torch.ones(1, 100, dtype=torch.float64)
    for steps in (3, 5, 8, 15, 40):
        pair = Lanczos(steps=steps, which="smallest")(lambda v: diagonal * v, start)
        assert not pair.converged or abs(pair.value + 0.2) < 0.02 * 0.2
    assert pair.converged


def test_a_start_near_a_lower_eigenvector_is_not_enough():
    g = torch.Generator().manual_seed(0)
    diagonal = torch.cat([torch.tensor([1.0, 0.6]), 0.1 * torch.randn(198, generator=g)]).double()[None]
    start = 0.003 * torch.randn(1, 200, generator=g, dtype=torch.float64) / 200**0.5
    start[0, :2] += torch.tensor([0.01, 1.0])
    pair = Lanczos()(lambda v: diagonal * v, start)
    torch.testing.assert_close(pair.value, torch.ones(1, dtype=torch.float64), rtol=1e-2, atol=0)


def test_one_nonfinite_example_is_reported_and_spoils_nobody():
    matrix, eigenvalues = symmetric(3, 6)
    matrix[1] = torch.nan
    pair = Lanczos(steps=6)(matvec(matrix), torch.randn(3, 6, dtype=torch.float64))
    assert pair.value[1].isnan()
    assert pair.converged.tolist() == [True, False, True]
    torch.testing.assert_close(pair.value[[0, 2]], extreme(eigenvalues, "largest_magnitude")[[0, 2]], rtol=1e-2, atol=0)


def test_float32_with_tiny_and_huge_scales():
    matrix, eigenvalues = symmetric(1, 40, decay=2.0)
    for scale in (1e-12, 1.0, 1e8):
        pair = Lanczos(steps=40)(matvec((scale * matrix).float()), torch.randn(1, 40))
        torch.testing.assert_close(
            pair.value.double() / scale, extreme(eigenvalues, "largest_magnitude"), rtol=1e-2, atol=0
        )
        assert pair.converged.all()


def test_stops_early_when_all_have_converged():
    diagonal = torch.ones(2, 500, dtype=torch.float64)
    diagonal[:, 0] = 100
    calls = []

    def count(v):
        calls.append(1)
        return diagonal * v

    pair = Lanczos(steps=50)(count, torch.ones(2, 500, dtype=torch.float64))
    assert pair.products == len(calls) <= 3


def test_power_iteration_and_ascent_agree_with_dense_on_a_well_separated_spectrum():
    diagonal = torch.linspace(0, 1, 20, dtype=torch.float64).repeat(2, 1)
    diagonal[:, 3] = torch.tensor([-10.0, 10.0])
    start = torch.ones(2, 20, dtype=torch.float64)
    for solver, products in ((PowerIteration(steps=20), 20), (HessianAscent(steps=40), 81)):
        pair = solver(lambda v: diagonal * v, start)
        torch.testing.assert_close(pair.value, diagonal[:, 3], rtol=1e-2, atol=0)
        assert pair.products == products


def test_published_ascent_is_blind_to_small_curvature_and_lanczos_is_not():
    """The iteration I + (o/|Hv|) H^2 hardly moves where H is small: the scale decides how much of it is seen."""
    matrix, eigenvalues = symmetric(20, 50, seed=3)
    truth = extreme(eigenvalues, "largest_magnitude").abs()
    start = torch.randn(20, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def share(solver, scale):
        return (solver(matvec(scale * matrix), start).value.abs() / (scale * truth)).mean().item()

    assert share(HessianAscent(steps=10), 30.0) > 0.9
    assert share(HessianAscent(steps=10), 0.01) < 0.5
    assert share(Lanczos(), 0.01) > 0.99


@pytest.mark.parametrize("bad", [{"steps": 0}, {"tol": 0}, {"tol": float("nan")}, {"which": "biggest"}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Lanczos(**bad)


def test_an_end_of_the_spectrum_that_is_still_uncertain_is_not_passed_over():
    """The start is almost the eigenvector of 1, and -1.1 is there: the tolerance alone stops at 1 in 21 cases."""
    wrong = 0
    for seed in range(100):
        generator = torch.Generator().manual_seed(seed)
        eigenvalues = 0.05 * torch.randn(60, dtype=torch.float64, generator=generator)
        eigenvalues[:2] = torch.tensor([1.0, -1.1])
        start = 0.003 * torch.randn(1, 60, dtype=torch.float64, generator=generator)
        start[0, 0] += 1
        start[0, 1] += 0.003
        wrong += int(Lanczos(tol=0.1)(lambda v, e=eigenvalues: v * e, start).value > 0)
    assert wrong < 10
