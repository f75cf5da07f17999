"""Curvature against dense Gauss-Newton matrices and Hessians: value, gradient, unbiasedness, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_objectives import compare, passes_gradcheck, trained
from torch import nn

from meseta.autodiff import CrossEntropy, dense_gauss_newton, dense_hessian
from meseta.autodiff.gauss_newton import GaussNewton, SoftmaxRoot
from meseta.errors import UserError
from meseta.linalg import Lanczos, PowerIteration
from meseta.objectives import Curvature, Erm

NORMS = {
    "spectral": lambda m: torch.linalg.eigvalsh(m).abs().amax(),
    "trace": lambda m: m.trace(),
    "frobenius": lambda m: m.norm(),
    "squared_frobenius": lambda m: m.norm() ** 2,
}


def dense(model, x, y, full):
    """One example's Hessian of the loss or Gauss-Newton matrix, differentiable, entry by entry."""
    point = x[None].clone().requires_grad_()
    z = model(point)
    loss = F.cross_entropy(z, y[None])

    def rows(vector, **options):
        return [torch.autograd.grad(v, point, create_graph=True, materialize_grads=True)[0].flatten() for v in vector]

    if full:
        (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
        return loss, torch.stack(rows(gradient.flatten()))
    v, p = torch.stack(rows(z[0])), z[0].softmax(0)
    return loss, v.T @ (torch.diag(p) - torch.outer(p, p)) @ v


def twin(b, norm, full=False, weight=0.3):
    parts = [dense(b.model, x, y, full) for x, y in zip(b.x, b.y, strict=True)]
    return torch.stack([loss + weight * NORMS[norm](matrix) for loss, matrix in parts]).mean()


@pytest.mark.parametrize("norm", list(NORMS))
def test_gram_is_the_dense_gauss_newton_norm(batch, norm):
    objective = Curvature(weight=0.3, norm=norm, estimator="gram")
    compare(objective(batch.model, batch.x, batch.y), twin(batch, norm), batch.model)


def test_krylov_is_the_dense_gauss_newton_norm(batch):
    objective = Curvature(weight=0.3, solver=Lanczos(steps=20, tol=1e-12))
    compare(objective(batch.model, batch.x, batch.y), twin(batch, "spectral"), batch.model)


def test_krylov_is_the_dense_hessian_norm(smooth_batch):
    b = smooth_batch
    objective = Curvature(weight=0.3, hessian="full", solver=Lanczos(steps=60, tol=1e-12))
    compare(objective(b.model, b.x, b.y), twin(b, "spectral", full=True), b.model)


def test_gauss_newton_is_the_full_hessian_on_piecewise_linear_networks(relu_batch):
    b = relu_batch
    settings = {"solver": Lanczos(steps=40, tol=1e-12), "weight": 0.3}
    compare(
        Curvature(**settings)(b.model, b.x, b.y),
        Curvature(hessian="full", **settings)(b.model, b.x, b.y).total,
        b.model,
    )


def small(classes=4):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, classes)).double()
    return model, torch.rand(1, 3, dtype=torch.float64), torch.tensor([1])


@pytest.mark.parametrize(
    ("settings", "exact"),
    [
        ({"norm": "trace"}, lambda m, x, y: NORMS["trace"](dense_gauss_newton(m, x)[0])),
        ({"norm": "trace", "estimator": "label"}, lambda m, x, y: NORMS["trace"](dense_gauss_newton(m, x)[0])),
        ({"norm": "squared_frobenius"}, lambda m, x, y: NORMS["squared_frobenius"](dense_gauss_newton(m, x)[0])),
        (
            {"norm": "trace", "hessian": "full"},
            lambda m, x, y: NORMS["trace"](dense_hessian(CrossEntropy().bind(m, x, y), x)[0]),
        ),
        (
            {"norm": "squared_frobenius", "hessian": "full"},
            lambda m, x, y: NORMS["squared_frobenius"](dense_hessian(CrossEntropy().bind(m, x, y), x)[0]),
        ),
    ],
    ids=["trace", "trace by label", "squared_frobenius", "trace of full", "squared_frobenius of full"],
)
def test_sampled_estimates_are_unbiased(settings, exact):
    model, x, y = small()
    many = x.expand(8000, -1), y.expand(8000)
    objective = Curvature(**{"estimator": "sampled", **settings})
    found = objective(model, *many, generator=torch.Generator().manual_seed(0)).terms["curvature"]
    assert abs(found.mean() - exact(model, x, y)) < 5 * found.std() / math.sqrt(len(found))


