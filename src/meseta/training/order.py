"""The batches of a training: another order in every epoch, found again from the number of the step alone."""

from collections.abc import Callable, Iterator

import torch

from meseta.data import Split
from meseta.data.loading import Batch, check_batch_size


class TrainingBatches:
    """The batches of all epochs, in an order drawn from (seed, epoch), so that training may go on at any step.

    Of each batch a process takes every m-th example; where one would get fewer than two, each takes all of it. So the
    steps are the same for any number of processes. A last batch of one example is left out: BatchNorm can take no
    statistics from it.

    Args:
        split: what is trained on.
        batch_size: of all processes together.
        seed: of the order.
        step: returns how many batches were taken since the start of training; asked at the start of each pass.
        shard: (i, m) for process i of m.
    """

    def __init__(
        self, split: Split, batch_size: int, *, seed: int, step: Callable[[], int], shard: tuple[int, int] = (0, 1)
    ) -> None:
        check_batch_size(batch_size)
        self._split, self._batch_size, self._seed = split, batch_size, seed
        self._step, self._shard = step, shard
        self._length = max(1, len(split) // batch_size + (len(split) % batch_size > 1))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = divmod(self._step(), len(self))
        generator = torch.Generator().manual_seed(self._seed + 500_009 + 1_000_003 * epoch)  # no step's seed
        batches = torch.split(torch.randperm(len(self._split), generator=generator), self._batch_size)
        i, m = self._shard
        for indices in batches[first : len(self)]:
            yield self._split[indices[i::m] if len(indices) >= 2 * m else indices]


class ValidationBatches:
    """The batches of a split in order; process i of m takes every m-th example, or all where there are fewer than m."""

    def __init__(self, split: Split, batch_size: int, *, shard: tuple[int, int] = (0, 1)) -> None:
        check_batch_size(batch_size)
        i, m = shard
        indices = torch.arange(len(split))
        self._batches = torch.split(indices[i::m] if len(split) >= m else indices, -(-batch_size // m))
        self._split = split

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for indices in self._batches:
            yield self._split[indices]
