import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from meseta.errors import UserError
from meseta.linalg import dual_exponent, norm, normalized

INF = float("inf")


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, INF])
def test_equals_torch(p):
    v = torch.randn(6, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(norm(v, p), torch.linalg.vector_norm(v.flatten(1), p, 1))


@pytest.mark.parametrize("p", [1, 2, INF])
def test_first_and_second_derivatives_are_finite_at_zero(p):
    v = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    (g,) = torch.autograd.grad(norm(v, p).sum(), v, create_graph=True)
    assert not g[0].any()
    (h,) = torch.autograd.grad(g.square().sum(), v, materialize_grads=True)
    assert h.isfinite().all()


@pytest.mark.parametrize("p", [1, 2, 4])
def test_gradcheck_away_from_zero(p):
    v = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: norm(t, p), v)
    assert torch.autograd.gradgradcheck(lambda t: norm(t, p), v)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_neither_underflows_nor_overflows(scale):
    v = scale * torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(norm(v), torch.tensor([5 * scale]))
    torch.testing.assert_close(norm(normalized(v)), torch.ones(1))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 1.5, 2.0, 3.0, INF]))
def test_hoelder(seed, p):
    torch.manual_seed(seed)
    u, v = torch.randn(2, 4, 7, dtype=torch.float64)
    assert ((u * v).sum(1).abs() <= norm(u, p) * norm(v, dual_exponent(p)) * (1 + 1e-12)).all()


def test_subnormal_vectors_are_normalised():
    v = torch.tensor([[1e-40, 0.0], [1e-39, 2e-39], [0.0, 0.0]])
    torch.testing.assert_close(norm(normalized(v)), torch.tensor([1.0, 1.0, 0.0]))


def test_nan_and_infinity_stay():
    assert norm(torch.tensor([[1.0, torch.nan]])).isnan().all()
    assert norm(torch.tensor([[1.0, -torch.inf]])).isinf().all()


def test_refuses_a_p_below_one():
    with pytest.raises(UserError, match="`p`"):
        norm(torch.ones(1, 1), 0.5)
