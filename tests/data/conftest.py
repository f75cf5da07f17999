import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESETA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def pixels() -> Callable[..., NDArray[np.uint8]]:
    def draw(n: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
        return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)

    return draw


@pytest.fixture
def hub_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data set in hub layout: Parquet files of PNGs, with the features in their metadata."""
    import datasets

    def write(splits: dict[str, tuple[Any, list[Any]]], *, name: str = "some/set", **columns: Any) -> Path:
        folder = tmp_path / "shelf" / name / "plain"
        folder.mkdir(parents=True, exist_ok=True)
        image, label = columns.pop("image", "image"), columns.pop("label", "label")
        feature = columns.pop("feature", datasets.ClassLabel(names=["zero", "one", "two"]))
        for split, (images, labels) in splits.items():
            rows: dict[str, list[Any]] = {image: [{"bytes": png(i), "path": None} for i in images], label: labels}
            features = {image: datasets.Image(), label: feature}
            for extra, kind in columns.items():
                rows[extra], features[extra] = labels, kind
            content = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
            content.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return folder.parent

    return write


@pytest.fixture
def image_folder(tmp_path: Path, pixels: Callable[..., NDArray[np.uint8]]) -> Callable[..., Path]:
    """Writes an image folder with the classes cat and dog."""

    def write(*splits: str, n: int = 5, shape: tuple[int, ...] = (6, 7)) -> Path:
        for split in splits:
            for seed, name in enumerate(["cat", "dog"]):
                folder = tmp_path / "pets" / split / name
                folder.mkdir(parents=True)
                for i, image in enumerate(pixels(n, *shape, seed=seed)):
                    (folder / f"{i}.png").write_bytes(png(image))
        return tmp_path / "pets"

    return write
