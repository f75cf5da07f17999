"""What a configuration says about its data, and the way from there to splits in memory."""

from dataclasses import dataclass

import torch

from meseta.checks import whole
from meseta.data.images import ImageData, Split, check_fraction, hold_out
from meseta.data.sources import Source, read_source
from meseta.errors import UserError

TEST_FRACTION = 0.2
MOST_PIXELS = 4096


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data comes from and which part of it is used.

    Args:
        source: "digits", a hub id such as "ylecun/mnist" (looked up below the folder $MESETA_DATA first), a folder of
            Parquet files in hub layout, an image folder (train/<class>/*.png, optional test/ and val/), or a
            .safetensors file of train_images, train_labels, test_images, test_labels and optional val_images,
            val_labels.
        classes: labels to keep, relabelled 0, 1, ... in the order given, such as (1, 7); None keeps all.
        val_fraction: share of the training set that is held out for validation, in (0, 1), drawn uniformly, not
            stratified. A source with its own validation split keeps that.
        seed: of the hold-out and of the order that the limits cut.
        train_limit: at most so many training examples, the first of the shuffled ones; None for all.
        test_limit: at most so many test examples, the first of the shuffled ones; None for all, in order.
        image_size: resize every image to this height and width, in pixels, up to 4096; needed where sizes are mixed.
        label_column: of a hub-layout data set with several columns of labels.
    """

    source: str = "digits"
    classes: tuple[int, ...] | None = None
    val_fraction: float = 0.05
    seed: int = 0
    train_limit: int | None = None
    test_limit: int | None = None
    image_size: int | None = None
    label_column: str | None = None

    def __post_init__(self) -> None:
        check_fraction("val_fraction", self.val_fraction)
        for name in ("train_limit", "test_limit", "image_size"):
            value = getattr(self, name)
            if value is not None:
                whole(name, value, 1)
        if (self.image_size or 0) > MOST_PIXELS:
            raise UserError(f"`image_size` must be at most {MOST_PIXELS}, got {self.image_size}. Give a smaller one.")
        whole("seed", self.seed, 0)
        for label in self.classes or ():
            whole("classes", label, 0)
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise UserError(f"`classes` must name each class once, got {self.classes}. Remove the duplicates.")
        if self.classes is not None and len(self.classes) < 2:
            raise UserError(f"`classes` must name two classes or more, got {self.classes}. Add one.")

    def load(self) -> ImageData:
        """Return the data set in memory; decoded on first use, read from the cache afterwards.

        Raises:
            UserError: nothing there, not reachable, damaged, or settings that do not fit the data.
        """
        source = read_source(self.source, self.image_size, self.label_column)
        if self.classes is not None:
            source = select(source, self.classes)
        notes = list(source.notes)
        train, test, val = source.train, source.test, source.val
        if test is None:
            train, test, _ = hold_out(train, TEST_FRACTION, self.seed)
            notes.append(f"no test split, so {TEST_FRACTION} of the training set is, drawn with seed {self.seed}")
        if val is None:
            train, val, note = hold_out(train, self.val_fraction, self.seed)
            notes.append(note)
        if self.train_limit is not None:
            train = shuffled_head(train, self.train_limit, self.seed)
            notes.append(f"at most {self.train_limit:,} training examples")
        if self.test_limit is not None:
            test = shuffled_head(test, self.test_limit, self.seed)
            notes.append(f"at most {self.test_limit:,} test examples")
        return ImageData(source.name, train, val, test, source.classes, tuple(notes))


def shuffled_head(split: Split, n: int, seed: int) -> Split:
    """Return the first n of the shuffled examples."""
    return split.subset(torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:n])


def select(source: Source, labels: tuple[int, ...]) -> Source:
    """Return the classes `labels` alone, relabelled 0, 1, ... in that order."""
    absent = [label for label in labels if not 0 <= label < len(source.classes)]
    if absent:
        known = f"0 to {len(source.classes) - 1} ({', '.join(source.classes)})"
        raise UserError(f"`classes`: {source.name} has no class {', '.join(map(str, absent))}. Known: {known}.")
    return Source(
        name=source.name,
        train=relabel(f"{source.name} train", source.train, labels),
        val=source.val and relabel(f"{source.name} validation", source.val, labels),
        test=source.test and relabel(f"{source.name} test", source.test, labels),
        classes=tuple(source.classes[label] for label in labels),
        notes=source.notes,
    )


def relabel(name: str, split: Split, labels: tuple[int, ...]) -> Split:
    """Return the examples of the classes `labels`, relabelled 0, 1, ... in that order."""
    matches = split.labels[:, None] == torch.tensor(labels)  # (N, len(labels))
    empty = [label for label, found in zip(labels, matches.any(0).tolist(), strict=True) if not found]
    if empty:
        raise UserError(f"`classes`: {name} has no example of class {', '.join(map(str, empty))}. Choose others.")
    kept = matches.any(1)
    return Split(split.images[kept], matches[kept].int().argmax(1))
