"""Ranges of derivatives: they hold every value on a fine grid, and are attained."""

import pytest
import torch
from torch import nn

from meseta.certificates.activations import known_activation

F64 = torch.float64
SMOOTH = [nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.Softplus(beta=3.0), nn.SiLU(), nn.GELU()]
GRID = torch.linspace(-9, 9, 20001, dtype=F64)
EDGE = torch.tensor(torch.inf, dtype=F64)
JUMP = 1e-8
"""Above its threshold of 20 torch's softplus is the identity: exp(-20) off."""


def derivatives(module, x):
    """sigma' and sigma'' by autograd."""
    x = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(module(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return first.detach(), second


@pytest.mark.parametrize("module", SMOOTH, ids=repr)
def test_ranges_everywhere_hold_every_value_and_are_attained(module):
    known = known_activation(module)
    for (low, high), values in zip(
        (known.slopes(-EDGE, EDGE), known.bends(-EDGE, EDGE)), derivatives(module, GRID), strict=True
    ):
        assert low <= values.min() + JUMP
        assert values.max() <= high + JUMP
        assert values.min() - low < 2e-4
        assert high - values.max() < 2e-4


@pytest.mark.parametrize("module", SMOOTH, ids=repr)
def test_ranges_on_intervals_hold_every_value_in_them_and_no_more(module):
    known = known_activation(module)
    first, second = derivatives(module, GRID)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        start, stop = torch.randint(len(GRID), (2,), generator=generator).sort().values.tolist()
        low, high = GRID[start], GRID[stop]
        for (least, most), values in ((known.slopes(low, high), first), (known.bends(low, high), second)):
            inside = values[start : stop + 1]
            assert least <= inside.min() + JUMP
            assert inside.max() <= most + JUMP
            assert inside.min() - least < 1e-4
            assert most - inside.max() < 1e-4


def test_rectifiers_have_one_slope_off_their_kink_and_both_across_it():
    for module, slope in ((nn.ReLU(), 0.0), (nn.LeakyReLU(0.1), 0.1)):
        known = known_activation(module)
        low, high = known.slopes(torch.tensor([-2.0, -1.0, 0.5], dtype=F64), torch.tensor([-1.0, 1.0, 2.0], dtype=F64))
        torch.testing.assert_close(low, torch.tensor([slope, slope, 1.0], dtype=F64))
        torch.testing.assert_close(high, torch.tensor([slope, 1.0, 1.0], dtype=F64))
        assert known.second is None


def test_what_is_not_known_is_not_guessed():
    for module in (
        nn.ELU(),
        nn.GELU(approximate="tanh"),
        nn.Softplus(threshold=5),
        nn.Softplus(beta=-4.0),
        nn.Linear(2, 2),
    ):
        assert known_activation(module) is None
