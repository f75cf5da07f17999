"""The same attack in another library: robust accuracy within one example in 500, median distance within 2 %."""

from copy import deepcopy

import foolbox
import pytest
import torch

from meseta import Threat
from meseta.attacks import FGSM, FMN, PGD, DeepFool
from meseta.attacks.base import misclassified


def robust(model, x, y):
    with torch.no_grad():
        return int((~misclassified(model(x), y)).sum())


def both(trained_cnn, norm, eps, steps, bounds):
    """Return how many of 500 images stay right under our PGD and under foolbox's, from the input with equal steps."""
    model, x, y = trained_cnn
    model = deepcopy(model).requires_grad_(False)  # foolbox would spend half its time on weight gradients
    alpha = 2.5 * eps / steps
    attack = getattr(foolbox.attacks, f"{norm}PGD")(abs_stepsize=alpha, steps=steps, random_start=False)
    _, theirs, _ = attack(foolbox.PyTorchModel(model, bounds=bounds, device="cpu"), x, y, epsilons=eps)
    threat = Threat(norm, eps, bounds)
    ours = PGD(threat=threat, steps=steps, alpha=alpha, random_start=False, drop_broken=False)(model, x, y)
    return robust(model, ours, y), robust(model, theirs, y)


@pytest.mark.parametrize(("norm", "eps", "steps", "bounds"), [("Linf", 0.1, 40, (0, 1)), ("L2", 1.0, 10, (-9, 9))])
def test_pgd_equals_foolbox_within_one_example_in_500(trained_cnn, norm, eps, steps, bounds):
    """Where both do the same: everywhere in Linf; in L2 where the bounds do not clip (see below)."""
    ours, theirs = both(trained_cnn, norm, eps, steps, bounds)
    assert 0 < ours < 500
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


def distances(trained_cnn, theirs, ours):
    """Return the distances of 60 images under foolbox's minimum-norm attack and ours, infinite where none was found."""
    model, x, y = trained_cnn
    model, x, y = deepcopy(model).requires_grad_(False), x[:60], y[:60]
    _, adversarial, _ = theirs(foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), x, y, epsilons=None)
    found = []
    for points in (adversarial, ours.closest(model, x, y)):
        with torch.no_grad():
            broken = misclassified(model(points), y) & points.flatten(1).isfinite().all(1)
        found.append(torch.where(broken, ours.threat.distance(points, x), torch.inf))
    return found


def test_fmn_equals_foolbox(trained_cnn):
    theirs, ours = distances(
        trained_cnn, foolbox.attacks.LInfFMNAttack(steps=40), FMN(threat=Threat("Linf"), steps=40, start=None)
    )
    assert ours.isfinite().all()
    assert ours.median() <= 1.02 * theirs.median()
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
