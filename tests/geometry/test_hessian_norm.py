"""Operator norms between two norms: from below, from above, and exact where both meet."""

import itertools

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import HessianNorm, SpectralCurvature
from meseta.geometry.hessian_norm import norm_bound
from meseta.linalg import HessianAscent, Lanczos, OperatorNorm, dual_exponent

INF = float("inf")
PAIRS = [(2, 2), (1, INF), (2, INF), (1, 2), (1, 1), (INF, INF), (INF, 1), (INF, 2), (2, 1), (3, 1.5)]


def corners(d):
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d)), dtype=torch.float64)


@pytest.mark.parametrize(("p", "q"), PAIRS)
@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
def test_lower_and_upper_bound_enclose_the_norm(smooth_batch, p, q, field):
    """Random directions never exceed the upper bound, and the lower bound is attained; where p is inf, by corners."""
    b = smooth_batch
    matrix = dense_hessian(field.bind(b.model, b.x, b.y), b.x)
    found = HessianNorm(field=field, p=p, q=q, upper=True)(b.model, b.x, b.y)
    upper = found.parts["upper"]
    assert (found.value <= upper * (1 + 1e-9)).all()
    d = matrix.shape[1]
    v = corners(d) if p == INF and d < 12 else torch.randn(300, d, dtype=torch.float64)
    attained = (v @ matrix).norm(q, dim=2) / v.norm(p, dim=1)
    assert (attained <= upper[:, None] * (1 + 1e-9)).all()
    if p == INF and d < 12:
        truth = attained.amax(1)
        assert (found.value <= truth * (1 + 1e-9)).all()
        assert (found.value >= 0.9 * truth).all()


@pytest.mark.parametrize(("p", "q"), [(2, 2), (1, INF), (2, INF), (INF, INF), (1, 2), (1, 1)])
def test_the_upper_bound_is_the_norm_where_it_has_a_formula(smooth_batch, p, q):
    b = smooth_batch
    matrix = dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x)
    if (p, q) == (2, 2):
        truth = torch.linalg.eigvalsh(matrix).abs().amax(1)
    elif q == INF:
        truth = matrix.norm(dual_exponent(p), dim=2).amax(1)
    else:
        truth = matrix.norm(q, dim=1).amax(1)
    found = HessianNorm(p=p, q=q, upper=True)(b.model, b.x, b.y)
    torch.testing.assert_close(found.parts["upper"], truth)


def test_the_upper_bound_from_inf_to_1_is_the_lesser_of_two():
    matrix = torch.randn(5, 7, 7, dtype=torch.float64)
    matrix = matrix + matrix.mT
    entries, spectral = matrix.abs().sum((1, 2)), 7 * torch.linalg.eigvalsh(matrix).abs().amax(1)
    torch.testing.assert_close(norm_bound(matrix, INF, 1.0), entries.minimum(spectral))


def test_the_change_of_the_gradient_is_bounded_by_it_to_first_order(smooth_batch):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    upper = HessianNorm(upper=True)(b.model, b.x, b.y).parts["upper"]
    for seed in range(20):
        x = b.x.clone().requires_grad_()
        g = torch.Generator().manual_seed(seed)
        move = 1e-4 * torch.randn(b.x.shape, generator=g, dtype=torch.float64).sign()
        (here,) = torch.autograd.grad(f(x).sum(), x)
        there = x.detach() + move
        there.requires_grad_()
        (moved,) = torch.autograd.grad(f(there).sum(), there)
        assert ((moved - here).flatten(1).abs().sum(1) <= 1e-4 * upper * 1.01 + 1e-12).all()


def test_two_to_two_is_the_spectral_norm(batch):
    truth = SpectralCurvature(solver=Lanczos(tol=1e-7))(batch.model, batch.x, batch.y).value.abs()
    for solver in (OperatorNorm(steps=60), Lanczos(tol=1e-7)):
        found = HessianNorm(p=2, q=2, solver=solver)(batch.model, batch.x, batch.y)
        torch.testing.assert_close(found.value, truth, rtol=1e-3, atol=0)


def test_products_are_counted(smooth_batch):
    b = smooth_batch
    solver = OperatorNorm(steps=3, restarts=2)
    assert HessianNorm(solver=solver)(b.model, b.x, b.y).products == 2 * (2 * 3 + 1) + 1
    assert HessianNorm(solver=solver, upper=True)(b.model, b.x, b.y).products == 15 + b.x[0].numel()
    assert HessianNorm(solver=HessianAscent(steps=4))(b.model, b.x, b.y).products == 9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_value_zero_gradient_and_saturation(dtype):
    x, y = torch.tensor([[0.0], [1.0], [0.0]], dtype=dtype), torch.tensor([0, 0, 0])
    bend = torch.tensor([3.0, -2.0, 0.0], dtype=dtype)

    def model(inputs):
        return torch.stack([bend * inputs[:, 0] ** 2 / 2, torch.zeros_like(inputs[:, 0])], 1)

    found = HessianNorm(field=Margin(), upper=True)(model, x, y)
    for value in (found.value, found.parts["upper"]):
        torch.testing.assert_close(value, bend.abs())
        assert value.dtype == dtype


def test_a_nonfinite_example_has_no_upper_bound_either():
    inner = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3))
    x, y = torch.tensor([[0.5, 0.1, 0.2], [-0.5, 0.2, 0.3]]), torch.tensor([0, 1])
    found = HessianNorm(upper=True)(lambda v: inner(v) / (v[:, :1] > 0), x, y)
    assert found.parts["upper"][1].isnan()
    assert found.value[1].isnan()
    assert found.parts["upper"][0] >= found.value[0] * (1 - 1e-5)


def test_a_batch_that_exceeds_the_memory_is_taken_in_parts(smooth_batch, monkeypatch):
    b = smooth_batch
    whole = HessianNorm(upper=True)(b.model, b.x, b.y)
    monkeypatch.setattr("meseta.geometry.second_order.ENTRIES", 2 * b.x[0].numel() ** 2)
    torch.testing.assert_close(HessianNorm(upper=True)(b.model, b.x, b.y).parts, whole.parts)


def test_the_name_holds_the_norms():
    assert HessianNorm().name == "HessianNorm(CrossEntropy), inf -> 1"


def test_bad_settings_and_blind_fields_are_refused(relu_batch):
    b = relu_batch
    with pytest.raises(UserError, match="HessianNorm: the margins' Hessian is exactly zero"):
        HessianNorm(field=Decision())(b.model, b.x, b.y)
    with pytest.raises(UserError, match=r"have 72, above 10. Leave `upper` out"):
        HessianNorm(upper=True, most=10)(b.model, b.x, b.y)
    with pytest.raises(UserError, match=r"inf -> 1. Use OperatorNorm"):
        HessianNorm(solver=Lanczos())(b.model, b.x, b.y)
    for bad in ({"p": 0.5}, {"q": 0}, {"solver": 1}, {"most": 0}):
        with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
            HessianNorm(**bad)
