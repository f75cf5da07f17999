import pytest
import torch
from test_objectives import adversarial_loss, compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta import Threat
from meseta.attacks import FrankWolfe
from meseta.autodiff import CrossEntropy, value_and_gradient
from meseta.errors import UserError
from meseta.linalg import norm
from meseta.objectives import Erm, InputGradient, Scorpio


@pytest.mark.parametrize("threat", [Threat(eps=0.1), Threat("L2", 0.5), Threat("L1", 0.5)], ids=lambda t: t.norm)
def test_it_is_the_formula_one_example_at_a_time(batch, threat):
    """The quadratic model along the attack's d, by differentiating the loss twice along a line."""
    b, attack = batch, FrankWolfe(threat=threat, steps=4)
    moved = attack(b.model, b.x, b.y)
    total = 0
    for x, y, end in zip(b.x.split(1), b.y.split(1), moved.split(1), strict=True):
        t = torch.zeros((), dtype=x.dtype, requires_grad=True)
        loss = nn.functional.cross_entropy(b.model(x + t * (end - x)), y)
        (first,) = torch.autograd.grad(loss, t, create_graph=True)
        (second,) = torch.autograd.grad(first, t, create_graph=True)
        total = total + loss + 0.7 * (first + second / 2)
    compare(Scorpio(weight=0.7, attack=attack)(b.model, b.x, b.y), total / len(b.x), b.model)


def test_the_rise_lies_between_first_order_and_its_bound(smooth_batch):
    """At a small radius it tends to eps ||g||_1, from where the curvature takes it up or down."""
    b = smooth_batch
    x = b.x.clamp(0.1, 0.9)
    for eps, tolerance in ((1e-3, 1e-2), (1e-5, 1e-4)):
        rise = Scorpio(attack=FrankWolfe(threat=Threat(eps=eps)))(b.model, x, b.y).terms["quadratic_rise"]
        _, g = value_and_gradient(CrossEntropy().bind(b.model, x, b.y), x)
        torch.testing.assert_close(rise, eps * norm(g, 1), rtol=tolerance, atol=0)


def test_at_a_small_radius_it_is_the_l1_input_gradient(smooth_batch):
    b = smooth_batch
    x = b.x.clamp(0.1, 0.9)
    ours = Scorpio(attack=FrankWolfe(threat=Threat(eps=1e-6)))(b.model, x, b.y).total
    first_order = InputGradient(weight=1e-6, q=1, power=1)(b.model, x, b.y).total
    torch.testing.assert_close(ours, first_order, rtol=1e-9, atol=0)


def test_it_passes_gradcheck_in_the_parameters():
    """Where d is a vertex it does not change with the parameters, so finite differences see the gradient at fixed d."""
    torch.manual_seed(0)
    x, y = 0.5 + 0.1 * torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    objective = Scorpio(attack=FrankWolfe(steps=1))

    def total(a, b):
        return objective(lambda inputs: torch.tanh(inputs @ a.T) @ b.T, x, y).total

    assert gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


def test_training_lowers_the_adversarial_loss_on_held_out_data():
    objective = Scorpio(attack=FrankWolfe(threat=Threat(eps=0.1), steps=3))
    assert adversarial_loss(*trained(objective)) < 0.7 * adversarial_loss(*trained(Erm()))


def test_bad_settings_and_inputs_outside_the_bounds_are_refused():
    with pytest.raises(UserError, match="`weight`"):
        Scorpio(weight=-1)
    with pytest.raises(UserError, match="`x` must lie in the bounds"):
        Scorpio()(nn.Linear(3, 2), torch.full((2, 3), 1.5), torch.tensor([0, 1]))
