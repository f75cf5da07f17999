"""Curvature of the margins against dense Hessians, and the radius against bisection and the exact distance."""

import pytest
import torch
from torch import nn

from meseta.autodiff import Margin, dense_hessian
from meseta.certificates import HolderEstimate, LinearPiece, taylor_radius
from meseta.errors import UserError
from meseta.linalg import HessianAscent, Lanczos, OperatorNorm, PowerIteration, norm
from meseta.threat import Threat


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 3)).double()
    model[0].weight.data *= 2
    x = torch.rand(6, 5, dtype=torch.float64)
    return model, x, model(x).argmax(1)


def quadratic(a, b, c):
    """Two logits whose margin is c + b^T x - x^T A x / 2."""

    def model(x):
        margin = c + x @ b - ((x @ a) * x).sum(1) / 2
        return torch.stack([margin, torch.zeros_like(margin)], 1)

    return model


def rivals_of(y, classes=3):
    return [(torch.arange(classes)[torch.arange(classes) != label]).tolist() for label in y]


def operator_norms(h, name):
    """||H||_{p->q} by enumeration: of corners for Linf, of columns for L1."""
    if name == "L2":
        return torch.linalg.eigvalsh(h).abs().amax(1)
    if name == "L1":
        return h.abs().amax((1, 2))
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=h.dtype)] * h.shape[1])
    return (corners @ h).abs().sum(2).amax(1)


@pytest.mark.parametrize(("name", "slab"), [("L2", 256), ("L2", 5), ("L2", 1), ("Linf", 256), ("L1", 256)])
def test_equals_the_minimum_over_dense_margins(net, name, slab):
    model, x, y = net
    solver = Lanczos(tol=1e-8) if name == "L2" else OperatorNorm(restarts=30)
    found = HolderEstimate(norm=name, solver=solver, slab=slab)(model, x, y)
    for i, others in enumerate(rivals_of(y)):
        truth = []
        for j in others:
            f = Margin(rival=j).bind(model, x[i : i + 1], y[i : i + 1])
            point = x[i : i + 1].clone().requires_grad_()
            value = f(point)
            slope = norm(torch.autograd.grad(value.sum(), point)[0], Threat(name).dual)
            bend = operator_norms(dense_hessian(f, x[i : i + 1]), name)
            truth.append((taylor_radius(value, slope, bend).item(), value.item(), slope.item(), bend.item()))
        deciding = min(truth)
        got = [found.value[i], *(found.parts[part][i] for part in ("margin", "slope", "curvature"))]
        torch.testing.assert_close(torch.stack(got), torch.tensor(deciding, dtype=torch.float64), rtol=1e-6, atol=0)


def test_is_exact_on_a_quadratic_whose_slope_and_curvature_point_the_same_way():
    a = torch.diag(torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64))
    b = torch.tensor([-2.0, 0.0, 0.0], dtype=torch.float64)
    x, y = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0])
    exact = (-2 + (4 + 8 * 1.0) ** 0.5) / 4  # 1 - 2 r - 2 r^2 = 0 along the first axis
    for solver in (None, Lanczos(which="smallest")):
        found = HolderEstimate(solver=solver, samples=3, steps=2)(quadratic(a, b, 1.0), x, y)
        assert found.value.item() == pytest.approx(exact)


def test_the_least_eigenvalue_is_enough_and_convex_margins_need_none():
    torch.manual_seed(0)
    a = -torch.diag(torch.tensor([6.0, 0.1, -0.2], dtype=torch.float64))  # mostly convex: raises the margin
    b, x = torch.randn(3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64)
    model, y = quadratic(a, b, 9.0), torch.zeros(4, dtype=torch.long)
    two, one = (HolderEstimate(solver=Lanczos(which=w))(model, x, y) for w in ("largest_magnitude", "smallest"))
    torch.testing.assert_close(two.parts["curvature"], torch.full((4,), 6.0, dtype=torch.float64))
    torch.testing.assert_close(one.parts["curvature"], torch.full((4,), 0.2, dtype=torch.float64))
    assert (one.value > two.value).all()
    # The ball of the larger radius still holds no point across the boundary.
    ball = x[:, None] + one.value[:, None, None] * nn.functional.normalize(
        torch.randn(4, 5000, 3, dtype=torch.float64), dim=2
    )
    assert (model(ball.flatten(0, 1))[:, 0] > 0).all()


