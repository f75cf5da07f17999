"""The batches of a training: all examples once an epoch, the same steps for any number of processes."""

import pytest
import torch

from meseta.data import Split
from meseta.training.order import TrainingBatches, ValidationBatches


def split(n):
    """Examples that can be told apart by their labels."""
    return Split(torch.zeros(n, 1, 1, 1), torch.arange(n))


def labels(batches):
    return [y.tolist() for _, y in batches]


@pytest.mark.parametrize("n", [8, 9, 10, 11, 12, 131])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_processes_share_the_batches_of_one(n, m):
    begun = [0]
    whole = TrainingBatches(split(n), 8, seed=0, step=lambda: begun[0])
    shares = [TrainingBatches(split(n), 8, seed=0, step=lambda: begun[0], shard=(i, m)) for i in range(m)]
    for begun[0] in (0, len(whole)):
        one = labels(whole)
        assert all(len(share) == len(whole) == len(one) for share in shares)
        for batch, *parts in zip(one, *map(labels, shares), strict=True):
            together = [label for part in parts for label in part]
            if len(batch) < 2 * m:
                assert parts == [batch] * m
            else:
                assert sorted(together) == sorted(batch)
                assert max(map(len, parts)) - min(map(len, parts)) <= 1
        seen = sorted(label for batch in one for label in batch)
        assert seen == sorted(set(seen))
        assert len(seen) == n - (n % 8 == 1)


def test_every_epoch_has_an_order_of_its_own_and_any_step_is_found_again():
    def passed(step):
        return labels(TrainingBatches(split(30), 8, seed=3, step=lambda: step))

    epochs = [passed(0), passed(4)]
    assert epochs[0] != epochs[1]
    for step in (2, 7):
        assert passed(step) == epochs[step // 4][step % 4 :]
    other = TrainingBatches(split(30), 8, seed=4, step=lambda: 0)
    assert labels(other) != epochs[0]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 257])
@pytest.mark.parametrize("m", [1, 2, 3])
def test_validation_sees_every_example_once(n, m):
    shares = [ValidationBatches(split(n), 8, shard=(i, m)) for i in range(m)]
    parts = [[label for batch in labels(share) for label in batch] for share in shares]
    assert all(len(share) == len(labels(share)) for share in shares)
    if n < m:
        assert parts == [list(range(n))] * m
    else:
        assert sorted(label for part in parts for label in part) == list(range(n))
        assert all(parts)
