"""What a training step costs: in floating-point operations, and in seconds beside the steps of other objectives."""

from collections.abc import Mapping
from copy import deepcopy
from random import Random
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from meseta.checks import whole
from meseta.errors import UserError
from meseta.objectives.base import Objective


def step_flops(objective: Objective, model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return the floating-point operations of the convolutions and matrix products of one training step.

    The count does not depend on the machine, and hardly on the batch but for iterations that stop early.

    Args:
        objective: with its backward pass.
        model: is left as it is; a copy in train mode is stepped.
        x, y: one batch.
    """
    model = deepcopy(model).train()
    with FlopCounterMode(display=False) as counter:
        _step(objective, model, x, y)
    return int(counter.get_total_flops())


def step_seconds(
    objectives: Mapping[str, Objective], model: nn.Module, x: Tensor, y: Tensor, *, rounds: int = 5
) -> dict[str, list[float]]:
    """Return the seconds of one training step of every objective in every round.

    Every round times each objective once, in an order drawn anew, so that a slow spell of the machine meets all of
    them: ratios are taken within a round. A first round is not counted. The optimiser's update, which is the same for
    all, is left out.

    Args:
        objectives: by name.
        model: is left as it is; a copy in train mode is stepped.
        x, y: one batch.
        rounds: how often each is timed.

    Raises:
        UserError: no objective, or fewer than one round.
    """
    whole("rounds", rounds, 1)
    if not objectives:
        raise UserError("`objectives` must name at least one objective, such as {plain: Erm()}.")
    model = deepcopy(model).train()
    order, shuffle = list(objectives), Random(0).shuffle
    times: dict[str, list[float]] = {name: [] for name in objectives}
    for counted in range(-1, rounds):
        shuffle(order)
        for name in order:
            began = perf_counter()
            _step(objectives[name], model, x, y)
            if counted >= 0:
                times[name].append(perf_counter() - began)
    return times


def _step(objective: Objective, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Leave the gradients of one step in the parameters, with the same draws every time."""
    model.zero_grad()
    value = objective(model, x, y, generator=torch.Generator(x.device).manual_seed(0))
    torch.autograd.backward(value.total)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