@pytest.mark.parametrize("estimator", ["sampled", "label"])
def test_the_gradient_of_the_sampled_trace_is_unbiased_too(estimator):
    """Also through the distribution that labels are drawn from: over all labels, weighted, it is exact."""
    model, x, y = small()
    exact = Curvature(weight=1, norm="trace", estimator="gram")(model, x, y)
    (truth,) = torch.autograd.grad(exact.total, model[2].weight)
    draws = []
    for seed in range(60):
        many = x.expand(200, -1), y.expand(200)
        objective = Curvature(weight=1, norm="trace", estimator=estimator)
        total = objective(model, *many, generator=torch.Generator().manual_seed(seed)).total
        draws.append(torch.autograd.grad(total, model[2].weight)[0])
    draws = torch.stack(draws)
    assert ((draws.mean(0) - truth).abs() < 5 * draws.std(0) / math.sqrt(len(draws))).all()


def test_the_root_keeps_the_curvature_of_confident_examples():
    """At a margin of 20 the textbook root diag(sqrt p) (I - sqrt p sqrt p^T) gives zero in float32."""
    logits = torch.tensor([[20.0, 0.0, -3.0]])
    jacobian = torch.tensor([[[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]])
    p = logits.double().softmax(1)
    v = jacobian.double()
    a = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    exact = torch.linalg.eigvalsh(v.mT @ a @ v)[:, -1]
    gram = SoftmaxRoot(logits).gram(jacobian)
    torch.testing.assert_close(torch.linalg.eigvalsh(gram)[:, -1].double(), exact, rtol=1e-5, atol=0)
    assert exact > 0


def test_labels_are_drawn_without_bias_under_autocast():
    """bfloat16 holds 256 numbers in [0, 1): drawn in it, an impossible class came up in one example of 256."""
    model = nn.Linear(4, 4)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 16.0]))
    x, y = torch.rand(1, 4).expand(4000, -1), torch.full((4000,), 3)
    with torch.autocast("cpu", torch.bfloat16):
        objective = Curvature(norm="trace", estimator="label")
        found = objective(model, x, y, generator=torch.Generator().manual_seed(0)).terms["curvature"]
    assert found.max() < 1e-3


def test_root_and_its_transpose_make_the_gauss_newton_matrix(batch):
    g, matrix = GaussNewton(batch.model, batch.x), dense_gauss_newton(batch.model, batch.x)
    classes = g.logits.shape[1]
    root = torch.stack([g.root(u.expand(len(batch.x), -1)).flatten(1) for u in torch.eye(classes).double()], 2)
    torch.testing.assert_close(root @ root.mT, matrix)
    v = torch.randn_like(batch.x)
    torch.testing.assert_close(g.root_transposed(v), (root.mT @ v.flatten(1)[:, :, None])[:, :, 0])


@pytest.mark.parametrize(
    "objective",
    [
        Curvature(solver=Lanczos(steps=5, tol=1e-10)),
        Curvature(norm="frobenius"),
        Curvature(hessian="full", solver=Lanczos(steps=5, tol=1e-10)),
    ],
    ids=lambda o: f"{o.hessian}-{o.norm}",
)
def test_gradcheck_in_the_parameters(objective):
    assert passes_gradcheck(objective)


def test_norms_are_ordered(batch):
    trace, frobenius, spectral = (
        Curvature(norm=norm, estimator="gram")(batch.model, batch.x, batch.y).terms["curvature"]
        for norm in ("trace", "frobenius", "spectral")
    )
    assert (trace >= frobenius - 1e-12).all()
    assert (frobenius >= spectral - 1e-12).all()
    assert (spectral >= trace / (batch.classes - 1) - 1e-12).all()


def largest_eigenvalue(model, x, y):
    matrix = dense_hessian(CrossEntropy().bind(model, x, y), x)
    return torch.linalg.eigvalsh(matrix).abs().amax(1).mean()


@pytest.mark.parametrize(
    "objective",
    [
        Curvature(weight=0.3),
        Curvature(weight=0.3, estimator="gram"),
        Curvature(weight=0.3, hessian="full"),
        Curvature(weight=0.1, norm="trace"),
        Curvature(weight=0.1, norm="trace", estimator="label"),
        Curvature(weight=0.3, norm="frobenius"),
        Curvature(weight=0.1, norm="squared_frobenius"),
    ],
    ids=lambda o: f"{o.hessian}-{o.norm}-{o.estimator}",
)
def test_training_lowers_the_curvature_of_held_out_data(objective):
    assert largest_eigenvalue(*trained(objective)) < 0.6 * largest_eigenvalue(*trained(Erm()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "nuclear"}, "`norm`"),
        ({"norm": "frobenius", "hessian": "full"}, "`norm`"),
        ({"norm": "trace", "estimator": "krylov"}, "`estimator` for trace"),
        ({"estimator": "gram", "solver": Lanczos()}, "`solver`"),
        ({"norm": "trace", "solver": PowerIteration()}, "`solver`"),
        ({"solver": Lanczos(which="smallest")}, "`solver` must look for the largest"),
        ({"solver": "Lanczos"}, "`solver` must be a Solver"),
        ({"weight": -1.0}, "`weight`"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Curvature(**settings)
