"""Batches of a split, by one indexing operation each."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from meseta.data.images import Split
from meseta.errors import UserError

Batch = tuple[Tensor, Tensor]


def collate(batch: Batch) -> Batch:
    """Return the batch as it is: a `Split` hands out whole batches."""
    return batch


def batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield (x, y) in order; the last batch may be smaller."""
    check_batch_size(batch_size)
    for start in range(0, len(split), batch_size):
        yield split[start : start + batch_size]


def loader(
    split: Split, batch_size: int, *, shuffle: bool = False, generator: torch.Generator | None = None
) -> DataLoader[Batch]:
    """Return a torch DataLoader of (x, y) batches; `generator` decides the order where it is shuffled.

    A shuffled loader leaves out a last batch of one example, from which BatchNorm can take no statistics.
    """
    check_batch_size(batch_size)
    single = shuffle and len(split) > 1 and len(split) % batch_size == 1
    return DataLoader(
        split,  # type: ignore[arg-type]
        batch_size,
        shuffle=shuffle,
        generator=generator,
        collate_fn=collate,  # type: ignore[arg-type]
        drop_last=single,
    )


def check_batch_size(batch_size: int) -> None:
    """Raise where the batch size is not positive."""
    if batch_size < 1:
        raise UserError(f"`batch_size` must be at least 1, got {batch_size}. 128 is usual.")
