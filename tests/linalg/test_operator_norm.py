"""Operator norms from below: exact where the theory says so, monotone, and never above the truth."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_eigensolvers import matvec, symmetric

from meseta.errors import UserError
from meseta.linalg import HessianAscent, Lanczos, OperatorNorm, PowerIteration, dual_exponent, dual_vector, norm

INF = float("inf")


def value(matrix, v, q):
    return norm(matvec(matrix)(v), q)


def truth(matrix, p, q):
    """By definition where it can be computed: 2 -> 2, p -> inf by rows, 1 -> q by columns, inf -> 1 by corners."""
    if (p, q) == (2, 2):
        return torch.linalg.eigvalsh(matrix).abs().amax(1)
    if q == INF:
        return matrix.norm(dual_exponent(p), dim=2).amax(1)
    if p == 1:
        return matrix.norm(q, dim=1).amax(1)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=matrix.dtype)] * matrix.shape[1])
    return (corners @ matrix).norm(q, dim=2).amax(1)


@pytest.mark.parametrize(("p", "q"), [(2, 2), (1, INF), (INF, 1), (2, INF), (1, 2), (INF, 2)])
def test_many_starts_find_the_norm(p, q):
    matrix, _ = symmetric(4, 6)
    start = torch.randn(4, 6, dtype=torch.float64)
    v = OperatorNorm(steps=40, restarts=60).direction(matvec(matrix), start, p, q)
    torch.testing.assert_close(norm(v, p), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(value(matrix, v, q), truth(matrix, p, q))


@pytest.mark.parametrize(("p", "q"), [(3, 1.5), (2, 2), (4, 2)])
def test_one_start_finds_the_norm_of_a_nonnegative_matrix(p, q):
    """A nonnegative matrix with p >= q has one maximum: any nonnegative start reaches the same value."""
    matrix = torch.rand(3, 5, 5, dtype=torch.float64)
    matrix = matrix + matrix.mT
    values = [
        value(matrix, OperatorNorm(steps=200).direction(matvec(matrix), torch.rand(3, 5).double() + 0.01, p, q), q)
        for _ in range(2)
    ]
    torch.testing.assert_close(*values)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.5, 2.0, 3.0, INF]), st.sampled_from([1.0, 2.0, 4.0, INF]))
def test_the_value_never_falls(seed, p, q):
    matrix, _ = symmetric(3, 7, seed)
    start = torch.randn(3, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = [value(matrix, OperatorNorm(steps=k).direction(matvec(matrix), start, p, q), q) for k in (1, 2, 5, 12)]
    for earlier, later in pairwise(values):
        assert (later >= earlier * (1 - 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1.0, 1.3, 2.0, 5.0, INF]))
def test_a_dual_vector_attains_the_norm(seed, p):
    v = torch.randn(4, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u = dual_vector(v, p)
    torch.testing.assert_close((u * v).sum(1), norm(v, p))
    torch.testing.assert_close(norm(u, dual_exponent(p)), torch.ones(4, dtype=torch.float64))
    assert not dual_vector(torch.zeros(2, 3), p).any()


def test_zero_matrices_and_zero_starts_give_zero_not_nan():
    zero = torch.zeros(2, 4, 4, dtype=torch.float64)
    for p, q in ((2, 2), (INF, 1)):
        for start in (torch.ones(2, 4).double(), torch.zeros(2, 4).double()):
            v = OperatorNorm(restarts=2).direction(matvec(zero), start, p, q)
            assert v.isfinite().all()
            assert not value(zero, v, q).any()


def test_eigensolvers_give_the_2_2_norm_alone():
    matrix, eigenvalues = symmetric(4, 9)
    start = torch.randn(4, 9, dtype=torch.float64)
    v = Lanczos(tol=1e-9).direction(matvec(matrix), start)
    torch.testing.assert_close(value(matrix, v, 2), eigenvalues.abs().amax(1))
    for solver in (Lanczos(), PowerIteration()):
        with pytest.raises(UserError, match=r"inf -> 1. Use OperatorNorm"):
            solver.direction(matvec(matrix), start, INF, 1)


def test_published_ascent_climbs_for_other_norms_but_stalls():
    """Rescaling v to unit norm is no projection onto the cube, so that most entries stay off its corners."""
    torch.manual_seed(0)  # it may fall from where it begins, if that is good
    matrix, _ = symmetric(3, 6)
    start = torch.randn(3, 6, dtype=torch.float64)
    begun, climbed = (HessianAscent(steps=k).direction(matvec(matrix), start, INF, 1) for k in (0, 50))
    best = OperatorNorm(restarts=20).direction(matvec(matrix), start, INF, 1)
    assert (value(matrix, climbed, 1) > value(matrix, begun, 1)).all()
    assert (value(matrix, climbed, 1) < value(matrix, best, 1)).all()
