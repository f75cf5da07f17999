import pytest
import torch
import torch.nn.functional as F
from test_objectives import adversarial_loss, compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta import Threat
from meseta.errors import UserError
from meseta.linalg.random import randn
from meseta.objectives import Erm, Trades
from meseta.objectives.trades import kl_divergence

THREATS = [Threat(eps=0.1), Threat("L2", 0.3), Threat("L1", 0.5)]


def seeded():
    return torch.Generator().manual_seed(0)


def slow_kl(z, other):
    return F.kl_div(other.log_softmax(1), z.softmax(1), reduction="sum")


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.norm)
def test_it_is_the_formula_one_example_at_a_time(batch, threat):
    b, alpha = batch, 0.4 * threat.eps
    starts = threat.project(b.x + 0.01 * randn(b.x.shape, b.x, seeded()), b.x)
    total = 0
    for x, y, start in zip(b.x.split(1), b.y.split(1), starts.split(1), strict=True):
        points = start
        for _ in range(3):
            point = points.clone().requires_grad_()
            (g,) = torch.autograd.grad(slow_kl(b.model(x).detach(), b.model(point)), point)
            points = threat.project(points + alpha * threat.steepest(g, points), x)
        z = b.model(x)
        total = total + F.cross_entropy(z, y) + 2.0 * slow_kl(z, b.model(points))
    objective = Trades(weight=2.0, threat=threat, steps=3, alpha=alpha, noise=0.01)
    compare(objective(b.model, b.x, b.y, generator=seeded()), total / len(b.x), b.model)


def test_the_default_step_is_two_and_a_half_radii_over_the_steps(smooth_batch):
    b = smooth_batch
    one, two = (Trades(steps=5, alpha=a)(b.model, b.x, b.y, generator=seeded()) for a in (None, 2.5 * 8 / 255 / 5))
    assert torch.equal(one.total, two.total)


def test_the_divergence_grows_with_the_steps_and_stays_under_the_radius(smooth_batch):
    b = smooth_batch
    few, many = (
        Trades(threat=Threat(eps=0.2), steps=s, alpha=0.05)(b.model, b.x, b.y, generator=seeded()).terms["divergence"]
        for s in (1, 20)
    )
    assert (many > few).all()


def test_it_searches_in_eval_mode_and_steps_in_the_models_mode(relu_batch):
    model = relu_batch.model.train()
    modes = []
    model[1].register_forward_pre_hook(lambda m, _: modes.append(m.training))
    Trades(steps=3)(model, relu_batch.x, relu_batch.y)
    assert modes == [False] * 4 + [True] * 2


def test_divergence_against_long_arithmetic():
    """Also between confident predictions, where the textbook form in float32 has no correct digit."""
    torch.manual_seed(0)
    z = torch.randn(50, 4)
    z[:, 0] += torch.linspace(0, 40, 50)
    other = z + 0.5 * torch.randn(50, 4)
    log_p, log_q = z.double().log_softmax(1), other.double().log_softmax(1)
    r = log_q - log_p
    truth = (log_p.exp() * (torch.expm1(r) - r)).sum(1)
    ours = kl_divergence(z, other)
    torch.testing.assert_close(ours.double(), truth, rtol=1e-4, atol=0)
    textbook = (z.softmax(1) * (z.log_softmax(1) - other.log_softmax(1))).sum(1)
    assert ((textbook.double() - truth).abs() > 0.5 * truth)[-10:].all()
    double = (log_p.exp() * (log_p - log_q)).sum(1)
    torch.testing.assert_close(ours.double()[:10], double[:10], rtol=1e-4, atol=0)


def test_divergence_is_zero_with_zero_gradient_at_equality_and_finite_at_extremes():
    z = torch.randn(3, 4).requires_grad_()
    value = kl_divergence(z.detach(), z)
    assert not value.any()
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert not gradient.any()
    inf = float("inf")
    for p, q in ([1e4, -1e4], [-1e4, 1e4]), ([0.0, -inf], [1.0, -inf]), ([3e38, -3e38], [-3e38, 3e38]):
        a, b = (torch.tensor([row]).requires_grad_() for row in (p, q))
        value = kl_divergence(a, b)
        assert value >= 0
        assert value.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(value.sum(), (a, b)))


def test_divergence_passes_gradcheck_in_both_arguments():
    torch.manual_seed(0)
    z, other = (3 * torch.randn(4, 3, dtype=torch.float64) for _ in range(2))
    assert gradcheck(kl_divergence, (z.requires_grad_(), other.requires_grad_()))


def test_training_lowers_the_divergence_and_the_adversarial_loss_on_held_out_data():
    threat = Threat(eps=0.1)

    def divergence(model, x, y):
        return Trades(threat=threat)(model, x, y, generator=seeded()).terms["divergence"].mean()

    ours, plain = trained(Trades(threat=threat, steps=5)), trained(Erm())
    for measured in (divergence, adversarial_loss):
        assert measured(*ours) < 0.7 * measured(*plain)


@pytest.mark.parametrize("bad", [{"weight": -1}, {"steps": 0}, {"alpha": 0.0}, {"noise": 0.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Trades(**bad)


def test_inputs_outside_the_bounds_are_refused():
    with pytest.raises(UserError, match="`x` must lie in the bounds"):
        Trades()(nn.Linear(3, 2), torch.full((2, 3), 1.5), torch.tensor([0, 1]))
