"""The same attack in another library: robust accuracy within one example in 200, median distance within 2 %."""

from copy import deepcopy

import foolbox
import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import FGSM, FMN, PGD, DeepFool
from meseta.attacks.base import misclassified


def robust(model, x, y):
    with torch.no_grad():
        return int((~misclassified(model(x), y)).sum())


def both(trained_cnn, norm, eps, steps, bounds):
    """Return how many of 200 images stay right under our PGD and under foolbox's, from the input with equal steps."""
    model, x, y = trained_cnn[0], trained_cnn[1][:200], trained_cnn[2][:200]
    model = deepcopy(model).requires_grad_(False)  # foolbox would spend half its time on weight gradients
    alpha = 2.5 * eps / steps
    attack = getattr(foolbox.attacks, f"{norm}PGD")(abs_stepsize=alpha, steps=steps, random_start=False)
    _, theirs, _ = attack(foolbox.PyTorchModel(model, bounds=bounds, device="cpu"), x, y, epsilons=eps)
    threat = Threat(norm, eps, bounds)
    ours = PGD(threat=threat, steps=steps, alpha=alpha, random_start=False, drop_broken=False)(model, x, y)
    return robust(model, ours, y), robust(model, theirs, y)


@pytest.mark.parametrize(("norm", "eps", "steps", "bounds"), [("Linf", 0.08, 40, (0, 1)), ("L2", 1.0, 10, (-9, 9))])
def test_pgd_equals_foolbox_within_one_example_in_200(trained_cnn, norm, eps, steps, bounds):
    """Where both do the same: everywhere in Linf; in L2 where the bounds do not clip (see below)."""
    ours, theirs = both(trained_cnn, norm, eps, steps, bounds)
    assert 50 < ours < 150
    assert abs(ours - theirs) <= 1


def test_l2_projection_onto_ball_and_bounds_together_attacks_no_worse(trained_cnn):
    """foolbox projects onto the ball, then clips, which leaves part of the radius unused; ours is the projection."""
    ours, theirs = both(trained_cnn, "L2", 1.0, 10, (0, 1))
    assert ours <= theirs


def test_fgsm_equals_foolbox(trained_cnn):
    model, x, y = trained_cnn
    _, adversarial, _ = foolbox.attacks.FGSM()(
        foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=0.1
    )
    ours = FGSM(threat=Threat(eps=0.1))(model, x, y)
    assert abs(robust(model, ours, y) - robust(model, adversarial, y)) <= 1


class Shrunk(nn.Module):
    """A model of inputs that were shrunk towards 0.5, which puts the bounds out of reach."""

    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = deepcopy(model).requires_grad_(False), factor

    def forward(self, x):
        return self.model(0.5 + (x - 0.5) / self.factor)


def distances(trained_cnn, theirs, ours, *, n=60, factor=1.0):
    """Return the distances of n images under foolbox's minimum-norm attack and ours, infinite where none was found."""
    model, x, y = Shrunk(trained_cnn[0], factor).eval(), 0.5 + factor * (trained_cnn[1][:n] - 0.5), trained_cnn[2][:n]
    _, adversarial, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=None)
    found = []
    for points in (adversarial, ours.closest(model, x, y)):
        with torch.no_grad():
            broken = misclassified(model(points), y) & points.flatten(1).isfinite().all(1)
        found.append(torch.where(broken, ours.threat.distance(points, x), torch.inf))
    return found


def test_fmn_equals_foolbox_within_one_example_in_200(trained_cnn):
    """At radii around the median distance, where every example that moves would be seen."""
    theirs, ours = distances(
        trained_cnn, foolbox.attacks.LInfFMNAttack(steps=30), FMN(threat=Threat("Linf"), steps=30, start=None), n=200
    )
    assert ours.isfinite().all()
    for eps in theirs.median() * torch.tensor([0.7, 0.9, 1.0, 1.1]):
        assert abs(int((ours > eps).sum()) - int((theirs > eps).sum())) <= 1
    assert (ours > 1.02 * theirs).sum() <= 1


@pytest.mark.parametrize("norm", ["L2", "L1"])
def test_fmn_finds_more_and_nearer_ones_than_foolbox(trained_cnn, norm):
    """foolbox 3.3.4 never projects in L2 (it scales by norms / norms), and its L1 path may end before the boundary."""
    theirs, ours = distances(
        trained_cnn,
        getattr(foolbox.attacks, f"{norm}FMNAttack")(steps=40),
        FMN(threat=Threat(norm), steps=40, start=None),
    )
    assert ours.isfinite().all()
    assert ours.median() <= 1.02 * theirs.median()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_deepfool_is_as_near_as_foolbox(trained_cnn, norm):
    theirs, ours = distances(
        trained_cnn, getattr(foolbox.attacks, f"{norm}DeepFoolAttack")(), DeepFool(threat=Threat(norm))
    )
    assert ours.isfinite().all()
    assert ours.median() <= 1.02 * theirs.median()


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_deepfool_leaves_no_more_of_200_standing_than_foolbox_where_no_bound_is_near(trained_cnn, norm):
    """foolbox keeps the overshoot, which ours takes back: at foolbox's median distance fewer stand."""
    theirs, ours = distances(
        trained_cnn,
        getattr(foolbox.attacks, f"{norm}DeepFoolAttack")(),
        DeepFool(threat=Threat(norm)),
        n=200,
        factor=0.1,
    )
    assert (ours > 1.02 * theirs).sum() <= 1
    for eps in theirs.median() * torch.tensor([0.7, 0.9, 1.0, 1.1]):
        assert int((ours > eps).sum()) <= int((theirs > eps).sum()) + 1


def test_the_attack_reads_gradients_of_the_input_alone(trained_cnn):
    """A forward and a backward a step, which reach no parameter: counted by hooks, not by a clock."""
    model, x, y = trained_cnn
    seen = []
    hooks = [p.register_hook(lambda g: seen.append("parameter")) for p in model.parameters()]
    hooks.append(model.register_forward_hook(lambda *_: seen.append("forward")))
    hooks.append(model.body[-1].register_full_backward_hook(lambda *_: seen.append("backward")))
    PGD(steps=7, drop_broken=False)(model, x[:8], y[:8])
    for hook in hooks:
        hook.remove()
    assert seen == ["forward", "backward"] * 7
