"""From a name to decoded splits: which kind of source it is, and the cache of what was decoded."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from meseta.checks import HUB_ID
from meseta.data.cache import cached, fingerprint
from meseta.data.images import Split, named_split, numbered
from meseta.errors import MissingExtra, UserError, unknown_name
from meseta.files import check_memory

KNOWN = {
    "digits": "1,797 handwritten digits of 8×8, in scikit-learn, no download",
    "ylecun/mnist": "70,000 handwritten digits of 28×28",
    "zalando-datasets/fashion_mnist": "70,000 articles of clothing of 28×28",
    "uoft-cs/cifar10": "60,000 colour photographs of 32×32 in 10 classes",
}
"""Sources that are known to work, each in one line; any other of the same kind works too."""

TENSORS = {f"{split}_{kind}" for split in ("train", "val", "test") for kind in ("images", "labels")}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set as its files have it: splits that are not there are None."""

    name: str
    train: Split
    val: Split | None
    test: Split | None
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_source(source: str, image_size: int | None, label_column: str | None) -> Source:
    """Return the decoded splits of `source`; see `DataConfig` for what it may name."""
    path = Path(source).expanduser()
    folder = path if path.is_dir() else shelf(source)
    if source == "digits":
        refuse("digits", image_size=image_size, label_column=label_column)
        return read_digits()
    if path.suffix == ".safetensors":
        refuse("a .safetensors file", image_size=image_size, label_column=label_column)
        return read_tensors(path)
    if folder is not None and any(folder.rglob("*.parquet")):
        return read_hub_layout(source, folder, image_size, label_column)
    if folder is not None:
        refuse("an image folder", label_column=label_column)
        return read_image_folder(source, folder, image_size)
    if HUB_ID.fullmatch(source):
        return read_hub(source, image_size, label_column)
    raise UserError(
        f"`source`: {source!r} is no file or folder here, and no hub id of the form owner/name. "
        f"Known: {', '.join(KNOWN)}."
    )


def shelf(source: str) -> Path | None:
    """Return the folder of a hub id below $MESETA_DATA, if it is there."""
    root = os.environ.get("MESETA_DATA")
    if not root or not HUB_ID.fullmatch(source):
        return None
    folder = Path(root).expanduser() / source
    return folder if folder.is_dir() else None


def refuse(kind: str, **settings: object) -> None:
    """Raise where a setting is given that this kind of source has no use for."""
    for name, value in settings.items():
        if value is not None:
            raise UserError(f"`{name}` does not apply to {kind}, got {value!r}. Leave it out.")


@cache
def split_digits() -> tuple[Tensor, Tensor, list[int], list[int]]:
    """Return scikit-learn's digits, their labels, and which are for training and for testing."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise MissingExtra("scikit-learn", "data") from None
    digits = load_digits()
    images = torch.from_numpy(digits.images)[:, None].mul(255 / 16).round().to(torch.uint8)
    labels = torch.from_numpy(digits.target).long()
    return images, labels, *train_test_split(range(len(labels)), test_size=0.2, stratify=digits.target, random_state=0)


def read_digits() -> Source:
    """Return the digits, 0 to 16 spread over 0 to 255, in a fixed stratified split of 80 to 20."""
    images, labels, train, test = split_digits()
    return Source(
        name="digits",
        train=Split(images[train], labels[train]),
        val=None,
        test=Split(images[test], labels[test]),
        classes=tuple(map(str, range(10))),
    )


def read_tensors(path: Path) -> Source:
    """Return the splits of a .safetensors file."""
    if not path.is_file():
        raise UserError(f"`source`: {path} {'is no file' if path.exists() else 'does not exist'}. Check the path.")
    check_memory(f"`source`: {path}", path.stat().st_size)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"`source`: {path} is damaged or no safetensors file: {error}. Save it again.") from None
    for name in tensors.keys() - TENSORS:
        raise unknown_name(f"`source`: tensor in {path}", name, TENSORS)
    half = {name for name in tensors if name.replace("images", "labels") not in tensors}
    half |= {name for name in tensors if name.replace("labels", "images") not in tensors}
    if half or "train_images" not in tensors:
        needed = "train_images, train_labels and, as pairs, test_* and val_*"
        raise UserError(f"`source`: {path} holds {', '.join(sorted(tensors)) or 'nothing'}. It needs {needed}.")
    splits = {
        split: named_split(f"{path} {split}", tensors[f"{split}_images"].clone(), tensors[f"{split}_labels"].clone())
        for split in ("train", "val", "test")
        if f"{split}_images" in tensors
    }
    return Source(
        name=path.name,
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        classes=numbered(*splits.values()),
    )


def read_hub_layout(name: str, folder: Path, image_size: int | None, label_column: str | None) -> Source:
    """Return a folder of Parquet files, from the cache where the files are unchanged."""

    def decode() -> Source:
        from meseta.data.parquet import decode_folder

        return decode_folder(name, folder, image_size, label_column)

    return from_cache(name, [fingerprint(folder), image_size, label_column], decode)


def read_hub(hub_id: str, image_size: int | None, label_column: str | None) -> Source:
    """Return a data set of the hub; once decoded, changes on the hub are not noticed."""

    def decode() -> Source:
        from meseta.data.parquet import decode_hub

        return decode_hub(hub_id, image_size, label_column)

    return from_cache(hub_id, ["hub", hub_id, image_size, label_column], decode)


def read_image_folder(name: str, folder: Path, image_size: int | None) -> Source:
    """Return a folder of images, from the cache where the files are unchanged."""

    def decode() -> Source:
        from meseta.data.image_folder import decode_image_folder

        return decode_image_folder(name, folder, image_size)

    return from_cache(name, [fingerprint(folder), image_size], decode)


def from_cache(name: str, key: list[object], decode: Callable[[], Source]) -> Source:
    """Return what the cache holds under `key`, or decode it and keep it there."""

    def fields() -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
        source = decode()
        splits = {"train": source.train, "val": source.val, "test": source.test}
        tensors: dict[str, torch.Tensor] = {}
        for split, content in splits.items():
            if content is not None:
                tensors |= {f"{split}_images": content.images, f"{split}_labels": content.labels}
        return tensors, {"classes": list(source.classes), "notes": list(source.notes)}

    tensors, texts = cached(name, key, fields)
    splits = {
        split: Split(tensors[f"{split}_images"], tensors[f"{split}_labels"]) if f"{split}_images" in tensors else None
        for split in ("train", "val", "test")
    }
    train = splits["train"]
    if train is None:
        raise UserError(f"`source`: {name} has no training split. Give a folder or data set that has one.")
    return Source(
        name=name,
        train=train,
        val=splits["val"],
        test=splits["test"],
        classes=tuple(texts["classes"]),
        notes=tuple(texts["notes"]),
    )
