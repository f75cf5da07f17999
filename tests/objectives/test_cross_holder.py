"""CrossHolder against margins' dense Hessians: every rival, norm and start, and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_objectives import compare, passes_gradcheck, trained
from torch import nn

from meseta.autodiff import Margin, dense_hessian
from meseta.errors import UserError
from meseta.geometry import GradientNorm, SpectralCurvature
from meseta.linalg import HessianAscent, Lanczos, OperatorNorm
from meseta.objectives import CrossHolder, Erm

INF = float("inf")
EXACT = Lanczos(steps=100, tol=1e-12)


def twin(b, rivals, norm_of, q=2.0, weight=0.3, curvature=0.7):
    """Equation 5 of the paper, one example, rival and matrix entry at a time."""
    total = 0
    for x, y in zip(b.x, b.y, strict=True):
        point = x[None].clone().requires_grad_()
        z = b.model(point)[0]
        penalty = 0
        others = [j for j in range(len(z)) if j != y]
        for j in others if rivals == "all" else [max(others, key=lambda j: z[j].item())]:
            (g,) = torch.autograd.grad(z[y] - z[j], point, create_graph=True)
            rows = [torch.autograd.grad(e, point, create_graph=True, materialize_grads=True)[0] for e in g.flatten()]
            hessian = torch.stack([row.flatten() for row in rows])
            penalty = penalty + torch.linalg.vector_norm(g, q) + curvature * norm_of(hessian)
        total = total + F.cross_entropy(z[None], y[None]) + weight * penalty
    return total / len(b.x)


def spectral(hessian):
    return torch.linalg.eigvalsh(hessian).abs().amax()


@pytest.mark.parametrize("rivals", ["all", "runner_up"])
def test_is_equation_5_with_the_spectral_norm(smooth_batch, rivals):
    b = smooth_batch
    objective = CrossHolder(weight=0.3, curvature=0.7, rivals=rivals, solver=EXACT)
    compare(objective(b.model, b.x, b.y), twin(b, rivals, spectral), b.model)


def test_is_equation_5_for_linf_perturbations_too():
    """inf -> 1 on an input of 3 entries, where the norm is the maximum over 8 corners."""
    torch.manual_seed(0)
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)

    class Small:
        model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        x, y = torch.rand(5, 3, dtype=torch.float64), torch.arange(5) % 3

    objective = CrossHolder(weight=0.3, curvature=0.7, p=INF, rivals="all", solver=OperatorNorm(steps=20, restarts=20))
    value = objective(Small.model, Small.x, Small.y)
    compare(value, twin(Small, "all", lambda h: (corners @ h).abs().sum(1).amax(), q=1.0), Small.model)


def test_one_sampled_rival_is_unbiased():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 5)).double()
    x, y = torch.rand(1, 3, dtype=torch.float64), torch.tensor([2])
    exact = CrossHolder(rivals="all", solver=EXACT)(model, x, y).terms
    many = x.expand(4000, -1), y.expand(4000)
    found = CrossHolder(solver=EXACT)(model, *many, generator=torch.Generator().manual_seed(0)).terms
    for name in ("slope", "curvature"):
        assert abs(found[name].mean() - exact[name][0]) < 5 * found[name].std() / math.sqrt(4000)


def test_two_classes_leave_nothing_to_sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 2)).double()
    x, y = torch.rand(7, 3, dtype=torch.float64), torch.arange(7) % 2
    totals = [CrossHolder(rivals=r, solver=EXACT)(model, x, y).total for r in ("all", "sampled", "runner_up")]
    torch.testing.assert_close(totals[0], totals[1])
    torch.testing.assert_close(totals[0], totals[2])


def test_never_exceeds_the_true_norm(smooth_batch):
    b = smooth_batch
    f = Margin().bind(b.model, b.x, b.y)
    truth = torch.linalg.eigvalsh(dense_hessian(f, b.x)).abs().amax(1)
    for solver in (Lanczos(steps=1), Lanczos(steps=3), HessianAscent(steps=2), OperatorNorm(steps=2)):
        for start in ("gradient", "random"):
            objective = CrossHolder(rivals="runner_up", solver=solver, start=start)
            assert (objective(b.model, b.x, b.y).terms["curvature"] <= truth * (1 + 1e-9)).all()


def test_without_curvature_it_is_the_slope_alone_on_any_network(relu_batch):
    b = relu_batch
    objective = CrossHolder(weight=0.3, curvature=0, rivals="all")
    compare(objective(b.model, b.x, b.y), twin(b, "all", lambda h: 0 * h.sum(), curvature=0), b.model)


def test_piecewise_linear_networks_are_refused_or_seen_at_a_radius(relu_batch):
    b = relu_batch
    unused = nn.Sequential(b.model, nn.Identity())
    unused.smooth = nn.SiLU()  # never called
    unused.forward = b.model.forward
    # BatchNorm in train mode would bend the margins by coupling the examples.
    for model in (b.model.eval(), b.model.train(), unused):
        with pytest.raises(UserError, match=r"exactly zero on all 6 examples.*ReLU.*give a radius"):
            CrossHolder()(model, b.x, b.y)
    b.model.eval()
    seen = CrossHolder(radius=0.5, rivals="runner_up")(b.model, b.x, b.y)
    assert seen.terms["curvature"].any()
    seen.total.backward()


def test_modes_do_not_matter_for_the_penalty():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    x, y = torch.rand(6, 4, dtype=torch.float64), torch.arange(6) % 3
    for radius in (None, 0.01):
        objective = CrossHolder(rivals="runner_up", radius=radius)
        ours = [objective(model.train(mode), x, y).terms for mode in (True, False)]
        torch.testing.assert_close(ours[0]["curvature"], ours[1]["curvature"])
        assert not torch.isclose(ours[0]["cross_entropy"], ours[1]["cross_entropy"]).any()


def test_at_a_small_radius_it_is_the_exact_hessian(smooth_batch):
    b = smooth_batch
    near, exact = (CrossHolder(rivals="runner_up", radius=radius)(b.model, b.x, b.y) for radius in (1e-5, None))
    torch.testing.assert_close(near.total, exact.total, rtol=1e-4, atol=0)


def test_gradcheck_in_the_parameters():
    assert passes_gradcheck(CrossHolder(rivals="all", solver=EXACT))


@pytest.mark.parametrize(
    "objective",
    [
        CrossHolder(weight=0.05, curvature=1.0),
        CrossHolder(weight=0.05, curvature=1.0, rivals="all"),
        CrossHolder(weight=0.2, curvature=1.0, rivals="runner_up"),
    ],
    ids=lambda o: o.rivals,
)
def test_training_lowers_slope_and_curvature_of_held_out_margins(objective):
    ours, plain = trained(objective), trained(Erm())
    for measure in (SpectralCurvature(field=Margin()), GradientNorm(field=Margin())):
        assert measure(*ours).value.abs().mean() < 0.6 * measure(*plain).value.abs().mean()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": INF}, "`solver`: Lanczos"),
        ({"solver": "Lanczos"}, "`solver` must be a Solver"),
        ({"p": 0.5}, "`p`"),
        ({"rivals": "none"}, "`rivals`"),
        ({"start": "zero"}, "`start`"),
        ({"curvature": -1.0}, "`curvature`"),
        ({"radius": 0.0}, "`radius`"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        CrossHolder(**settings)
