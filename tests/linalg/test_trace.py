"""Sampled traces against dense ones, within their own standard errors."""

import pytest
import torch
from test_eigensolvers import matvec, symmetric

from meseta.errors import UserError
from meseta.linalg import hutchinson_frobenius, hutchinson_trace, lanczos_quadrature


def within(found, truth, errors=5):
    assert ((found.mean - truth).abs() <= errors * found.standard_error + 1e-10 * truth.abs()).all()


@pytest.mark.parametrize("seed", range(3))
def test_every_estimate_is_within_its_standard_errors(seed):
    matrix, eigenvalues = symmetric(4, 40, seed)
    like = torch.empty(4, 5, 8, dtype=torch.float64)
    trace = hutchinson_trace(matvec(matrix), like, samples=200, seed=seed)
    within(trace, eigenvalues.sum(1))
    square = hutchinson_frobenius(matvec(matrix), like, samples=200, seed=seed)
    within(square, (eigenvalues**2).sum(1))
    nuclear = lanczos_quadrature(torch.abs, matvec(matrix), like, samples=20, steps=40, seed=seed)
    within(nuclear, eigenvalues.abs().sum(1))
    assert (trace.products, square.products, nuclear.products) == (200, 200, 800)


def test_the_standard_error_is_the_spread_of_the_estimates():
    """Over many seeds, the mean square of (mean - truth) / standard error is near 1."""
    matrix, eigenvalues = symmetric(3, 12)
    like = torch.empty(3, 12, dtype=torch.float64)
    for estimate, truth in ((hutchinson_trace, eigenvalues.sum(1)), (hutchinson_frobenius, (eigenvalues**2).sum(1))):
        found = [estimate(matvec(matrix), like, samples=40, seed=seed) for seed in range(100)]
        z = torch.stack([(f.mean - truth) / f.standard_error for f in found])
        assert 0.7 < z.square().mean() < 1.4


def test_diagonal_matrices_are_seen_exactly():
    diagonal = torch.tensor([[1.0, -2.0, 5.0], [0.0, 0.0, 0.0]])
    like = torch.empty(2, 3)
    trace = hutchinson_trace(lambda v: diagonal * v, like, samples=2)
    torch.testing.assert_close(trace.mean, torch.tensor([4.0, 0.0], dtype=torch.float64))
    assert not trace.standard_error.any()
    square = hutchinson_frobenius(lambda v: diagonal * v, like, samples=2)
    torch.testing.assert_close(square.mean, torch.tensor([30.0, 0.0], dtype=torch.float64))


def test_quadrature_is_exact_for_one_probe_where_few_eigenvalues_are_distinct():
    """Rank 2 in 30 dimensions: three distinct eigenvalues, so that four products give z^T |H| z itself."""
    u = torch.linalg.qr(torch.randn(30, 2, dtype=torch.float64)).Q
    matrix = 3 * torch.outer(u[:, 0], u[:, 0]) - 2 * torch.outer(u[:, 1], u[:, 1])
    absolute = 3 * torch.outer(u[:, 0], u[:, 0]) + 2 * torch.outer(u[:, 1], u[:, 1])
    like = torch.empty(1, 30, dtype=torch.float64)
    truth = hutchinson_trace(matvec(absolute[None]), like, samples=6, seed=3)
    found = lanczos_quadrature(torch.abs, matvec(matrix[None]), like, samples=6, steps=4, seed=3)
    torch.testing.assert_close(found.mean, truth.mean)
    torch.testing.assert_close(found.standard_error, truth.standard_error)


def test_quadrature_is_exact_for_polynomials_of_degree_up_to_2_steps_minus_1():
    matrix, _ = symmetric(2, 20)
    cube = matrix @ matrix @ matrix
    like = torch.empty(2, 20, dtype=torch.float64)
    truth = hutchinson_trace(matvec(cube), like, samples=3)
    found = lanczos_quadrature(lambda t: t**3, matvec(matrix), like, samples=3, steps=2)
    torch.testing.assert_close(found.mean, truth.mean)


def test_quadrature_outlives_the_exhaustion_of_the_krylov_space():
    """Two distinct eigenvalues: the space ends after two steps, and what follows weighs nothing."""
    diagonal = torch.tensor([[2.0, 2.0, 2.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    found = lanczos_quadrature(torch.abs, lambda v: diagonal * v, torch.empty_like(diagonal), samples=2, steps=5)
    torch.testing.assert_close(found.mean, torch.tensor([8.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_and_dtypes_do_not_matter(dtype):
    matrix, _ = symmetric(3, 15)
    bad = matrix.clone()
    bad[1] = torch.nan
    like = torch.empty(3, 15, dtype=dtype)
    for estimate in (
        hutchinson_trace,
        hutchinson_frobenius,
        lambda *a: lanczos_quadrature(torch.abs, *a, samples=3, steps=15),
    ):
        whole = estimate(matvec(matrix.to(dtype)), like)
        spoilt = estimate(matvec(bad.to(dtype)), like)
        alone = estimate(matvec(matrix[2:].to(dtype)), like[2:])
        assert spoilt.mean[1].isnan()
        torch.testing.assert_close(spoilt.mean[[0, 2]], whole.mean[[0, 2]])
        torch.testing.assert_close(alone.mean[0], whole.mean[2], rtol=1e-4, atol=1e-5)
        assert whole.mean.dtype == torch.float64


def test_one_dimension():
    value = torch.tensor([[-3.0], [2.0]])
    for estimate, expected in (
        (hutchinson_trace, [-3.0, 2.0]),
        (hutchinson_frobenius, [9.0, 4.0]),
        (lambda *a: lanczos_quadrature(torch.abs, *a), [3.0, 2.0]),
    ):
        found = estimate(lambda v: value * v, torch.empty(2, 1))
        torch.testing.assert_close(found.mean, torch.tensor(expected, dtype=torch.float64))
        assert not found.standard_error.any()


@pytest.mark.parametrize(("setting", "value"), [("samples", 1), ("samples", 0), ("seed", -1), ("steps", 0)])
def test_bad_settings_are_refused(setting, value):
    with pytest.raises(UserError, match=f"`{setting}`"):
        lanczos_quadrature(torch.abs, lambda v: v, torch.empty(1, 3), **{setting: value})
