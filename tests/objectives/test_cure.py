"""CURE against a slow twin, on quadratics, and where modes and gradients are special."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from test_objectives import compare, slow_losses_and_gradients, trained
from torch import nn
from torch.autograd import gradcheck

from meseta.autodiff import CrossEntropy, dense_hessian
from meseta.errors import UserError
from meseta.objectives import AdversarialTraining, Cure, Erm, InputGradient, Scheduled, Sum
from meseta.schedules import LinearWarmup


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("h", [0.01, 1.5])
def test_cure(batch, squared, h):
    total = 0
    for x, y, loss, g in zip(batch.x, batch.y, *slow_losses_and_gradients(batch), strict=True):
        z = g.detach().sign() / g.detach().sign().norm()
        there = (x + h * z.view_as(x))[None].requires_grad_()
        (shifted,) = torch.autograd.grad(F.cross_entropy(batch.model(there), y[None]), there, create_graph=True)
        total = total + loss + 0.3 * torch.linalg.vector_norm(shifted.flatten() - g) ** (2 if squared else 1)
    objective = Cure(weight=0.3, radius=h, squared=squared)
    compare(objective(batch.model, batch.x, batch.y), total / len(batch.x), batch.model)


def test_a_short_step_sees_the_hessian_along_the_sign(smooth_batch):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    _, gradients = slow_losses_and_gradients(b)
    z = torch.stack([g.detach().sign() / g.detach().sign().norm() for g in gradients])
    expected = torch.einsum("bde,be->bd", dense_hessian(f, b.x), z).norm(dim=1)
    change = Cure(radius=1e-4)(b.model, b.x, b.y).terms["cure"]
    torch.testing.assert_close(change / 1e-4, expected, rtol=1e-2, atol=1e-4)


def test_passes_gradcheck_in_the_parameters():
    torch.manual_seed(0)
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)

    def total(a, b):
        return Cure(weight=1.0, radius=0.5)(lambda inputs: torch.tanh(inputs @ a.T) @ b.T, x, y).total

    assert gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


def test_zero_gradients_cost_nothing():
    model = nn.Linear(4, 3)
    nn.init.zeros_(model.weight)
    value = Cure(squared=False)(model, torch.rand(5, 4), torch.arange(5) % 3)
    value.total.backward()
    assert torch.equal(value.terms["cure"], torch.zeros(5))
    assert model.weight.grad.isfinite().all()


def with_modes():
    torch.manual_seed(0)
    layers = nn.Linear(6, 12), nn.BatchNorm1d(12), nn.SiLU(), nn.Dropout(0.3), nn.Linear(12, 3)
    return nn.Sequential(*layers).double(), 3 * torch.rand(8, 6).double(), torch.arange(8) % 3


def test_the_penalty_is_that_of_eval_mode_and_the_loss_that_of_the_models():
    model, x, y = with_modes()
    expected = Cure().penalize(model.eval(), x, y, None)
    gradients = torch.autograd.grad(expected.value.sum(), list(model.parameters()), materialize_grads=True)
    penalty = Cure().penalize(model.train(), x, y, None)
    assert penalty.loss is None
    torch.manual_seed(1)
    loss = F.cross_entropy(model(x), y)  # and the running statistics move before the backward
    torch.testing.assert_close(penalty.value, expected.value)
    ours = torch.autograd.grad(penalty.value.sum(), list(model.parameters()), materialize_grads=True)
    for a, b in zip(ours, gradients, strict=True):
        torch.testing.assert_close(a, b)
    torch.manual_seed(1)
    torch.testing.assert_close(Cure()(model, x, y).terms["cross_entropy"].mean(), loss.detach())


def test_later_parts_that_move_the_running_statistics_do_not_change_its_gradient():
    model, x, y = with_modes()
    model[3].p = 0.0
    cure, slope = Cure(weight=0.3), InputGradient(weight=0.2)
    still, moving = deepcopy(model).eval(), deepcopy(model).train()
    apart = [
        (still, 0.3 * cure.penalize(still, x, y, None).value.mean()),
        (moving, F.cross_entropy(moving(x), y) + 0.2 * slope.penalize(moving, x, y, None).value.mean()),
    ]
    together = Sum(parts=(cure, slope))(model.train(), x, y).total
    gradients = torch.autograd.grad(together, list(model.parameters()))
    twins = [torch.autograd.grad(t, list(m.parameters()), materialize_grads=True) for m, t in apart]
    for ours, a, b in zip(gradients, *twins, strict=True):
        torch.testing.assert_close(ours, a + b)


def test_forwards_are_shared_where_modes_do_not_matter():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3)).train()
    forwards = []
    model.register_forward_hook(lambda *_: forwards.append(1))
    Cure()(model, torch.rand(6, 4), torch.arange(6) % 3)
    assert len(forwards) == 2


@pytest.mark.parametrize("objective", [Cure(weight=1.0, radius=0.5), Cure(weight=0.3, radius=0.5, squared=False)])
def test_training_lowers_the_curvature_on_held_out_data(objective):
    def curvature(o):
        model, x, y = trained(o)
        h = dense_hessian(CrossEntropy().bind(model, x, y), x)
        return torch.linalg.eigvalsh(h).abs().amax(1).mean()

    assert curvature(objective) < 0.7 * curvature(Erm())


def test_the_radius_follows_a_schedule_and_acts_at_adversarial_points():
    objective = Scheduled(objective=Cure(radius=1.5), schedules={"radius": LinearWarmup(until=0.5, start=0.01)})
    assert objective.at(0.25).radius == pytest.approx(1.5 * 0.505)
    inside = AdversarialTraining(objective=Cure())
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
    assert "adversarial_cure" in inside(model, torch.rand(6, 4), torch.arange(6) % 3).terms


@pytest.mark.parametrize("bad", [{"weight": -1}, {"radius": 0}, {"radius": float("nan")}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Cure(**bad)


def test_a_step_below_the_resolution_is_refused():
    with pytest.raises(UserError, match="`radius`"):
        Cure(radius=1e-6)(nn.Linear(4, 3), torch.ones(2, 4), torch.tensor([0, 2]))
