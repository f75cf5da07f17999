"""A split and a data set: tensors in memory, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from meseta.errors import UserError

CHUNK = 256
"""Examples converted to float64 at a time, few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class Split:
    """Images and labels, indexed in whole batches: `split[indices]` is (x, y) with x float32 in [0, 1].

    Args:
        images: (N, *input_shape), uint8 in [0, 255] or floating point in [0, 1].
        labels: (N,), whole numbers from 0.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        check_images(self.images)
        check_labels(self.labels, len(self.images))
        object.__setattr__(self, "labels", self.labels.long())

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Return one example, (*input_shape) and (), or a batch, (B, *input_shape) and (B,)."""
        images = self.images[index]
        x = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return x, self.labels[index]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return a batch; what torch's DataLoader calls."""
        return self[torch.as_tensor(indices)]

    def subset(self, indices: Tensor | slice) -> "Split":
        """Return the examples at `indices`, undecoded."""
        return Split(self.images[indices], self.labels[indices])

    def head(self, n: int | None) -> "Split":
        """Return the first n examples, all of them where there are fewer or n is None."""
        return self.subset(slice(n))


@dataclass(frozen=True)
class ImageData:
    """A data set: training, validation and test split with the same input shape and classes.

    Args:
        name: where the data came from.
        classes: names; label i is `classes[i]`.
        notes: what a reader of its figures must know, for `describe`.
    """

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise UserError(f"`classes`: {self.name} has {len(self.classes)}. A classifier needs two or more.")
        for split_name, split in (("train", self.train), ("val", self.val), ("test", self.test)):
            shape = tuple(split.images.shape[1:])
            if shape != self.input_shape:
                raise UserError(
                    f"`{split_name}`: {self.name} has images of {shape} there and of {self.input_shape} in `train`. "
                    "Bring them to one shape."
                )
            highest = int(split.labels.max())
            if highest >= len(self.classes):
                raise UserError(
                    f"`{split_name}`: {self.name} has the label {highest}, but only {len(self.classes)} classes."
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.train.images.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the training split per channel (first axis of an example), in [0, 1] units."""
        return self._statistics[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Population standard deviation of the training split per channel, in [0, 1] units; 1 where it is zero."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean = self._channel_mean(torch.zeros(self.input_shape[0], 1, dtype=torch.float64), power=1)
        std = self._channel_mean(mean[:, None], power=2).sqrt()
        constant = std < 1e-12
        return tuple(mean.tolist()), tuple(std.masked_fill(constant, 1.0).tolist())

    def _channel_mean(self, centre: Tensor, power: int) -> Tensor:
        """Return the mean of (x - centre) ** power per channel, in float64."""
        total = torch.zeros(self.input_shape[0], dtype=torch.float64)
        for start in range(0, len(self.train), CHUNK):
            x, _ = self.train[start : start + CHUNK]
            values = x.double().reshape(len(x), self.input_shape[0], -1)
            total += ((values - centre) ** power).mean(2).sum(0)
        return total / len(self.train)

    def describe(self) -> str:
        """Return one sentence: name, sizes, shape, classes, and what is special."""
        sizes = f"{len(self.train):,} train, {len(self.val):,} validation, {len(self.test):,} test"
        shape = "×".join(map(str, self.input_shape))
        two = f"classes {' against '.join(self.classes)}"
        classes = two if self.num_classes == 2 else f"{self.num_classes} classes"
        return "; ".join([f"{self.name}: {sizes} examples of {shape}, {classes}", *self.notes])


def from_tensors(
    name: str,
    *,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor] | None = None,
    classes: Sequence[str] | None = None,
    val_fraction: float = 0.05,
    seed: int = 0,
) -> ImageData:
    """Return a data set from tensors: images uint8 or floating point in [0, 1], labels from 0.

    Args:
        name: for records and messages.
        train: images, (N, *input_shape), and labels, (N,).
        test: the same.
        val: the same; None holds out `val_fraction` of `train`, drawn with `seed`.
        classes: names; None numbers them up to the highest label.
        val_fraction: in (0, 1); only without `val`.
        seed: only without `val`.
    """
    splits = {"train": train, "test": test} | ({} if val is None else {"val": val})
    checked = {key: named_split(f"{name} {key}", *pair) for key, pair in splits.items()}
    names = tuple(classes) if classes is not None else numbered(*checked.values())
    if val is None:
        rest, held_out, note = hold_out(checked["train"], val_fraction, seed)
        return ImageData(name, rest, held_out, checked["test"], names, (note,))
    return ImageData(name, checked["train"], checked["val"], checked["test"], names)


def numbered(*splits: Split) -> tuple[str, ...]:
    """Return "0", "1", ... up to the highest label."""
    return tuple(str(i) for i in range(1 + max(int(split.labels.max()) for split in splits)))


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split, str]:
    """Return the shuffled rest, the held-out share and a note that says so; uniformly drawn, not stratified."""
    check_fraction("val_fraction", fraction)
    held = max(1, round(fraction * len(split)))
    if held >= len(split):
        raise UserError(
            f"`val_fraction`: {fraction} of {len(split)} examples leaves none to train on. Give a smaller one."
        )
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    note = f"validation is {fraction:.3g} of the training set, drawn with seed {seed}"
    return split.subset(order[held:]), split.subset(order[:held]), note


def check_fraction(name: str, value: float) -> None:
    """Raise where `value` is not strictly between 0 and 1."""
    if not 0 < value < 1:
        raise UserError(f"`{name}` must lie between 0 and 1, got {value}. 0.05 is usual.")


def named_split(name: str, images: Tensor, labels: Tensor) -> Split:
    """Return a split; errors name where it came from."""
    try:
        return Split(images, labels)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def check_images(images: Tensor) -> None:
    """Raise where `images` are no examples in the unit range."""
    if not isinstance(images, Tensor):
        raise UserError(f"`images` must be a torch tensor, got {type(images).__name__}. Use torch.as_tensor.")
    if images.ndim < 2 or images.numel() == 0:
        raise UserError(f"`images` must have the shape (N, *input_shape), got {tuple(images.shape)}. Reshape them.")
    if images.dtype == torch.uint8:
        return
    if images.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):  # no 8-bit floats
        raise UserError(f"`images` must be uint8 or floating point in [0, 1], got {images.dtype}. Convert them.")
    broken = int((~images.isfinite()).sum())
    if broken:
        raise UserError(f"`images` must be finite, got {broken} NaN or infinite values. Remove those examples.")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise UserError(f"`images` must lie in [0, 1], got [{low:.4g}, {high:.4g}]. Divide by 255, or give uint8.")


def check_labels(labels: Tensor, n: int) -> None:
    """Raise where `labels` are not `n` whole numbers from 0."""
    if not isinstance(labels, Tensor):
        raise UserError(f"`labels` must be a torch tensor, got {type(labels).__name__}. Use torch.as_tensor.")
    if labels.shape != (n,):
        raise UserError(f"`labels` must have the shape ({n},), one an image, got {tuple(labels.shape)}. Reshape them.")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"`labels` must be whole numbers, got {labels.dtype}. Convert them to int64.")
    lowest = int(labels.long().min())  # of wide unsigned types torch finds none
    if lowest < 0:
        raise UserError(f"`labels` must not be negative, got {lowest}. Leave unlabelled examples out.")
