"""What pyautoattack alone gets wrong: few classes, shapes, bounds, precision, and what it leaves behind."""

import logging
import random
import sys

import numpy as np
import pyautoattack
import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import PGD, AutoAttack
from meseta.attacks.autoattack import Canvas
from meseta.attacks.base import misclassified
from meseta.errors import MissingExtra, UserError

NORMS = {"Linf": 0.1, "L2": 0.5, "L1": 2.0}


def quick(threat=Threat(eps=0.1), **settings):
    return AutoAttack(**{"threat": threat, "steps": 7, "queries": 7, **settings})


def classifier(d=16, classes=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(d, 32), nn.SiLU(), nn.Linear(32, classes))


def labelled(model, *shape, seed=0):
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return x, model(x).argmax(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def standing(model, x, y):
    with torch.no_grad():
        return ~misclassified(model(x), y)


def test_it_is_pyautoattack_where_that_can_run(trained_cnn):
    model, x, y = (trained_cnn[0], *(t[:20] for t in trained_cnn[1:]))
    ours = quick(Threat(eps=0.06), steps=3)(model, x, y, generator=seeded())
    with torch.random.fork_rng():
        bare = pyautoattack.AutoAttack(model, eps=0.06, seed=0)
        bare.logger.disabled, bare.square.n_queries, bare.fab.n_iter = True, 7, 3
        for apgd in (bare.apgd, bare.apgd_targeted):
            apgd.n_iter, apgd.n_iter_2, apgd.n_iter_min, apgd.size_decr = 3, 1, 1, 1
        theirs, _ = bare.run_standard_evaluation(x, y)
    bare.logger.disabled = False
    model.zero_grad(set_to_none=True)
    left = [int(standing(model, found, y).sum()) for found in (ours, theirs)]
    assert 0 < left[0] < 19
    assert abs(left[0] - left[1]) <= 1


@pytest.mark.parametrize("version", ["standard", "plus", "rand"])
@pytest.mark.parametrize("classes", [2, 3, 4, 11])
def test_any_number_of_classes(version, classes):
    model = classifier(classes=classes)
    x, y = labelled(model, 20, 16)
    left = standing(model, quick(version=version, steps=4)(model, x, y, generator=seeded()), y).sum()
    assert left < 20
    assert left <= standing(model, PGD(threat=Threat(eps=0.1), steps=4)(model, x, y, generator=seeded()), y).sum()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1,), (7,), (12, 9), (1, 14, 14), (2, 18, 6), (3, 4, 30), (2, 2, 2, 3)])
def test_any_shape(norm, shape):
    """Under L2 and L1 Square crashes on heights below 5, and on 12, 14, 18, 19, 24, ..."""
    model = classifier(d=torch.Size(shape).numel())
    x, y = labelled(model, 4, *shape)
    threat = Threat(norm, NORMS[norm] / 100)
    found = quick(threat, steps=2)(model, x, y, generator=seeded())
    assert found.shape == x.shape
    assert threat.contains(found, x).all()


@pytest.mark.parametrize("norm", NORMS)
def test_other_bounds_are_the_same_attack(norm):
    model = classifier()
    x, y = labelled(model, 20, 1, 4, 4)
    low, scale = -2.0, 4.0  # exact in binary
    usual = quick(Threat(norm, NORMS[norm]))(model, x, y, generator=seeded())
    shifted = quick(Threat(norm, scale * NORMS[norm], (low, low + scale)))(
        lambda points: model((points - low) / scale), low + scale * x, y, generator=seeded()
    )
    torch.testing.assert_close((shifted - low) / scale, usual, rtol=0, atol=1e-5)
    assert not torch.equal(usual, x)


@pytest.mark.parametrize("norm", NORMS)
def test_without_bounds_no_end_of_the_interval_binds(norm):
    x = 100 * torch.randn(6, 10, dtype=torch.float64, generator=seeded()) + torch.arange(10) * 1000
    threat = Threat(norm, 0.7, None)
    canvas = Canvas(x, threat)
    for direction in torch.eye(10, dtype=torch.float64):
        for sign in (-3, 3):
            corner = x + sign * threat.eps * direction
            painted = canvas.paint(corner)
            assert painted.min() >= 0
            assert painted.max() <= 1
            torch.testing.assert_close(canvas.read(painted), corner, rtol=0, atol=1e-7 * canvas.scale)


@pytest.mark.parametrize("norm", NORMS)
def test_a_linear_model_without_bounds_is_broken_wherever_it_can_be(norm):
    torch.manual_seed(0)
    model = nn.Linear(10, 3).double()
    x = 5 * torch.randn(40, 10, dtype=torch.float64)
    logits = model(x).detach()
    y, weight = logits.argmax(1), model.weight.detach()
    slopes = torch.linalg.vector_norm(weight[y][:, None] - weight, Threat(norm).dual, dim=2)
    margins = logits.gather(1, y[:, None]) - logits
    distance = torch.where(slopes > 0, margins / slopes, torch.inf).amin(1)
    threat = Threat(norm, float(distance.sort().values[19:21].mean()), None)
    left = standing(model, AutoAttack(threat=threat, steps=40, queries=7)(model, x, y, generator=seeded()), y)
    assert left.tolist() == (distance > threat.eps).tolist()


