import pytest
import torch
import torch.nn.functional as F
from test_objectives import adversarial_loss, compare, trained

from meseta import Threat
from meseta.attacks import FGSM, PGD
from meseta.errors import UserError
from meseta.objectives import AdversarialTraining, Erm, InputGradient, Scheduled
from meseta.schedules import LinearWarmup


def seeded():
    return torch.Generator().manual_seed(0)


def slow_gradient(b, x, y, create_graph=False):
    point = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(b.model(point), y), point, create_graph=create_graph)[0]


def slow_step(b, x, y, start, threat, length):
    """One step by hand: sign(g) under Linf, g / |g| under L2, clipped to ball and bounds around `x`."""
    g = slow_gradient(b, start, y)
    if threat.norm == "Linf":
        return (start + length * g.sign()).clamp(x - threat.eps, x + threat.eps).clamp(0, 1)
    return threat.project(start + length * g / g.norm(), x)


@pytest.mark.parametrize("threat", [Threat(eps=0.1), Threat("L2", 0.5)], ids=lambda t: t.norm)
def test_fast_takes_a_long_step_from_a_random_point_of_the_ball(batch, threat):
    b = batch
    starts = threat.sample(b.x, generator=seeded())
    losses = [
        F.cross_entropy(b.model(slow_step(b, x, y, start, threat, 1.25 * threat.eps)), y)
        for x, y, start in zip(b.x.split(1), b.y.split(1), starts.split(1), strict=True)
    ]
    objective = AdversarialTraining(attack=FGSM(threat=threat, random_start=True, stride=1.25))
    compare(objective(b.model, b.x, b.y, generator=seeded()), torch.stack(losses).mean(), b.model)


def test_n_fgsm_steps_from_noise_twice_as_wide_and_is_not_drawn_back(batch):
    """De Jorge et al. 2022, Algorithm 1: eta ~ U[-2 eps, 2 eps], x' = x + eta + eps sign(grad l(x + eta))."""
    b, eps = batch, 0.05
    starts = Threat(eps=2 * eps).sample(b.x, generator=seeded())
    losses = []
    for y, start in zip(b.y.split(1), starts.split(1), strict=True):
        moved = (start + eps * slow_gradient(b, start, y).sign()).clamp(0, 1)
        losses.append(F.cross_entropy(b.model(moved), y))
    objective = AdversarialTraining(attack=FGSM(threat=Threat(eps=eps)), noise=2)
    compare(objective(b.model, b.x, b.y, generator=seeded()), torch.stack(losses).mean(), b.model)


@pytest.mark.parametrize("noise", [1.0, 2.0])
@pytest.mark.parametrize("name", ["Linf", "L2", "L1"])
def test_noise_reaches_its_radius_and_the_attack_one_more(smooth_batch, noise, name):
    b = smooth_batch
    seen = []
    b.model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    threat = Threat(name, 0.1)
    AdversarialTraining(attack=FGSM(threat=threat), noise=noise)(b.model, b.x, b.y, generator=seeded())
    start, adversarial = seen[0], seen[-1]
    assert Threat(name, noise * 0.1).contains(start, b.x).all()
    assert threat.contains(adversarial, start).all()
    assert Threat(name, (1 + noise) * 0.1).contains(adversarial, b.x).all()
    assert threat.distance(start, b.x).max() > 0.1 * noise * 0.8


def test_an_objective_acts_at_the_adversarial_points(batch):
    b, attack = batch, PGD(threat=Threat("L2", 0.3), steps=3, random_start=False, drop_broken=False)
    adversarial = attack(b.model, b.x, b.y)
    hard = []
    for x, y in zip(adversarial.split(1), b.y.split(1), strict=True):
        g = slow_gradient(b, x, y, create_graph=True)
        hard.append(F.cross_entropy(b.model(x), y) + 0.3 * (g**2).sum())
    twin = 0.6 * torch.stack(hard).mean() + 0.4 * F.cross_entropy(b.model(b.x), b.y)
    objective = AdversarialTraining(attack=attack, objective=InputGradient(weight=0.3), clean=0.4)
    value = objective(b.model, b.x, b.y)
    compare(value, twin, b.model)
    assert set(value.terms) == {"adversarial_cross_entropy", "adversarial_input_gradient", "cross_entropy"}


def test_schedules_reach_the_inner_objective():
    inner = Scheduled(objective=InputGradient(weight=2.0), schedules={"weight": LinearWarmup(until=1.0)})
    halfway = AdversarialTraining(objective=inner).at(0.5)
    assert halfway.objective == InputGradient(weight=1.0)


@pytest.mark.parametrize(
    "objective",
    [
        AdversarialTraining(attack=FGSM(threat=Threat(eps=0.1), random_start=True, stride=1.25)),
        AdversarialTraining(attack=FGSM(threat=Threat(eps=0.1)), noise=2),
        AdversarialTraining(attack=FGSM(threat=Threat(eps=0.1)), objective=InputGradient(weight=0.1), clean=0.5),
    ],
    ids=["fast", "N-FGSM", "InputGradient at adversarial points"],
)
def test_the_variants_lower_the_adversarial_loss_on_held_out_data(objective):
    assert adversarial_loss(*trained(objective)) < 0.7 * adversarial_loss(*trained(Erm()))


def test_noise_needs_inputs_inside_the_bounds():
    model, x = torch.nn.Linear(3, 2), torch.full((2, 3), 1.5)
    with pytest.raises(UserError, match="`x` must lie in the bounds"):
        AdversarialTraining(noise=2)(model, x, torch.tensor([0, 1]))


@pytest.mark.parametrize("bad", [{"clean": -0.1}, {"noise": -1}, {"noise": float("inf")}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        AdversarialTraining(**bad)


@pytest.mark.parametrize("stride", [0.0, -1, float("nan")])
def test_bad_strides_are_refused(stride):
    with pytest.raises(UserError, match="`stride`"):
        FGSM(stride=stride)
