"""Folders of images: train/<class>/*.png, optional test/ and val/ of the same form."""

from pathlib import Path

import torch

from meseta.data.decoding import Decoder
from meseta.data.images import Split
from meseta.data.sources import Source
from meseta.errors import UserError, is_text

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
FOLDERS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}


def decode_image_folder(name: str, folder: Path, image_size: int | None) -> Source:
    """Return the splits of an image folder; the class folders of train/, sorted by name, are the classes.

    Raises:
        UserError: no train/, a class without images or unknown to train/, a damaged image, or mixed sizes.
    """
    found = {split: path for split in FOLDERS if (path := split_folder(folder, split)) is not None}
    if "train" not in found:
        raise UserError(
            f"`source`: {folder} holds neither Parquet files nor a folder train/ with a folder of images for each "
            "class. Lay it out as train/<class>/*.png, with optional test/ and val/."
        )
    classes = class_names(found["train"])
    files = {split: list_images(path, classes) for split, path in found.items()}
    decoder = Decoder(image_size)
    decoded = {split: decoder.decode(((str(f), f) for f, _ in of), len(of)) for split, of in files.items()}
    splits = {
        split: Split(decoder.in_colour(images), torch.tensor([label for _, label in files[split]]))
        for split, images in decoded.items()
    }
    return Source(
        name=name,
        train=splits["train"],
        val=splits.get("val"),
        test=splits.get("test"),
        classes=tuple(classes),
        notes=() if image_size is None else (f"resized to {image_size}×{image_size}",),
    )


def split_folder(folder: Path, split: str) -> Path | None:
    """Return the folder of a split, if there is one."""
    return next((folder / name for name in FOLDERS[split] if (folder / name).is_dir()), None)


def class_names(folder: Path) -> list[str]:
    """Return the names of the class folders, sorted."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if broken := [name for name in names if not is_text(name)]:
        raise UserError(f"`source`: {folder} has a class folder whose name is not in UTF-8: {broken[0]!r}. Rename it.")
    if len(names) < 2:
        raise UserError(f"`source`: {folder} has {len(names)} class folders. It needs two or more, one a class.")
    return names


def list_images(folder: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Return the image files of a split with their labels, in the order of their names."""
    present = class_names(folder) if folder.name == "train" else [p.name for p in folder.iterdir() if p.is_dir()]
    foreign = sorted(name for name in present if name not in classes and not name.startswith("."))
    if foreign:
        raise UserError(f"`source`: {folder} has the classes {', '.join(foreign)}, which train/ does not have.")
    listed: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        images = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not images and folder.name == "train":
            raise UserError(f"`source`: {folder / name} holds no images. Add some, or remove the folder.")
        listed += [(image, label) for image in images]
    if not listed:
        raise UserError(f"`source`: {folder} holds no images in its class folders. Add some, or remove the folder.")
    return listed
