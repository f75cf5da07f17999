import pytest
import torch
import torch.nn.functional as F
from test_objectives import compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta import Threat
from meseta.autodiff import CrossEntropy, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.objectives import Erm, Llr

THREATS = [Threat(eps=0.1), Threat("L2", 0.3), Threat("L1", 0.5)]


def seeded():
    return torch.Generator().manual_seed(0)


def gap(b, x, y, delta):
    point = x.clone().requires_grad_()
    loss = F.cross_entropy(b.model(point), y)
    (g,) = torch.autograd.grad(loss, point, create_graph=True)
    return loss, F.cross_entropy(b.model(x + delta), y) - loss - (delta * g).sum(), (delta * g).sum()


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.norm)
def test_it_is_the_formula_one_example_at_a_time_with_adam_written_out(batch, threat):
    b, rate = batch, 0.02
    starts = threat.sample(b.x, generator=seeded()) - b.x
    total = 0
    for x, y, delta in zip(b.x.split(1), b.y.split(1), starts.split(1), strict=True):
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        for t in range(1, 4):
            move = delta.clone().requires_grad_()
            (g,) = torch.autograd.grad(gap(b, x, y, move)[1].abs(), move)
            first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
            step = rate * first / (1 - 0.9**t) / ((second / (1 - 0.999**t)).sqrt() + 1e-8)
            delta = threat.project(x + delta + step, x) - x
        loss, gamma, linear = gap(b, x, y, delta)
        total = total + loss + 1.5 * (gamma.abs() + 0.4 * linear.abs())
    objective = Llr(weight=1.5, slope=0.4, threat=threat, steps=3, alpha=rate)
    compare(objective(b.model, b.x, b.y, generator=seeded()), total / len(b.x), b.model)


def test_the_published_objective_is_twice_the_defaults(smooth_batch):
    b = smooth_batch
    value = Llr()(b.model, b.x, b.y, generator=seeded())
    terms = value.terms
    published = 2 * terms["cross_entropy"] + 4 * (terms["nonlinearity"] + 0.3 * terms["linear"])
    torch.testing.assert_close(2 * value.total, published.mean())


def test_the_two_terms_bound_the_change_of_the_loss(smooth_batch):
    """For a tiny radius gamma is half the curvature along delta, so at most eps^2 ||H||_2 / 2 in the L2 ball."""
    b = smooth_batch
    terms = Llr(threat=Threat("L2", 0.01))(b.model, b.x, b.y, generator=seeded()).terms
    f = CrossEntropy().bind(b.model, b.x, b.y)
    spectrum = torch.linalg.eigvalsh(dense_hessian(f, b.x)).abs().amax(1)
    assert (terms["nonlinearity"] <= 0.01**2 * spectrum / 2 * 1.05).all()
    assert (terms["nonlinearity"] >= 0.3 * 0.01**2 * spectrum / 2).all()
    _, g = value_and_gradient(f, b.x)
    assert (terms["linear"] <= 0.01 * g.flatten(1).norm(dim=1) * (1 + 1e-9)).all()


def test_more_steps_find_more(smooth_batch):
    b = smooth_batch
    few, many = (
        Llr(threat=Threat(eps=0.2), steps=s, alpha=0.05)(b.model, b.x, b.y, generator=seeded()).terms["nonlinearity"]
        for s in (1, 30)
    )
    assert many.mean() > few.mean()


def test_both_terms_are_those_of_eval_mode_and_the_loss_that_of_the_models_mode(relu_batch):
    model = relu_batch.model.train()
    modes = []
    model[1].register_forward_pre_hook(lambda m, _: modes.append(m.training))
    Llr(steps=3)(model, relu_batch.x, relu_batch.y)
    assert modes == [False] * 6 + [True]


def test_both_terms_pass_gradcheck_in_the_parameters_at_a_fixed_move():
    """The move is detached, so it must not change with the parameters: one step of a tiny rate from a seeded start."""
    torch.manual_seed(0)
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    objective = Llr(threat=Threat(eps=0.3), steps=1, alpha=1e-12)

    def total(a, b):
        return objective(lambda inputs: torch.tanh(inputs @ a.T) @ b.T, x, y, generator=seeded()).total

    assert gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


def test_training_makes_the_loss_more_linear_on_held_out_data():
    def curvature(model, x, y):
        hessian = dense_hessian(CrossEntropy().bind(model, x, y), x)
        return torch.linalg.eigvalsh(hessian).abs().amax(1).mean()

    assert curvature(*trained(Llr(threat=Threat(eps=0.1)))) < 0.7 * curvature(*trained(Erm()))


@pytest.mark.parametrize("bad", [{"weight": -1}, {"slope": -0.1}, {"steps": 0}, {"alpha": 0.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Llr(**bad)


def test_inputs_outside_the_bounds_are_refused():
    with pytest.raises(UserError, match="`x` must lie in the bounds"):
        Llr()(nn.Linear(3, 2), torch.full((2, 3), 1.5), torch.tensor([0, 1]))
