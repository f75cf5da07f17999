"""Several eigenpairs at once, against dense ones; multiplicities and breakdown."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_eigensolvers import matvec, symmetric

from meseta.errors import UserError
from meseta.linalg import Lanczos


def first(eigenvalues, which, k):
    """The first k of each example in the order of `which`."""
    key = {"largest_magnitude": -eigenvalues.abs(), "largest": -eigenvalues, "smallest": eigenvalues}[which]
    return eigenvalues.gather(1, key.argsort(1)[:, :k])


@pytest.mark.parametrize("which", ["largest_magnitude", "largest", "smallest"])
def test_equals_dense_eigenpairs_with_sign_and_order(which):
    matrix, eigenvalues = symmetric(6, 30)
    start = torch.randn(6, 5, 6, dtype=torch.float64)
    found = Lanczos(steps=30, tol=1e-9, which=which).pairs(matvec(matrix), start, 4)
    torch.testing.assert_close(found.values, first(eigenvalues, which, 4))
    assert found.converged.all()
    assert found.vectors.shape == (6, 4, 5, 6)
    v = found.vectors.flatten(2)
    torch.testing.assert_close(v @ v.mT, torch.eye(4, dtype=torch.float64).expand(6, 4, 4))
    residual = (v @ matrix - found.values[:, :, None] * v).norm(dim=2)
    torch.testing.assert_close(residual, found.residuals, rtol=1e-3, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 10), st.integers(1, 5), st.integers(5, 12))
def test_every_residual_bounds_its_error(seed, d, k, steps):
    matrix, eigenvalues = symmetric(3, d, seed)
    start = torch.randn(3, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = Lanczos(steps=steps, tol=1e-6).pairs(matvec(matrix), start, k)
    assert found.values.shape == (3, min(k, d))
    nearest = (eigenvalues[:, None] - found.values[:, :, None]).abs().amin(2)
    assert (nearest <= found.residuals + 1e-10).all()
    if steps >= d:
        torch.testing.assert_close(found.values, first(eigenvalues, "largest_magnitude", min(k, d)))


def test_one_pair_is_the_call():
    matrix, _ = symmetric(3, 20)
    start = torch.randn(3, 20, dtype=torch.float64)
    pair, pairs = Lanczos()(matvec(matrix), start), Lanczos().pairs(matvec(matrix), start, 1)
    assert torch.equal(pair.value, pairs.values[:, 0])
    assert torch.equal(pair.vector, pairs.vectors[:, 0])
    assert pair.products == pairs.products


def test_a_multiple_eigenvalue_is_found_once_before_the_space_ends_and_with_its_copies_after():
    diagonal = torch.cat([torch.tensor([9.0, 9.0]), torch.linspace(0, 5, 38)]).double()[None]
    start = torch.ones(1, 40, dtype=torch.float64)
    early = Lanczos(steps=20, tol=1e-3).pairs(lambda v: diagonal * v, start, 2)
    torch.testing.assert_close(early.values, torch.tensor([[9.0, 5.0]], dtype=torch.float64), rtol=1e-3, atol=0)
    complete = Lanczos(steps=40, tol=1e-14).pairs(lambda v: diagonal * v, start, 2)
    torch.testing.assert_close(complete.values, torch.tensor([[9.0, 9.0]], dtype=torch.float64))


def test_copies_are_found_where_few_eigenvalues_are_distinct():
    """The space of two distinct eigenvalues ends after two steps; each fresh direction shows one more copy."""
    diagonal = torch.ones(1, 60, dtype=torch.float64)
    diagonal[0, :4] = -5
    found = Lanczos().pairs(lambda v: diagonal * v, torch.randn(1, 60, dtype=torch.float64), 5)
    expected = torch.tensor([[-5.0, -5, -5, -5, 1]], dtype=torch.float64)
    torch.testing.assert_close(found.values, expected)
    assert found.converged.all()
    assert found.products < 20


def test_low_rank_gives_zeros_behind_its_eigenvalues_and_spoils_no_neighbour():
    matrix, eigenvalues = symmetric(4, 12)
    w = torch.randn(12, dtype=torch.float64)
    matrix[1] = torch.outer(w, w)
    matrix[2] = 0
    start = torch.randn(4, 12, dtype=torch.float64)
    start[1], start[2] = w, 0  # in an invariant subspace, and no direction at all
    found = Lanczos(tol=1e-9).pairs(matvec(matrix), start, 3)
    torch.testing.assert_close(found.values[[0, 3]], first(eigenvalues, "largest_magnitude", 3)[[0, 3]])
    torch.testing.assert_close(found.values[1], torch.stack([w @ w, 0 * w[0], 0 * w[0]]))
    assert not found.values[2].any()
    assert found.converged.all()


def test_fresh_directions_do_not_depend_on_the_neighbours():
    """What an example finds after its space has ended is the same alone, in company, and at another index."""
    diagonal = torch.zeros(3, 30, dtype=torch.float64)
    diagonal[:, :3] = torch.tensor([4.0, -3.0, 1.0])
    start = torch.zeros(3, 30, dtype=torch.float64)
    start[0, 0] = start[1, 1] = start[2, 2] = 1
    solver = Lanczos(steps=5, tol=1e-12)
    together = solver.pairs(lambda v: diagonal * v, start, 3)
    for i in range(3):
        alone = solver.pairs(lambda v: diagonal[:1] * v, start[i : i + 1], 3)
        torch.testing.assert_close(alone.values[0], together.values[i])
        torch.testing.assert_close(alone.residuals[0], together.residuals[i], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_nonfinite_example_is_reported_and_spoils_nobody(dtype):
    matrix, eigenvalues = symmetric(3, 8)
    matrix[1] = torch.nan
    start = torch.randn(3, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found = Lanczos(tol=1e-3).pairs(matvec(matrix.to(dtype)), start, 3)
    assert found.values[1].isnan().all()
    assert not found.converged[1].any()
    expected = first(eigenvalues, "largest_magnitude", 3)[[0, 2]].to(dtype)
    torch.testing.assert_close(found.values[[0, 2]], expected, rtol=1e-2, atol=1e-4)


def test_more_pairs_than_dimensions_are_all_there_are_and_more_than_steps_are_refused():
    value = torch.tensor([[-3.0], [2.0]])
    found = Lanczos().pairs(lambda v: value * v, torch.ones(2, 1), 5)
    torch.testing.assert_close(found.values, value)
    assert found.converged.all()
    with pytest.raises(UserError, match="`k` must be at most the 4 steps"):
        Lanczos(steps=4).pairs(lambda v: v, torch.ones(1, 9), 5)
    with pytest.raises(UserError, match="`k`"):
        Lanczos().pairs(lambda v: v, torch.ones(1, 9), 0)
