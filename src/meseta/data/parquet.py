"""Data sets in the Hugging Face hub's layout, from a local folder or from the hub; no code of theirs is run."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from meseta.data.decoding import Decoder
from meseta.data.images import Split
from meseta.data.sources import Source
from meseta.errors import MissingExtra, UserError

SPLITS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
"""The hub's names of splits, and ours."""
SAFE_BUILDERS = {"parquet", "imagefolder", "arrow", "json", "csv"}
"""Formats that cannot hold code; pickles (pandas) and archives of anything are not among them."""


def decode_folder(name: str, folder: Path, image_size: int | None, label_column: str | None) -> Source:
    """Return the splits of a folder of Parquet files; its README and any script in it are not looked at."""
    datasets = import_datasets()
    files = split_files(folder)
    with TemporaryDirectory() as scratch:  # our own cache keeps the pixels; a second copy would only cost space
        try:
            loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=scratch)
            return decode(name, loaded, image_size, label_column, paths=False)
        except UserError:
            raise
        except Exception as error:  # datasets wraps the errors of many libraries
            raise UserError(f"`source`: {folder} cannot be read as Parquet: {reason(error)}") from error


def decode_hub(hub_id: str, image_size: int | None, label_column: str | None) -> Source:
    """Return the splits of a data set on the hub."""
    datasets = import_datasets()
    try:
        builder = datasets.load_dataset_builder(hub_id)
        kind = type(builder).__module__.rpartition(".")[2]
        if kind not in SAFE_BUILDERS:
            raise UserError(
                f"`source`: {hub_id} is stored as {kind}. Only {', '.join(sorted(SAFE_BUILDERS))} are read."
            )
        builder.download_and_prepare()
        return decode(hub_id, builder.as_dataset(), image_size, label_column, paths=kind == "imagefolder")
    except UserError:
        raise
    except Exception as error:  # datasets passes on the errors of several HTTP libraries
        raise UserError(
            f"`source`: {hub_id!r} is no folder here or below $MESETA_DATA "
            f"({os.environ.get('MESETA_DATA', 'not set')}), and cannot be fetched from the hub: {reason(error)} "
            "Check the name and the network, set MESETA_DATA to a folder that holds it, or give a local folder."
        ) from error


def import_datasets() -> Any:
    """Return the `datasets` library, its progress bars off."""
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "data") from None
    datasets.disable_progress_bars()
    return datasets


def reason(error: Exception) -> str:
    """Return what went wrong, in one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}".rstrip(".: ") + "."


def split_files(folder: Path) -> dict[str, list[str]]:
    """Return the Parquet files of each split, by the hub's way of naming them: train-00000-of-00001.parquet."""
    files = sorted(folder.rglob("*.parquet"))
    folders = sorted({str(file.parent.relative_to(folder)) for file in files})
    if len(folders) > 1:
        found = ", ".join(folders)
        raise UserError(f"`source`: {folder} holds several configurations ({found}). Give the folder of one of them.")
    splits: dict[str, list[str]] = {}
    for file in files:
        split = SPLITS.get(re.split(r"[-._]", file.name)[0])
        if split is not None:
            splits.setdefault(split, []).append(str(file))
    if "train" not in splits:
        names = ", ".join(file.name for file in files[:3])
        raise UserError(f"`source`: {folder} holds no train*.parquet, but {names}. Rename the training files.")
    return splits


def decode(name: str, loaded: Any, image_size: int | None, label_column: str | None, *, paths: bool) -> Source:
    """Return the splits of a loaded `DatasetDict`; `paths` allows images that are named instead of held."""
    datasets = import_datasets()
    splits = {ours: loaded[theirs] for theirs, ours in SPLITS.items() if theirs in loaded}
    if "train" not in splits:
        raise UserError(f"`source`: {name} has the splits {', '.join(loaded)}, no train. Choose another data set.")
    features = splits["train"].features
    image = image_column(name, features)
    label = find_label_column(name, features, label_column)
    decoder = Decoder(image_size)
    encoded = {
        key: content.select_columns([image, label]).cast_column(image, datasets.Image(decode=False))
        for key, content in splits.items()
    }
    labels = {key: read_labels(f"{name} {key}", content[label]) for key, content in encoded.items()}
    images = {key: decoder.decode(items(f"{name} {key}", of, image, paths), len(of)) for key, of in encoded.items()}
    ready = {key: Split(decoder.in_colour(images[key]), labels[key]) for key in encoded}
    names = getattr(features[label], "names", None)
    highest = max(int(split.labels.max()) for split in ready.values())
    notes = ["images stored as JPEG, which is lossy"] if "JPEG" in decoder.formats else []
    if image_size is not None:
        notes.append(f"resized to {image_size}×{image_size}")
    return Source(
        name=name,
        train=ready["train"],
        val=ready.get("val"),
        test=ready.get("test"),
        classes=tuple(names) if names else tuple(map(str, range(highest + 1))),
        notes=tuple(notes),
    )


def items(name: str, content: Any, column: str, paths: bool) -> Iterator[tuple[str, bytes | Path]]:
    """Yield a name and the encoded bytes, or the file, of each image."""
    index = 0
    for batch in content.select_columns([column]).iter(batch_size=1000):
        for image in batch[column]:
            held, named = (image.get("bytes"), image.get("path")) if image else (None, None)
            if held is None and named is not None and not paths:  # it could name any file of this machine
                raise UserError(f"`source`: {name} names a file in row {index} in place of an image. Store its bytes.")
            content_or_file = held if held is not None or named is None else Path(named)
            if content_or_file is None:
                raise UserError(f"`source`: {name} has no image in row {index}. Leave the row out.")
            yield f"{name} row {index}", content_or_file
            index += 1


def read_labels(name: str, column: Any) -> torch.Tensor:
    """Return the labels as a tensor; every row must have one."""
    values = list(column)
    if not values:
        raise UserError(f"`source`: {name} is empty. Choose another data set.")
    if not all(value is None or isinstance(value, int) for value in values):
        raise UserError(f"`source`: {name} has labels that are no whole numbers. Set label_column to another column.")
    missing = next((i for i, value in enumerate(values) if value is None or value < 0), None)
    if missing is not None:
        raise UserError(f"`source`: {name} has no label in row {missing}. Leave unlabelled rows out.")
    return torch.tensor(values)


def image_column(name: str, features: Any) -> str:
    """Return the one column of images."""
    found = [column for column, feature in features.items() if type(feature).__name__ == "Image"]
    if len(found) != 1:
        columns = ", ".join(features)
        raise UserError(f"`source`: {name} has {len(found)} columns of images among {columns}. It needs one.")
    return str(found[0])


def find_label_column(name: str, features: Any, wanted: str | None) -> str:
    """Return the column of labels: the one asked for, "label", the only one of classes, or the only one of integers."""
    if wanted is not None:
        if wanted not in features:
            raise UserError(f"`label_column`: {name} has no column {wanted!r}. Known: {', '.join(features)}.")
        return wanted
    classes = [column for column, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    whole = [
        column for column, feature in features.items() if str(getattr(feature, "dtype", "")).startswith(("int", "uint"))
    ]
    for found in (classes, whole):
        if "label" in found:
            return "label"
        if len(found) == 1:
            return str(found[0])
    raise UserError(
        f"`source`: {name} has {len(whole)} columns that could hold labels among {', '.join(features)}. "
        "Set label_column to one of them."
    )
