"""SOAR against slow twins, on exact quadratics, and its clips."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_objectives import adversarial_loss, compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta import Threat
from meseta.attacks import PGD
from meseta.autodiff import CrossEntropy, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.linalg import Lanczos
from meseta.objectives import Erm, Soar
from meseta.objectives.soar import clip_gradient, clip_value, lifted_spectral_norm

EXACT = Lanczos(which="largest", tol=1e-10)
RESOLUTION = 100 * torch.finfo(torch.float64).eps


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gradient(b, x, y):
    point = x[None].detach().clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(b.model(point), y[None]), point, create_graph=True)[0].flatten()


@pytest.mark.parametrize("form", ["as_published", "corrected"])
@pytest.mark.parametrize("directions", [1, 3])
def test_the_frobenius_forms(batch, form, directions):
    alpha, eps, d = 0.05, 0.1, batch.x[0].numel()
    generator, draws = seeded(), []
    for _ in range(directions):
        z = torch.randn(batch.x.shape, generator=generator, dtype=torch.float64).flatten(1)
        z_1 = torch.randn(len(z), generator=generator, dtype=torch.float64)
        draws.append((z, z_1, 1 - torch.rand(len(z), generator=generator, dtype=torch.float64)))
    total = 0
    for i, (x, y) in enumerate(zip(batch.x, batch.y, strict=True)):
        g, lengths = gradient(batch, x, y), []
        for zs, z_1s, shares in draws:
            z, z_1, unit = zs[i], z_1s[i], zs[i] / zs[i].norm()
            least = 1.01 * RESOLUTION * x.abs().max() / unit.abs().max()
            h = least + (alpha - least) * shares[i]
            upper = z.norm() * (gradient(batch, x + h * unit.view_as(x), y) - g) / h + z_1 * g
            lower = (g @ z + z_1)[None] if form == "corrected" else z.new_zeros(1)
            lengths.append(torch.cat([upper, lower]).norm())
        lengths = torch.stack(lengths)
        length = lengths.mean() if form == "as_published" else lengths.square().mean().sqrt()
        total = total + F.cross_entropy(batch.model(x[None]), y[None]) + 0.3 * (d * eps**2 + 1) / 2 * length
    objective = Soar(
        weight=0.3, threat=Threat(eps=eps), start="zero", form=form, alpha=alpha, directions=directions, value_clip=None
    )
    compare(objective(batch.model, batch.x, batch.y, generator=seeded()), total / len(batch.x), batch.model)


def lifted_matrices(b, radius):
    """[[r^2 H, r g], [r g^T, 0]] of each example, with the graph to the parameters."""
    for x, y in zip(b.x, b.y, strict=True):
        point = x.flatten().clone().requires_grad_()
        loss = F.cross_entropy(b.model(point.view_as(x)[None]), y[None])
        (g,) = torch.autograd.grad(loss, point, create_graph=True)
        rows = [torch.autograd.grad(e, point, create_graph=True, materialize_grads=True)[0] for e in g]
        top = torch.cat([radius**2 * torch.stack(rows), radius * g[:, None]], 1)
        yield loss, torch.cat([top, torch.cat([radius * g, g.new_zeros(1)])[None]])


@pytest.mark.parametrize("threat", [Threat(eps=0.2), Threat("L2", 0.7)])
def test_the_lifted_form_is_the_largest_eigenvalue(batch, threat):
    radius = threat.l2_radius(batch.x[0].numel())
    pairs = [(loss, torch.linalg.eigvalsh(m)[-1]) for loss, m in lifted_matrices(batch, radius)]
    twin = torch.stack([loss + 0.3 * largest for loss, largest in pairs]).mean()
    objective = Soar(weight=0.3, threat=threat, start="zero", form="lifted_spectral", solver=EXACT, value_clip=None)
    compare(objective(batch.model, batch.x, batch.y), twin, batch.model)


def quadratic(seed=0, *, rank_one=False):
    """A two-class model whose cross-entropy for class 0 is 9 + b^T x + x^T A x / 2, with A and b."""
    torch.manual_seed(seed)
    root, b = torch.randn(4, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    A = root @ root.T / 4 - torch.eye(4, dtype=torch.float64) / 2
    if rank_one:
        A, b = torch.outer(b, b), torch.zeros_like(b)

    def model(x):
        loss = 9 + x @ b + ((x @ A) * x).sum(1) / 2
        return torch.stack([torch.zeros_like(loss), loss.expm1().log()], 1)

    return model, A, b


def samples(form, model, x, n=4000):
    many, y = x.expand(n, -1), torch.zeros(n, dtype=torch.long)
    objective = Soar(start="zero", form=form, value_clip=None)
    scale = (objective.threat.l2_radius(x.shape[1]) ** 2 + 1) / 2
    return objective(model, many, y, generator=seeded()).terms["soar"] / scale


def test_the_square_of_the_corrected_norm_estimates_the_frobenius_norm():
    """Differences of gradients are exact on a quadratic, whatever their step."""
    model, A, b = quadratic()
    x = torch.rand(1, 4, dtype=torch.float64)
    g = (x @ A + b)[0]
    lifted = torch.cat([torch.cat([A, g[:, None]], 1), torch.cat([g, g.new_ones(1)])[None]])
    squares = samples("corrected", model, x) ** 2
    assert abs(squares.mean() - lifted.square().sum()) < 5 * squares.std() / math.sqrt(len(squares))


def test_the_published_norm_is_too_small_for_rank_one():
    """E||Hz|| is sqrt(2/pi) = 0.80 of the Frobenius norm, at the minimum of a loss of rank one."""
    model, A, _ = quadratic(rank_one=True)
    lengths = samples("as_published", model, torch.zeros(1, 4, dtype=torch.float64))
    truth = math.sqrt(2 / math.pi) * A.norm()
    assert abs(lengths.mean() - truth) < 5 * lengths.std() / math.sqrt(len(lengths))


@pytest.mark.parametrize("seed", range(6))
def test_the_lifted_norm_bounds_the_quadratic_model_and_is_tighter_than_frobenius(seed):
    model, A, b = quadratic(seed)
    x, radius = torch.rand(1, 4, dtype=torch.float64), 0.8
    f = CrossEntropy().bind(model, x, torch.tensor([0]))
    bound = lifted_spectral_norm(f, x, radius, EXACT)[1].item()
    g = (x @ A + b)[0]
    v = torch.randn(20000, 4, dtype=torch.float64, generator=seeded(seed))
    v = radius * v / v.norm(dim=1, keepdim=True) * torch.rand(20000, 1, generator=seeded(seed)).double() ** 0.25
    assert (v @ g + ((v @ A) * v).sum(1) / 2).max() <= bound
    lifted = torch.cat([torch.cat([A, g[:, None]], 1), torch.cat([g, g.new_ones(1)])[None]])
    assert bound <= (radius**2 + 1) / 2 * lifted.square().sum().sqrt() - 0.5


def test_of_a_linear_loss_the_lifted_norm_is_radius_times_slope():
    w = torch.randn(5, dtype=torch.float64)
    x = torch.rand(3, 5, dtype=torch.float64)
    value, length = lifted_spectral_norm(lambda points: points @ w, x, 0.3, Lanczos(which="largest"))
    torch.testing.assert_close(value, x @ w)
    torch.testing.assert_close(length, (0.3 * w.norm()).expand(3))


@pytest.mark.parametrize("form", ["as_published", "corrected"])
def test_passes_gradcheck_in_the_parameters(form):
    torch.manual_seed(0)
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)

    def total(a, b):
        model = lambda inputs: torch.tanh(inputs @ a.T) @ b.T  # noqa: E731
        return Soar(start="zero", form=form, value_clip=None)(model, x, y, generator=seeded()).total

    assert gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


@pytest.mark.parametrize("start", ["zero", "random", "pgd1"])
def test_loss_and_penalty_are_taken_at_the_start(smooth_batch, start):
    b = smooth_batch
    threat = Threat(eps=0.1)
    objective = Soar(start=start, threat=threat, form="lifted_spectral", solver=EXACT)
    value = objective(b.model, b.x, b.y, generator=seeded())
    there = {
        "zero": lambda: b.x,
        "random": lambda: threat.sample(b.x, generator=seeded()),
        "pgd1": lambda: PGD(threat=threat, steps=1, alpha=0.025, drop_broken=False)(
            b.model, b.x, b.y, generator=seeded()
        ),
    }[start]()
    at_start = Soar(start="zero", threat=threat, form="lifted_spectral", solver=EXACT)(b.model, there, b.y)
    torch.testing.assert_close(value.total, at_start.total)
    assert (start == "zero") == torch.equal(there, b.x)


def test_the_value_clip_keeps_the_direction_of_the_gradient():
    w = torch.tensor([[30.0, 40.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    lengths = clip_value(w.norm(dim=1), 10)
    torch.testing.assert_close(lengths.detach(), torch.tensor([10, 0.5, 0]).double())
    (g,) = torch.autograd.grad(lengths.sum(), w)
    torch.testing.assert_close(g[:2], torch.tensor([[0.12, 0.16], [0.6, 0.8]]).double())


def test_the_value_clip_acts_on_the_norm_of_each_example(smooth_batch):
    b = smooth_batch
    free, clipped = (
        Soar(start="zero", value_clip=c)(b.model, b.x, b.y, generator=seeded()).terms["soar"] for c in (None, 0.6)
    )
    scale = (Threat().l2_radius(b.x[0].numel()) ** 2 + 1) / 2
    assert (free > 0.6 * scale).any()
    torch.testing.assert_close(clipped, free.clamp_max(0.6 * scale))


@pytest.mark.parametrize("most", [1e-3, 1e3])
def test_the_gradient_clip_scales_the_penalty_alone(smooth_batch, most):
    b = smooth_batch
    parameters = list(b.model.parameters())
    free, clipped = (Soar(weight=0.3, start="zero", gradient_clip=c) for c in (None, most))
    loss = F.cross_entropy(b.model(b.x), b.y)
    slopes = torch.autograd.grad(loss, parameters)
    penalty = free.penalize(b.model, b.x, b.y, seeded())
    whole = torch.autograd.grad(penalty.value.mean(), parameters, materialize_grads=True)
    length = torch.stack([g.norm() for g in whole]).norm()
    value = clipped(b.model, b.x, b.y, generator=seeded())
    torch.testing.assert_close(value.total, loss + 0.3 * penalty.value.mean())
    ours = torch.autograd.grad(value.total, parameters)
    for a, of_loss, of_penalty in zip(ours, slopes, whole, strict=True):
        torch.testing.assert_close(a, of_loss + 0.3 * of_penalty * min(1, most / length))


def test_the_gradient_clip_passes_over_frozen_models_and_refuses_functions():
    model = nn.Linear(4, 3).requires_grad_(False)
    value = torch.rand(5)
    assert clip_gradient(value, model, 1.0) is value
    with pytest.raises(UserError, match=r"`gradient_clip` needs the parameters of an nn\.Module, got a function"):
        Soar(gradient_clip=30.0)(lambda x: model(x), torch.rand(2, 4), torch.tensor([0, 2]))


def test_the_penalty_is_that_of_eval_mode_and_the_loss_that_of_the_models():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.SiLU(), nn.Linear(12, 3)).double()
    x, y = torch.rand(8, 6).double(), torch.arange(8) % 3
    objective = Soar(start="zero")
    expected = objective(model.eval(), x, y, generator=seeded()).terms["soar"]
    value = objective(model.train(), x, y, generator=seeded())
    torch.testing.assert_close(value.terms["soar"], expected)
    torch.testing.assert_close(value.terms["cross_entropy"].mean(), F.cross_entropy(model(x), y).detach())


def test_small_steps_are_drawn_above_the_resolution():
    """In float32 with alpha just above the resolution every draw is still a step that moves the input."""
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
    x, y = torch.rand(2000, 4), torch.arange(2000) % 3
    assert Soar(start="zero", alpha=5e-5)(model, x, y, generator=seeded()).total.isfinite()
    with pytest.raises(UserError, match="`alpha`"):
        Soar(start="zero", alpha=1e-6)(model, x, y, generator=seeded())


def loss_curvature(model, x, y):
    h = dense_hessian(CrossEntropy().bind(model, x, y), x)
    return torch.linalg.eigvalsh(h).abs().amax(1).mean()


def slope(model, x, y):
    return value_and_gradient(CrossEntropy().bind(model, x, y), x)[1].norm(dim=1).mean()


@pytest.mark.parametrize("form", ["as_published", "corrected", "lifted_spectral"])
def test_training_lowers_slope_curvature_and_adversarial_loss_on_held_out_data(form):
    torch.manual_seed(0)
    model, x, y = trained(Soar(form=form, threat=Threat(eps=0.1)))
    plain, _, _ = trained(Erm())
    for measured in (slope, loss_curvature, adversarial_loss):
        assert measured(model, x, y) < 0.7 * measured(plain, x, y)


@pytest.mark.parametrize(
    "bad",
    [
        {"weight": -1},
        {"start": "middle"},
        {"form": "guess"},
        {"alpha": 0},
        {"directions": 0},
        {"value_clip": 0},
        {"gradient_clip": -1},
        {"solver": Lanczos()},
        {"solver": Lanczos(which="largest", steps=9)},
        {"alpha": 0.02, "form": "lifted_spectral"},
        {"directions": 2, "form": "lifted_spectral"},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`?{next(iter(bad))}`?"):
        Soar(**bad)


def test_without_grad_the_value_is_the_same_and_no_graph_is_kept(smooth_batch):
    model, x, y = smooth_batch.model, smooth_batch.x, smooth_batch.y
    objective = Soar(start="zero", directions=3, value_clip=None)
    expected = objective(model, x, y, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = objective(model, x, y, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen.terms["soar"], expected.terms["soar"])
    torch.testing.assert_close(seen.total, expected.total.detach())
    assert expected.total.requires_grad
    assert not seen.total.requires_grad
