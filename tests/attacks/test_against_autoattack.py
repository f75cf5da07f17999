"""APGD in its authors' library: robust accuracy within one example in 200, from the same start with equal steps."""

import warnings
from copy import deepcopy

import pytest
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

from meseta import Threat
from meseta.attacks import APGD
from meseta.attacks.base import misclassified
from meseta.autodiff import DLR, CrossEntropy

N = 200
STEPS = {"Linf": 10, "L2": 10, "L1": 20}  # in L1 the number of entries that steps move needs time to fall
EPS = {"Linf": 0.08, "L2": 1.0, "L1": 8.0}  # at which about half of the images stand


def seeded():
    return torch.Generator().manual_seed(0)


def their_apgd(model, x, y, norm, eps, loss):
    """Return what pyautoattack finds in its bounds, [0, 1], from the start that `seeded` gives us (in L1 its own)."""
    settings = {"norm": norm, "eps": eps, "n_iter": STEPS[norm], "seed": 0, "device": "cpu"}
    attack = APGDAttack(model, loss={CrossEntropy(): "ce", DLR(): "dlr"}[loss], use_largereps=norm == "L1", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of zero gradients, of examples that are broken by far
        if norm == "L1":
            return attack.perturb(x.clone(), y)
        attack.init_hyperparam(x)
        start = Threat(norm, eps).sample(x, generator=seeded())
        return attack.attack_single_run(x.clone(), y, x_init=start)[3]


def standing(trained_cnn, norm, loss, *, shrink=1.0):
    """Return how many of 200 images stay right under ours and under theirs, with inputs shrunk towards 0.5 for both."""
    cnn, x, y = trained_cnn
    cnn = deepcopy(cnn).requires_grad_(False)
    x, y, eps = 0.5 + shrink * (x[:N] - 0.5), y[:N], shrink * EPS[norm]

    def model(points):
        return cnn(0.5 + (points - 0.5) / shrink)

    ours = APGD(threat=Threat(norm, eps), steps=STEPS[norm], loss=loss)(model, x, y, generator=seeded())
    theirs = their_apgd(model, x, y, norm, eps, loss)
    with torch.no_grad():
        return [int((~misclassified(model(points), y)).sum()) for points in (ours, theirs)]


every_loss = pytest.mark.parametrize("loss", [CrossEntropy(), DLR()], ids=["CE", "DLR"])


@every_loss
@pytest.mark.parametrize(("norm", "shrink"), [("Linf", 1.0), ("L2", 0.1)])
def test_apgd_equals_autoattack_within_one_example_in_200(trained_cnn, norm, shrink, loss):
    """Where both do the same: everywhere in Linf; in L2 where the bounds do not clip (see below)."""
    ours, theirs = standing(trained_cnn, norm, loss, shrink=shrink)
    assert 50 < theirs < 150
    assert abs(ours - theirs) <= 1


@pytest.mark.parametrize(("norm", "loss"), [("L2", DLR()), ("L1", CrossEntropy())])
def test_apgd_breaks_no_fewer_where_bounds_clip(trained_cnn, norm, loss):
    """L2: pyautoattack projects onto the ball, then clips, which leaves part of the radius unused. L1: its sparse steps
    spend themselves on pixels that a bound stops. Ours does neither, and stands a few examples lower."""
    ours, theirs = standing(trained_cnn, norm, loss)
    assert theirs > 50
    assert ours <= theirs


def test_targeted_apgd_equals_autoattack_within_one_example_in_200(trained_cnn):
    """Towards the three likeliest wrong classes, each on what stands."""
    model, x, y = trained_cnn
    model, x, y, eps = deepcopy(model).requires_grad_(False), x[:N], y[:N], EPS["Linf"]
    ours = APGD(threat=Threat(eps=eps), steps=STEPS["Linf"], loss=DLR(), targets=3)(model, x, y, generator=seeded())
    attack = APGDAttack_targeted(
        model, norm="Linf", eps=eps, n_iter=STEPS["Linf"], n_target_classes=3, seed=0, device="cpu"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = attack.perturb(x.clone(), y)
    with torch.no_grad():
        ours, theirs = (int((~misclassified(model(points), y)).sum()) for points in (ours, theirs))
    assert 50 < theirs < 150
    assert abs(ours - theirs) <= 1
