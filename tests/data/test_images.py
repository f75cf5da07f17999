from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from meseta.data import ImageData, Split, batches, from_tensors, loader
from meseta.errors import UserError


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def split() -> Split:
    return Split(bytes_of(10, 1, 2, 3), torch.arange(10) % 3)


def test_batches_are_in_the_unit_range(split: Split) -> None:
    x, y = split[2:5]
    assert x.dtype == torch.float32
    assert torch.equal(x, split.images[2:5].float() / 255)
    assert torch.equal(y, torch.tensor([2, 0, 1]))


def test_one_example(split: Split) -> None:
    x, y = split[3]
    assert (x.shape, y.shape) == ((1, 2, 3), ())


def test_floats_stay_as_they_are() -> None:
    images = torch.rand(4, 7, dtype=torch.float64)
    x, _ = Split(images, torch.zeros(4, dtype=torch.int32))[:]
    assert torch.equal(x, images.float())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_indexing_takes_a_whole_batch(indices: list[int]) -> None:
    split = Split(bytes_of(10, 1, 2, 3), torch.arange(10))
    x, y = split.__getitems__(indices)
    assert y.tolist() == indices
    assert all(torch.equal(row, split[i][0]) for row, i in zip(x, indices, strict=True))


def test_head_and_batches(split: Split) -> None:
    assert [len(split.head(n)) for n in (3, 99, None)] == [3, 10, 10]
    parts = list(batches(split, 4))
    assert [len(y) for _, y in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([x for x, _ in parts]), split[:][0])


def test_loader_shuffles_by_its_generator(split: Split) -> None:
    def order(seed: int) -> list[float]:
        shuffled = loader(split, 4, shuffle=True, generator=torch.Generator().manual_seed(seed))
        return torch.cat([x for x, _ in shuffled])[:, 0, 0, 0].tolist()

    plain = torch.cat([x for x, _ in loader(split, 4)])
    assert torch.equal(plain, split[:][0])
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert sorted(order(1)) == sorted(plain[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("size", [0, -1])
def test_wrong_batch_size(split: Split, size: int) -> None:
    with pytest.raises(UserError, match="`batch_size` must be at least 1"):
        list(batches(split, size))
    with pytest.raises(UserError, match="`batch_size` must be at least 1"):
        loader(split, size)


LABELS = torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.full((4, 2), float("nan")), LABELS, "`images` must be finite, got 8 NaN"),
        (torch.full((4, 2), 255.0), LABELS, r"`images` must lie in \[0, 1\], got \[255, 255\]\. Divide by 255"),
        (torch.full((4, 2), -0.1), LABELS, r"must lie in \[0, 1\]"),
        (torch.zeros(4, 2, dtype=torch.int64), LABELS, "must be uint8 or floating point"),
        (torch.zeros(4, 2, dtype=torch.float8_e5m2), LABELS, "must be uint8 or floating point"),
        (torch.zeros(4), LABELS, r"must have the shape \(N, \*input_shape\), got \(4,\)"),
        (torch.zeros(0, 2), LABELS[:0], "must have the shape"),
        ([[0.0]], LABELS, "`images` must be a torch tensor, got list"),
        (torch.zeros(4, 2), [0, 0, 0, 0], "`labels` must be a torch tensor, got list"),
        (torch.zeros(4, 2), LABELS[:3], r"`labels` must have the shape \(4,\)"),
        (torch.zeros(4, 2), LABELS.float(), "`labels` must be whole numbers"),
        (torch.zeros(4, 2), LABELS - 1, "`labels` must not be negative, got -1"),
    ],
)
def test_wrong_tensors(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Split(images, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint64, torch.int32])
def test_labels_of_any_whole_type(dtype: torch.dtype) -> None:
    assert Split(torch.zeros(4, 2), LABELS.to(dtype)).labels.dtype == torch.int64


@pytest.mark.parametrize("shape", [(3, 4, 5), (6,)])
@pytest.mark.parametrize("kind", ["uint8", "float"])
def test_statistics_of_the_training_split(shape: tuple[int, ...], kind: str) -> None:
    images = bytes_of(600, *shape)
    images[:, 0] = 51
    content = images if kind == "uint8" else images / 255
    labels = torch.arange(600) % 2
    data = from_tensors("t", train=(content, labels), test=(content, labels), val=(content, labels))
    x = (images.double() / 255).reshape(600, shape[0], -1)
    torch.testing.assert_close(torch.tensor(data.mean, dtype=torch.float64), x.mean((0, 2)), atol=1e-7, rtol=0)
    assert data.std[0] == 1.0  # a constant channel
    by_hand = x[:, 1:].permute(1, 0, 2).flatten(1).std(1, correction=0)
    torch.testing.assert_close(torch.tensor(data.std[1:], dtype=torch.float64), by_hand, atol=1e-7, rtol=0)


def test_from_tensors_holds_out_a_validation_split() -> None:
    train = (bytes_of(100, 1, 4, 4), torch.arange(100) % 10)
    data = from_tensors("own", train=train, test=train, val_fraction=0.1, seed=3)
    assert (len(data.train), len(data.val), len(data.test)) == (90, 10, 100)
    assert data.classes == tuple("0123456789")
    assert data.describe() == (
        "own: 90 train, 10 validation, 100 test examples of 1×4×4, 10 classes; "
        "validation is 0.1 of the training set, drawn with seed 3"
    )


def test_two_classes_are_described_by_name() -> None:
    pair = (bytes_of(1000, 2), torch.arange(1000) % 2)
    data = from_tensors("own", train=pair, test=pair, val=pair, classes=["7", "1"])
    assert data.describe() == "own: 1,000 train, 1,000 validation, 1,000 test examples of 2, classes 7 against 1"


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_wrong_fraction(fraction: float) -> None:
    pair = (bytes_of(4, 2), torch.arange(4) % 2)
    with pytest.raises(UserError, match="`val_fraction` must lie between 0 and 1"):
        from_tensors("own", train=pair, test=pair, val_fraction=fraction)


def test_fraction_that_leaves_nothing() -> None:
    pair = (bytes_of(2, 2), torch.arange(2))
    with pytest.raises(UserError, match="leaves none to train on"):
        from_tensors("own", train=pair, test=pair, val_fraction=0.9)


def test_splits_must_agree() -> None:
    small, large = Split(bytes_of(4, 2), torch.arange(4)), Split(bytes_of(4, 3), torch.arange(4))
    with pytest.raises(UserError, match=r"`test`: own has images of \(3,\) there and of \(2,\) in `train`"):
        ImageData("own", small, small, large, tuple("0123"))
    with pytest.raises(UserError, match="`train`: own has the label 3, but only 2 classes"):
        ImageData("own", small, small, small, tuple("01"))
    with pytest.raises(UserError, match="A classifier needs two or more"):
        ImageData("own", small, small, small, ("0",))


def test_errors_name_the_split() -> None:
    good, bad = (bytes_of(4, 2), torch.arange(4)), (torch.full((4, 2), 2.0), torch.arange(4))
    with pytest.raises(UserError, match="own test: `images` must lie in"):
        from_tensors("own", train=good, test=bad)
