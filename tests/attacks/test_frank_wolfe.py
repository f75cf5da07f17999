import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import FGSM, FrankWolfe
from meseta.autodiff import CrossEntropy, Hessian, dense_hessian, value_and_gradient
from meseta.errors import UserError

THREATS = [Threat(eps=0.2), Threat("L2", 0.5), Threat("L1", 1.0), Threat("L2", 0.5, None)]


def quadratic_model(f, x):
    _, g = value_and_gradient(f, x)
    return g.flatten(1), dense_hessian(f, x)


def slow_frank_wolfe(g, h, x, threat, steps):
    """One example, from the definition, with the dense Hessian."""
    d, iterates = torch.zeros_like(g), [torch.zeros_like(g)]
    for t in range(steps):
        vertex = threat.farthest((g + h @ d).view_as(x)[None], x[None])[0] - x
        d = d + 2 / (t + 2) * (vertex.flatten() - d)
        iterates.append(d)
    return max(iterates, key=lambda d: (g @ d + d @ h @ d / 2).item())


@pytest.mark.parametrize("threat", THREATS)
def test_it_is_the_slow_iteration(smooth_batch, threat):
    b = smooth_batch
    g, h = quadratic_model(CrossEntropy().bind(b.model, b.x, b.y), b.x)
    moved = FrankWolfe(threat=threat, steps=6)(b.model, b.x, b.y) - b.x
    for i in range(len(b.x)):
        expected = slow_frank_wolfe(g[i], h[i], b.x[i], threat, 6)
        torch.testing.assert_close(moved[i].flatten(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_it_nears_the_maximum_of_a_concave_model(norm):
    """Frank-Wolfe's bound: the gap after t steps is at most 2 C / (t + 2), C <= diameter^2 ||H||."""
    torch.manual_seed(0)
    root, g = torch.randn(5, 5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    h, x = -root @ root.T, torch.full((1, 5), 0.5, dtype=torch.float64)
    threat = Threat(norm, 0.3)

    def f(points):
        d = points - x
        return d @ g + ((d @ h) * d).sum(1) / 2

    optimum = x
    for _ in range(3000):
        optimum = threat.project(optimum + 0.02 * (g + (optimum - x) @ h), x)
    found = x + FrankWolfe(threat=threat, steps=1000).maximize(Hessian(f, x), x)
    diameter = 2 * {"Linf": 0.3 * 5**0.5, "L2": 0.3, "L1": 0.3}[norm]
    bound = 2 * diameter**2 * torch.linalg.matrix_norm(h, 2).item() / 1002
    assert -1e-9 <= (f(optimum) - f(found)).item() <= bound
    assert bound < 0.1 * f(optimum).item()


def test_it_is_exact_on_a_binary_linear_model():
    """H = p (1 - p) w w^T along g, so the maximum is at a vertex: the best of all 64 corners, cut off by the bounds."""
    torch.manual_seed(0)
    model = nn.Linear(6, 2).double()
    x, y = torch.rand(20, 6, dtype=torch.float64), torch.arange(20) % 2
    threat = Threat(eps=0.3)
    f = CrossEntropy().bind(model, x, y)
    hessian = Hessian(f, x)
    moved = FrankWolfe(threat=threat).maximize(hessian, x)
    g, h = quadratic_model(f, x)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 6)
    boxed = threat.project(x[:, None] + 0.3 * corners, x[:, None].expand(-1, 64, -1)) - x[:, None]
    values = torch.einsum("bd,bkd->bk", g, boxed) + torch.einsum("bkd,bde,bke->bk", boxed, h, boxed) / 2
    ours = (g * moved).sum(1) + torch.einsum("bd,bde,be->b", moved, h, moved) / 2
    torch.testing.assert_close(ours, values.amax(1))


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_more_steps_never_lower_the_model_and_none_is_below_fgsm(smooth_batch, steps):
    b = smooth_batch
    threat = Threat(eps=0.3)
    g, h = quadratic_model(CrossEntropy().bind(b.model, b.x, b.y), b.x)

    def value(attack):
        d = (attack(b.model, b.x, b.y) - b.x).flatten(1)
        return (g * d).sum(1) + torch.einsum("bd,bde,be->b", d, h, d) / 2

    few, more, fgsm = (
        value(a)
        for a in (FrankWolfe(threat=threat, steps=steps), FrankWolfe(threat=threat, steps=30), FGSM(threat=threat))
    )
    assert (more >= few - 1e-12).all()
    assert (few >= fgsm.clamp_min(0) - 1e-12).all()


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="`steps`"):
        FrankWolfe(steps=0)