def test_double_precision_models_see_double_precision():
    model = classifier().double()
    x, y = (t for t in labelled(model.float(), 10, 16))
    model, seen = model.double(), set()

    def watched(points):
        seen.add(points.dtype)
        return model(points)

    found = quick(version="plus")(watched, x.double(), y, generator=seeded())
    assert seen == {torch.float64}
    assert found.dtype == torch.float64
    assert not standing(model, found, y).all()


def test_any_default_dtype():
    model = classifier()
    x, y = labelled(model, 10, 16)
    expected = quick()(model, x, y, generator=seeded())
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(quick()(model, x, y, generator=seeded()), expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_parameters_get_no_gradient_even_behind_a_function():
    model = classifier()
    x, y = labelled(model, 6, 16)
    model[1].weight.requires_grad_(False)
    quick(Threat(eps=0.01), version="plus")(lambda points: model(points), x, y, generator=seeded())
    assert all(p.grad is None for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]


@pytest.mark.parametrize("fails", [False, True])
def test_it_leaves_tracing_logging_and_every_generator_as_they_were(fails, capfd, caplog):
    model = classifier()
    x, y = labelled(model, 6, 16)
    calls = []

    def sometimes(points):
        calls.append(1)
        if fails and sys.gettrace() is not trace:  # as it is while pyautoattack traces
            raise RuntimeError("no more")
        return model(points)

    def trace(frame, event, argument):
        return None

    before, logger = sys.gettrace(), logging.getLogger("auto-attack")
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    sys.settrace(trace)
    try:
        if fails:
            with pytest.raises(RuntimeError, match="no more"):
                quick()(sometimes, x, y, generator=seeded())
        else:
            quick()(sometimes, x, y, generator=seeded())
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert calls
    assert not logger.disabled
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]


def test_the_seed_is_the_generators():
    model = classifier()
    x, y = labelled(model, 10, 16)
    first, second, other = (quick(Threat("L2", 0.2))(model, x, y, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_what_is_wrong_or_not_finite_already_is_returned_as_it_is():
    model = classifier()
    x, y = labelled(model, 6, 16)
    y[:2] = 1 - y[:2]

    def fails_on_the_third(points):
        logits = model(points)
        near = (points - x[2]).abs().flatten(1).amax(1, keepdim=True) < 0.2
        return torch.where(near, torch.nan, logits)

    found = quick(Threat(eps=0.5))(fails_on_the_third, x, y, generator=seeded())
    assert torch.equal(found[:3], x[:3])
    assert not torch.equal(found[3:], x[3:])
    assert torch.equal(quick()(model, x[:2], y[:2], generator=seeded()), x[:2])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("norm", NORMS)
def test_a_pocket_of_logits_that_are_not_finite_is_found(norm, value):
    """Class 0 wherever its logits are finite; the gradient leads into the pocket."""

    def model(points):
        s = points.flatten(1).sum(1)
        logits = torch.stack([9 - s, s, 0 * s], 1)
        return torch.where((s > 4.2)[:, None], value, logits)

    x, y = torch.full((3, 8), 0.5), torch.zeros(3, dtype=torch.long)
    found = quick(Threat(norm, NORMS[norm]))(model, x, y, generator=seeded())
    assert found.isfinite().all()
    assert not standing(model, found, y).any()


def test_gradients_that_are_not_finite_spoil_no_neighbour():
    def model(points):
        z = points.flatten(1)
        return torch.stack([z[:, 0] + (z[:, 1] * 0).sqrt(), z[:, 2], z[:, 3]], 1)  # sqrt has slope inf at 0: 0 * inf

    x, y = torch.tensor([[0.6, 0.0, 0.5, 0.1], [0.9, 0.3, 0.1, 0.1]]), torch.tensor([0, 0])
    found = quick(Threat("L2", 0.3))(model, x, y, generator=seeded())
    assert found.isfinite().all()


@pytest.mark.parametrize("norm", NORMS)
def test_ties_everywhere(norm):
    """Square takes a margin of 0 as neither reached nor to go, and under L2 and L1 crashes on what is left: nothing."""
    x, y = torch.rand(3, 9), torch.zeros(3, dtype=torch.long)
    found = quick(Threat(norm, 0.1))(lambda points: 0 * points[:, :3], x, y, generator=seeded())
    assert Threat(norm, 0.1).contains(found, x).all()


def test_small_batches_find_the_same_kind_of_thing():
    model = classifier()
    x, y = labelled(model, 20, 16)
    whole, parts = (standing(model, quick(batch_size=size)(model, x, y, generator=seeded()), y) for size in (20, 3))
    assert abs(int(whole.sum()) - int(parts.sum())) <= 2


def test_without_pyautoattack_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(MissingExtra, match=r"pip install 'meseta\[attacks\]'"):
        quick()(classifier(), torch.rand(2, 16), torch.tensor([0, 1]))


@pytest.mark.parametrize("bad", [{"version": "custom"}, {"steps": 1}, {"queries": 0}, {"batch_size": 0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        AutoAttack(**bad)
