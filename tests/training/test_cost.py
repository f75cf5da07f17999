"""What a training step costs."""

import pytest
import torch
from torch import nn

from meseta.attacks import FGSM
from meseta.errors import UserError
from meseta.objectives import AdversarialTraining, DecisionGradient, Erm
from meseta.training.cost import step_flops, step_seconds

B, D, H, K = 4, 6, 5, 3


def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(D, H), nn.ReLU(), nn.Linear(H, K))
    return model, torch.rand(B, D), torch.tensor([0, 1, 2, 0])


def test_a_plain_step_counts_its_matrix_products():
    forward = 2 * B * (D * H + H * K)
    to_inputs = 2 * B * H * K  # of the second layer alone: no gradient is asked of the input
    assert step_flops(Erm(), *problem()) == 2 * forward + to_inputs


def test_what_a_step_adds_counts():
    forward, to_inputs = 2 * B * (D * H + H * K), 2 * B * (D * H + H * K)
    plain = step_flops(Erm(), *problem())
    assert step_flops(AdversarialTraining(attack=FGSM()), *problem()) == plain + forward + to_inputs
    assert step_flops(DecisionGradient(), *problem()) > plain + to_inputs


def test_the_model_is_left_as_it_is():
    model, x, y = problem()
    model.append(nn.BatchNorm1d(K)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step_flops(DecisionGradient(), model, x, y)
    step_seconds({"plain": Erm(), "ours": DecisionGradient()}, model, x, y, rounds=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_objective_is_timed_in_every_round():
    seconds = step_seconds({"plain": Erm(), "ours": DecisionGradient()}, *problem(), rounds=3)
    assert {name: len(times) for name, times in seconds.items()} == {"plain": 3, "ours": 3}
    assert all(time > 0 for times in seconds.values() for time in times)


def test_bad_settings():
    with pytest.raises(UserError, match="`rounds` must be"):
        step_seconds({"plain": Erm()}, *problem(), rounds=0)
    with pytest.raises(UserError, match="`objectives` must name"):
        step_seconds({}, *problem())
