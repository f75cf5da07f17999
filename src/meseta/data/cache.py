"""Decoded images on disk: one safetensors file a source, found again by a hash of what it was made from."""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from meseta.files import write_whole

VERSION = 1
"""Part of every key; to be raised when decoding changes."""

Content = tuple[dict[str, Tensor], dict[str, list[str]]]


def cache_folder() -> Path:
    """Return $MESETA_CACHE, or meseta's folder in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("MESETA_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "meseta"


def fingerprint(folder: Path) -> list[object]:
    """Return what identifies the content of a folder: its path, and every file's name, size and time."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [(str(file.relative_to(folder)), file.stat()) for file in files]
    return [str(folder.resolve()), *[(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]


def cached(name: str, key: list[object], decode: Callable[[], Content]) -> Content:
    """Return the tensors and texts cached under `key`; where there are none, or a damaged file, decode and write."""
    digest = hashlib.sha256(json.dumps([VERSION, key]).encode()).hexdigest()[:16]
    slug = re.sub(r"[^\w.-]+", "-", name).strip("-")[-60:]
    path = cache_folder() / f"{slug}-{digest}.safetensors"
    try:
        return read(path)
    except Exception:  # absent or damaged in any way: the source decides, not the cache
        content = decode()
    with suppress(OSError):  # a cache that cannot be written costs time, never the run
        write_whole(path, lambda temporary: write(temporary, content))
    return content


def read(path: Path) -> Content:
    """Return the content of a cache file."""
    with safe_open(path, framework="pt") as file:
        texts = json.loads(file.metadata()["meseta"])
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    if not {"train_images", "train_labels"} <= tensors.keys() or not {"classes", "notes"} <= texts.keys():
        raise ValueError("an unknown layout")
    return tensors, texts


def write(path: Path, content: Content) -> None:
    """Write the content to `path`."""
    tensors, texts = content
    save_file({k: t.contiguous() for k, t in tensors.items()}, path, metadata={"meseta": json.dumps(texts)})
