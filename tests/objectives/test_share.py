"""A penalty on a share of the batch: unbiased, the loss untouched, and the cost it saves."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from meseta.errors import UserError
from meseta.objectives import Curvature, InputGradient, Soar, Sum


def setting(n=12):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 3)).double()
    return model, torch.rand(n, 6, dtype=torch.float64), torch.arange(n) % 3


def gradient(objective, model, x, y, seed):
    value = objective(model, x, y, generator=torch.Generator().manual_seed(seed))
    return value, torch.autograd.grad(value.total, model[0].weight)[0]


def test_value_and_gradient_are_unbiased():
    model, x, y = setting()
    whole, truth = gradient(InputGradient(weight=2.0), model, x, y, 0)
    draws = [gradient(InputGradient(weight=2.0, share=0.3), model, x, y, seed) for seed in range(400)]
    for exact, found in (
        (whole.total, torch.stack([value.total for value, _ in draws])),
        (truth, torch.stack([g for _, g in draws])),
    ):
        assert ((found.mean(0) - exact).abs() < 5 * found.std(0) / math.sqrt(len(draws))).all()


def test_the_loss_is_of_the_whole_batch_and_the_terms_of_the_share():
    model, x, y = setting()
    whole, part = InputGradient()(model, x, y), InputGradient(share=0.25)(model, x, y)
    torch.testing.assert_close(part.terms["cross_entropy"], whole.terms["cross_entropy"])
    lengths = part.terms["input_gradient"]
    assert lengths.shape == (3,)
    assert torch.isclose(lengths[:, None], whole.terms["input_gradient"]).any(1).all()


def test_at_least_one_example_is_taken_and_sums_honour_the_share():
    model, x, y = setting(2)
    assert InputGradient(share=0.01)(model, x, y).terms["input_gradient"].shape == (1,)
    both = Sum(parts=(InputGradient(), Curvature(share=0.5)))(model, x, y)
    assert both.terms["curvature"].shape == (1,)
    assert both.terms["input_gradient"].shape == (2,)


def test_soar_keeps_its_loss_at_its_own_points():
    model, x, y = setting()
    soar = Soar(start="random", share=0.5)
    clean = InputGradient()(model, x, y).terms["cross_entropy"]
    assert not torch.isclose(soar(model, x, y).terms["cross_entropy"], clean).any()


def test_it_saves_what_it_should():
    model, x, y = setting(64)

    def flops(objective):
        with FlopCounterMode(display=False) as counter:
            objective(model, x, y).total.backward()
        return counter.get_total_flops()

    assert flops(Curvature(share=0.25)) < 0.6 * flops(Curvature())


@pytest.mark.parametrize("share", [0, 1.5, float("nan")])
def test_bad_shares_are_refused(share):
    with pytest.raises(UserError, match="`share`"):
        InputGradient(share=share)
