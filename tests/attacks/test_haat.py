import math

import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import PGD, Haat
from meseta.autodiff import CrossEntropy, FiniteDifferenceHessian, Hessian, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.linalg import Lanczos, PowerIteration, norm

EXACT = Lanczos(steps=64, tol=1e-12, which="largest")


@pytest.mark.parametrize("threat", [Threat(eps=0.05), Threat("L2", 0.3), Threat("L1", 0.8)])
def test_it_is_the_slow_iteration_on_dense_eigenvectors(smooth_batch, threat):
    b = smooth_batch
    moved = Haat(threat=threat, steps=3, w2=0.5, solver=EXACT)(b.model, b.x, b.y)
    for i in range(len(b.x)):
        x, y = b.x[i : i + 1], b.y[i : i + 1]
        points = x
        for _ in range(3):
            f = CrossEntropy().bind(b.model, points, y)
            _, g = value_and_gradient(f, points)
            u = torch.linalg.eigh(dense_hessian(f, points)[0])[1][:, -1].view_as(x)
            u = u * (g * u).sum().sign() / torch.linalg.vector_norm(u, threat.p)
            move = 0.25 * threat.steepest(g, points) + 0.5 * u
            points = threat.project(points + threat.eps * move, x)
        torch.testing.assert_close(moved[i], points[0], rtol=1e-6, atol=1e-8)


def test_it_takes_the_largest_eigenvalue_where_a_negative_one_is_larger_in_magnitude():
    """The loss of class 0 with logits (q, 0) is softplus(-q), whose Hessian near q = 0 is dominated by -q'' / 2."""

    def model(x):
        q = 4 * x[:, :1] ** 2 - x[:, 1:2] ** 2
        return torch.cat([q, torch.zeros_like(q)], 1)

    x, y = torch.tensor([[1e-4, 1e-4]], dtype=torch.float64), torch.tensor([0])
    settings = {"threat": Threat("L2", 0.1, None), "steps": 1, "w1": 0.0, "w2": 1.0}
    largest = Haat(solver=Lanczos(which="largest"), **settings)(model, x, y) - x
    magnitude = Haat(solver=PowerIteration(steps=50), **settings)(model, x, y) - x
    torch.testing.assert_close(largest.abs(), torch.tensor([[0, 0.1]]).double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(magnitude.abs(), torch.tensor([[0.1, 0]]).double(), rtol=1e-5, atol=1e-5)


def test_without_the_second_direction_it_is_iterated_sign_steps(batch):
    threat = Threat(eps=0.05)
    ascent = PGD(threat=threat, steps=10, alpha=0.25 * 0.05, random_start=False, drop_broken=False)
    moved = Haat(threat=threat, w2=0.0)(batch.model, batch.x, batch.y)
    torch.testing.assert_close(moved, ascent(batch.model, batch.x, batch.y))


def test_it_raises_the_loss_at_least_as_far_as_sign_steps(trained_cnn):
    model, x, y = trained_cnn
    x, y, threat = x[:100], y[:100], Threat(eps=0.1)

    def mean_loss(attack):
        moved = attack(model, x, y, generator=torch.Generator().manual_seed(0))
        return CrossEntropy().bind(model, x, y)(moved).mean().item()

    ascent = PGD(threat=threat, steps=10, random_start=False, drop_broken=False)
    assert mean_loss(Haat(threat=threat)) > 0.98 * mean_loss(ascent)


def published(**settings):
    return Haat(solver=PowerIteration(steps=6), radius=1e-6, guarded=False, **settings)


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 15 * 15, 5))


def test_the_published_difference_is_noise_in_single_precision_and_needs_asking_for():
    """Its products point away from the exact ones, while a difference at 1e-3 agrees with them."""
    model = cnn()
    x, y = 0.5 + 0.5 * torch.rand(4, 3, 32, 32), torch.arange(4) % 5
    f = CrossEntropy().bind(model, x, y)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    exact = Hessian(f, x)(v).detach()

    def cosine(product):
        return torch.cosine_similarity(product.detach().flatten(1), exact.flatten(1)).abs()

    assert (cosine(FiniteDifferenceHessian(f, x, 1e-6, guarded=False)(v)) < 0.3).all()
    assert (cosine(FiniteDifferenceHessian(f, x, 1e-2)(v)) > 0.95).all()
    with pytest.raises(UserError, match="`radius`"):
        Haat(radius=1e-6)(model, x, y)
    assert Threat().contains(published()(model, x, y), x).all()


def test_the_published_mode_runs_the_power_iteration_on_differences():
    """In double precision the difference at 1e-6 is right, so that both modes agree in one step from the same start."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)).double()
    x, y = torch.rand(7, 6, dtype=torch.float64), torch.arange(7) % 2
    one, two = (
        attack(model, x, y, generator=torch.Generator().manual_seed(0))
        for attack in (published(steps=2), Haat(solver=PowerIteration(steps=6), steps=2))
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    assert not torch.equal(one, two)


def test_every_move_is_as_long_as_its_weights_say():
    model = cnn()
    x, y = torch.rand(4, 3, 32, 32), torch.arange(4) % 5
    for name in ("Linf", "L2", "L1"):
        threat = Threat(name, 0.5, None)
        moved = Haat(threat=threat, steps=1, w1=0.0, w2=0.3)(model, x, y)
        torch.testing.assert_close(norm(moved - x, threat.p), torch.full((4,), 0.15), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "bad",
    [{"steps": 0}, {"w1": -0.1}, {"w2": math.nan}, {"radius": 0.0}, {"guarded": False}],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Haat(**bad)
