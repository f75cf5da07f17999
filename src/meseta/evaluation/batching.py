"""Batches for evaluation, from tensors or a loader, on the device of the model."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from meseta.autodiff.scalar_fields import Model
from meseta.checks import Bounds, check_batch, whole
from meseta.errors import UserError

Batches = Iterable[tuple[Tensor, Tensor]]


def batched(
    model: Model, x: Tensor | Batches, y: Tensor | None, batch_size: int, *, bounds: Bounds | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, y) batches on the model's device; tensors are checked as a whole before the first batch.

    Raises:
        UserError: labels missing or given twice, a loader of anything but pairs, no examples, bad inputs.
    """
    whole("batch_size", batch_size, 1)
    source: Batches
    if isinstance(x, Tensor):
        if y is None:
            raise UserError("`y` is missing: give the labels of x, or a loader of (x, y) batches as x.")
        check_batch(x, y, bounds=bounds)
        source = zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True)
    elif y is not None:
        raise UserError("`y` must be left out where `x` is a loader of (x, y) batches.")
    else:
        source = x
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    empty = True
    for pair in source:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UserError(f"`x` must be a tensor or a loader of (x, y) pairs, got batches of {type(pair).__name__}.")
        empty = False
        inputs, labels = pair
        yield (inputs, labels) if parameter is None else (inputs.to(parameter.device), labels.to(parameter.device))
    if empty:
        raise UserError("`x` holds no examples.")


def share(shard: tuple[int, int] | None) -> tuple[int, int]:
    """Return (i, m) for every m-th batch from number i on; all of them without a shard."""
    i, m = shard or (0, 1)
    whole("shard", i, 0)
    whole("shard", m, i + 1)
    return i, m


def without_batch(shard: tuple[int, int] | None) -> UserError:
    """Return the error for a shard that has no batch."""
    return UserError(f"`shard` is {shard}, and there are fewer batches than that. Take fewer shards.")
