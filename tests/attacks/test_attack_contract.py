"""What every attack must keep: found through the registry, so that a new attack is tested from its first day."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from meseta import Threat
from meseta.attacks import PGD, DeepFool
from meseta.errors import UserError
from meseta.registry import methods

ATTACKS = sorted(methods("attacks").items())


every_attack = pytest.mark.parametrize("attack", [a for _, a in ATTACKS], ids=[name for name, _ in ATTACKS])
SHORT = {"searches": 1, "products": 2, "polish": 1, "start": DeepFool(steps=2), "attack": PGD(steps=2)}


def quick(attack, tries=2, **settings):
    """Return the attack with a budget that tests can pay many times."""
    fields = set(attack.__dataclass_fields__)
    tried = {"steps", "queries", "draws"} - ({"draws"} if "steps" in fields else set())  # where they multiply the steps
    budget = dict.fromkeys(tried, tries) | SHORT
    return attack(**{name: value for name, value in budget.items() if name in fields} | settings)


def net(d=12, classes=3):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(d, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes)
    )


DEAR = {"AutoAttack", "CarliniWagner", "FMN", "Haat", "SecondOrder", "Transfer"}
"""Attacks that take more passes in a case than the others, and so meet fewer cases."""


def cases(attack):
    return 40 if attack.__name__ in DEAR else 110


@every_attack
def test_results_are_inside_repeat_under_a_seed_and_leave_the_model_alone(attack):
    @settings(max_examples=cases(attack), deadline=None)
    @given(
        norm=st.sampled_from(attack.norms),
        eps=st.floats(0.01, 2),
        bounds=st.sampled_from([(0.0, 1.0), (-1.0, 2.0), None]),
        shape=st.sampled_from([(12,), (3, 2, 2), (1, 12)]),
        classes=st.integers(2, 4),
        dtype=st.sampled_from([torch.float32, torch.float64]),
        seed=st.integers(0, 100),
    )
    def holds(norm, eps, bounds, shape, classes, dtype, seed):
        threat = Threat(norm, eps, bounds)
        low, high = bounds or (-1.0, 1.0)
        x = (low + (high - low) * torch.rand(4, *shape, generator=torch.Generator().manual_seed(seed))).to(dtype)
        y = torch.arange(4) % classes
        model = net(classes=classes).to(dtype)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        first, second = (
            quick(attack, threat=threat)(model, x, y, generator=torch.Generator().manual_seed(seed)) for _ in range(2)
        )
        assert first.shape == x.shape
        assert first.dtype == dtype
        assert threat.contains(first, x).all()
        assert torch.equal(first, second)
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())

    holds()


def test_the_cases_are_a_thousand():
    assert sum(cases(attack) for _, attack in ATTACKS) >= 1000


@every_attack
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_leaves_model_inputs_and_global_randomness_as_they_were(attack, outer):
    model = net().train()
    model[1].eval()  # a mixed mode must come back mixed
    x, y = torch.rand(5, 12).requires_grad_(), torch.tensor([0, 1, 2, 0, 1])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model[1].weight.grad = torch.ones_like(model[1].weight)
    model[5].bias.requires_grad_(False)
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    with outer():
        result = quick(attack)(model, x, y, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert not result.requires_grad
    assert x.grad is None
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    assert [p.grad is None for p in model.parameters()] == [False, *[True] * 5]
    assert not model[5].bias.requires_grad


@every_attack
def test_lowers_accuracy_of_a_linear_model_to_the_known_optimum(attack):
    """On a linear two-class model the least margin in the ball is margin - eps ||w||_dual: every attack reaches it.

    Those that ask for logits alone find most of what it breaks, and never anything else.
    """
    torch.manual_seed(0)
    model = nn.Linear(10, 2).double()
    x = torch.randn(200, 10, dtype=torch.float64)
    y = model(x).argmax(1)
    w = (model.weight[0] - model.weight[1]).detach()
    margin = (model(x)[:, 0] - model(x)[:, 1]).abs().detach()
    duals = {"Linf": w.abs().sum(), "L2": w.norm(), "L1": w.abs().max()}
    for norm in attack.norms:
        dual = duals[norm]
        eps = float(margin.median() / dual)
        # Where gradients come first, the queries after them would only take time.
        few = {"queries": 7} if {"steps", "queries"} <= attack.__dataclass_fields__.keys() else {}
        found = partial(attack, **few) if attack().uses_gradients else partial(quick, attack, tries=50)
        adversarial = found(threat=Threat(norm, eps, None))(model, x, y, generator=torch.Generator().manual_seed(0))
        broken = model(adversarial).argmax(1) != y
        expected = margin < eps * dual
        if attack().uses_gradients:
            assert (broken == expected).float().mean() >= 0.99, norm
        else:
            assert (broken & expected).sum() >= 0.5 * expected.sum(), norm
            assert not (broken & (margin > eps * dual * (1 + 1e-9))).any()


@every_attack
@pytest.mark.parametrize("restarts", [1, 3])
def test_models_that_work_in_place_do_not_move_the_result(attack, restarts):
    model = nn.Linear(4, 3)

    def in_place(x):
        x -= 0.35
        return model(x)

    settings = {"restarts": restarts} if "restarts" in attack.__dataclass_fields__ else {}
    x, y = torch.rand(6, 4), torch.arange(6) % 3
    before = x.clone()
    threat = Threat(attack.norms[0], 0.05)
    adversarial = quick(attack, threat=threat, **settings)(in_place, x, y)
    assert torch.equal(x, before)
    assert threat.contains(adversarial, x).all()


@every_attack
def test_a_nonfinite_model_raises_or_returns_finite_inputs(attack):
    def poisoned(x):
        z = x.flatten(1)[:, :3]
        return torch.where(x.flatten(1)[:, :1] > 0.5, z * torch.nan, z)

    x, y = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.2, 0.3]]), torch.tensor([0, 2])
    adversarial = quick(attack)(poisoned, x, y)
    assert adversarial.isfinite().all()
    assert attack().threat.contains(adversarial, x).all()


@every_attack
def test_norms_that_it_does_not_search_are_refused(attack):
    assert set(attack.norms) <= {"Linf", "L2", "L1"}
    assert attack().threat.norm in attack.norms
    for norm in {"Linf", "L2", "L1"} - set(attack.norms):
        with pytest.raises(UserError, match=f"`threat`: {attack.__name__} searches"):
            attack(threat=Threat(norm))(net(), torch.rand(2, 12), torch.tensor([0, 1]))


@every_attack
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.full((2, 12), 1.5), torch.tensor([0, 1]), r"`x` must lie in the bounds \[0, 1\]"),
        (torch.full((2, 12), float("nan")), torch.tensor([0, 1]), "`x` holds NaN"),
        (torch.full((2, 12), float("inf")), torch.tensor([0, 1]), "`x` holds NaN or infinite"),
        (torch.rand(2, 12), torch.tensor([0, 3]), r"`y` must hold class indices 0\.\.2"),
        (torch.rand(2, 12), torch.tensor([0, -1]), "`y` must hold class indices from 0"),
        (torch.rand(2, 12), torch.tensor([0, 1, 2]), r"`y` must have shape \(2,\)"),
        (torch.rand(2, 12), torch.tensor([0.0, 1.0]), "`y` must hold integer class indices"),
        (torch.zeros(2, 12, dtype=torch.uint8), torch.tensor([0, 1]), "`x` must be floating point"),
        (torch.rand(0, 12), torch.tensor([], dtype=torch.long), "`x` must be a batch"),
    ],
)
def test_bad_input_is_refused_and_the_mode_kept(attack, x, y, message):
    model = net().train()
    with pytest.raises(UserError, match=message):
        attack()(model, x, y)
    assert model.training
