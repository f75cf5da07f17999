"""Training with any objective keeps nothing from step to step: no tensor, no graph."""

from dataclasses import dataclass

import pytest
import torch
from leaks import collected, live_tensors
from torch import nn

from meseta.objectives import InputGradient, Objective
from meseta.registry import methods

OBJECTIVES = sorted(methods("objectives").items())
WARM_UP, STEPS = 3, 12
"""Steps until what is made once and kept is there, and steps in which one tensor a step would be seen at once."""


def left_by_steps(objective: Objective) -> int:
    """Return by how many live tensors the number grew over the steps."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3))
    x, y = torch.rand(2, 4, generator=generator), torch.tensor([0, 2])
    optimizer = torch.optim.Adam(model.parameters())
    counts = []
    with collected():
        for _ in range(WARM_UP + STEPS):
            optimizer.zero_grad()
            objective(model, x, y, generator=generator).total.backward()
            optimizer.step()
            counts.append(live_tensors())
    return counts[-1] - counts[WARM_UP - 1]


@pytest.mark.parametrize("objective", [o for _, o in OBJECTIVES], ids=[name for name, _ in OBJECTIVES])
def test_steps_leave_nothing_behind(objective):
    assert left_by_steps(objective()) == 0


@dataclass(frozen=True)
class Leaky:
    """An objective that keeps its totals in a list, or their sum with every graph that it came from."""

    kept: list
    summed: bool

    def __call__(self, *arguments, **options):
        value = InputGradient()(*arguments, **options)
        self.kept[:] = [sum(self.kept, value.total)] if self.summed else [*self.kept, value.total]
        return value


@pytest.mark.parametrize("summed", [False, True], ids=["totals", "one growing graph"])
def test_what_is_kept_each_step_is_seen(summed):
    assert left_by_steps(Leaky([], summed)) >= STEPS