@pytest.mark.parametrize("name", ["L2", "Linf", "L1"])
def test_an_eigensolver_bounds_every_norm_from_above(net, name):
    model, x, y = net
    below = HolderEstimate(norm=name, solver=OperatorNorm(restarts=20))(model, x, y).value
    above = HolderEstimate(norm=name, solver=Lanczos(tol=1e-8))(model, x, y).value
    one_sided = HolderEstimate(norm=name, solver=Lanczos(tol=1e-8, which="smallest"))(model, x, y).value
    assert (above <= below * (1 + 1e-9)).all()
    assert (above <= one_sided * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", ["L2", "Linf", "L1"])
def test_points_of_the_ball_only_lower_the_distance_and_more_points_lower_it_further(net, name):
    model, x, y = net
    point, few, many = (HolderEstimate(norm=name, samples=n)(model, x, y).value for n in (0, 2, 6))
    climbing = HolderEstimate(norm=name, samples=2, steps=4)(model, x, y).value
    assert (few <= point).all()
    assert (many <= few).all()
    assert (climbing <= point).all()
    assert (climbing < few * (1 - 1e-9)).any()


def test_the_largest_radius_is_that_of_bisection_on_the_running_maximum(net):
    """K(R) as the maximum over the points seen within R, R (g + R K(R) / 2) <= f by bisection."""
    model, x, y = net
    seen = []

    class Spy(HolderEstimate):
        def _climb(self, f, x, unit, reach, ball):
            for length, c in super()._climb(f, x, unit, reach, ball):
                seen.append((length, c))
                yield length, c

    found = Spy(samples=6, steps=2)(model, x[:1], y[:1])
    lengths, curvatures = (torch.stack(column) for column in zip(*seen, strict=True))  # (points, rivals)
    radii = []
    for r, j in enumerate(rivals_of(y)[0]):
        f = Margin(rival=j).bind(model, x[:1], y[:1])
        point = x[:1].clone().requires_grad_()
        value = f(point)
        slope = torch.autograd.grad(value.sum(), point)[0].norm()
        low, high = 0.0, 1e3
        for _ in range(100):
            middle = (low + high) / 2
            k = curvatures[:, r][lengths[:, r] <= middle].max()
            fits = middle * (slope + middle * k / 2) <= value
            low, high = (middle, high) if fits else (low, middle)
        radii.append(low)
    assert found.value.item() == pytest.approx(min(radii), rel=1e-9)


def test_no_sampled_point_within_the_estimate_is_misclassified(net):
    model, x, y = net
    found = HolderEstimate(samples=4, steps=5)(model, x, y).value
    directions = nn.functional.normalize(torch.randn(6, 2000, 5, dtype=torch.float64), dim=2)
    points = x[:, None] + 0.999 * found[:, None, None] * directions
    assert (model(points.flatten(0, 1)).argmax(1).view(6, -1) == y[:, None]).all()
    assert (found <= LinearPiece()(model, x, y).value).all()


def test_random_starts_do_not_depend_on_the_batch(net):
    model, x, y = net
    bound = HolderEstimate(norm="Linf", solver=OperatorNorm(steps=1, restarts=3), samples=1)
    whole = bound(model, x, y).value
    for i in (0, 3):
        torch.testing.assert_close(bound(model, x[i : i + 1], y[i : i + 1]).value, whole[i : i + 1])


def test_piecewise_linear_networks_and_blind_solvers_are_refused():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    x = torch.rand(3, 4, dtype=torch.float64)
    with pytest.raises(UserError, match="LinearPiece"):
        HolderEstimate()(model, x, model(x).argmax(1))
    with pytest.raises(UserError, match="raises a margin"):
        HolderEstimate(solver=Lanczos(which="largest"))
    with pytest.raises(UserError, match="`solver` must be a Solver"):
        HolderEstimate(solver="lanczos")
    with pytest.raises(UserError, match="`steps` of ascent"):
        HolderEstimate(steps=3)
    with pytest.raises(UserError, match="`norm`"):
        HolderEstimate(norm="L3")


@pytest.mark.parametrize(
    "solver", [PowerIteration(steps=200), HessianAscent(steps=400, rate=5.0), OperatorNorm(steps=100)]
)
def test_every_solver_of_the_spectral_norm_will_do(net, solver):
    model, x, y = net
    expected = HolderEstimate(solver=Lanczos(tol=1e-8))(model, x, y).value
    torch.testing.assert_close(HolderEstimate(solver=solver)(model, x, y).value, expected, rtol=1e-3, atol=0)
