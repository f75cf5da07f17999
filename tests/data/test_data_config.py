import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from meseta.data import KNOWN, DataConfig
from meseta.data.cache import cache_folder
from meseta.data.sources import split_digits
from meseta.errors import MissingExtra, UserError

SHELF = Path(os.environ.get("MESETA_DATA") or "nowhere")
Write = Callable[..., Path]
Pixels = Callable[..., Any]


def test_digits() -> None:
    from sklearn.datasets import load_digits

    data = DataConfig().load()
    assert (data.input_shape, data.num_classes) == ((1, 8, 8), 10)
    assert (len(data.train), len(data.val), len(data.test)) == (1365, 72, 360)
    assert data.test.labels.bincount().min() >= 34  # stratified
    ours = torch.cat([s.images for s in (data.train, data.val, data.test)]).flatten(1)
    theirs = torch.from_numpy(np.round(load_digits().data * 255 / 16)).to(torch.uint8)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert torch.equal(DataConfig(seed=1).load().test.images, data.test.images)


def test_validation_is_seeded_and_disjoint() -> None:
    images = torch.arange(200, dtype=torch.uint8)[:, None].expand(-1, 3)
    first, again, other = (hold_out_of(images, seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    for train, val in (first, other):
        assert len(val) == 20
        assert sorted(train + val) == list(range(200))


def hold_out_of(images: torch.Tensor, seed: int) -> tuple[list[int], list[int]]:
    from meseta.data import from_tensors

    pair = (images, torch.arange(200) % 2)
    data = from_tensors("t", train=pair, test=pair, val_fraction=0.1, seed=seed)
    return data.train.images[:, 0].tolist(), data.val.images[:, 0].tolist()


def test_binary_relabelling() -> None:
    everything, data = DataConfig().load(), DataConfig(classes=(7, 1)).load()
    assert data.classes == ("7", "1")
    assert data.describe().split(", classes ")[1].startswith("7 against 1")
    for old, new in ((7, 0), (1, 1)):
        expected = everything.test.images[everything.test.labels == old]
        assert torch.equal(data.test.images[data.test.labels == new], expected)
    assert set(data.train.labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": (1, 1)}, r"`classes` must name each class once, got \(1, 1\)"),
        ({"classes": (1,)}, "`classes` must name two classes or more"),
        ({"val_fraction": 1.5}, "`val_fraction` must lie between 0 and 1, got 1.5"),
        ({"train_limit": 0}, "`train_limit` must be a whole number, at least 1"),
        ({"test_limit": -1}, "`test_limit` must be a whole number, at least 1"),
        ({"image_size": 0}, "`image_size` must be a whole number, at least 1"),
    ],
)
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataConfig(**options)


def test_absent_class() -> None:
    with pytest.raises(UserError, match=r"`classes`: digits has no class 12, 99\. Known: 0 to 9"):
        DataConfig(classes=(1, 12, 99)).load()


def test_limits_take_the_first_of_one_order() -> None:
    small, large = DataConfig(train_limit=10, test_limit=20).load(), DataConfig(train_limit=30, test_limit=40).load()
    assert (len(small.train), len(small.test)) == (10, 20)
    assert torch.equal(small.test.images, large.test.images[:20])
    assert "at most 20 test examples" in small.describe()
    assert len(DataConfig(train_limit=10**6).load().train) == 1365


@pytest.mark.parametrize("setting", [{"image_size": 9}, {"label_column": "label"}])
def test_settings_that_digits_have_no_use_for(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="does not apply to digits"):
        DataConfig(**setting).load()


def test_unknown_source() -> None:
    with pytest.raises(UserError, match=r"`source`: 'mnist' is no file or folder here, and no hub id.*ylecun/mnist"):
        DataConfig(source="mnist").load()
    assert all(name in KNOWN for name in ("digits", "ylecun/mnist"))


def test_unreachable_hub(tmp_path: Path) -> None:
    code = "from meseta.data import DataConfig\nDataConfig(source='some-one/some-set').load()"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "MESETA_DATA": "/shelf"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert "UserError: `source`: 'some-one/some-set' is no folder here or below $MESETA_DATA (/shelf)" in last
    assert "Check the name and the network, set MESETA_DATA" in last


def test_import_needs_torch_and_safetensors_alone() -> None:
    code = "import sys, meseta.data; print(sorted({'datasets', 'sklearn', 'PIL', 'pandas'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("package", "source"), [("sklearn.datasets", "digits"), ("datasets", "some-one/some-set")])
def test_missing_extra(package: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    split_digits.cache_clear()
    with pytest.raises(MissingExtra, match=r"meseta\[data\]"):
        DataConfig(source=source).load()


# hub layout


def test_pixels_and_labels_are_exact(hub_folder: Write, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = pixels(40, 5, 6, 3), pixels(4, 5, 6, 3, seed=1)
    labels = [i % 3 for i in range(40)]
    folder = hub_folder({"train": (train, labels), "test": (test, [2, 0, 1, 2])}, image="img")
    monkeypatch.setenv("MESETA_DATA", str(folder.parents[1]))
    by_id, by_path = DataConfig(source="some/set").load(), DataConfig(source=str(folder)).load()
    for data in (by_id, by_path):
        assert data.classes == ("zero", "one", "two")
        assert np.array_equal(data.test.images.permute(0, 2, 3, 1).numpy(), test)
        assert data.test.labels.tolist() == [2, 0, 1, 2]
        assert (len(data.train), len(data.val)) == (38, 2)
    assert by_id.name == "some/set"


def test_validation_split_of_the_source_is_kept(hub_folder: Write, pixels: Pixels) -> None:
    images, labels = pixels(6, 4, 4), [0, 1, 2, 0, 1, 2]
    folder = hub_folder(dict.fromkeys(("train", "validation", "test"), (images, labels)))
    data = DataConfig(source=str(folder)).load()
    assert (len(data.train), len(data.val)) == (6, 6)
    assert "validation is" not in data.describe()


def test_integer_labels_are_numbered(hub_folder: Write, pixels: Pixels) -> None:
    import datasets

    pair = (pixels(6, 4, 4), [0, 1, 3, 0, 1, 3])
    folder = hub_folder({"train": pair, "test": pair}, label="digit", feature=datasets.Value("int64"))
    assert DataConfig(source=str(folder)).load().classes == ("0", "1", "2", "3")


def test_several_label_columns(hub_folder: Write, pixels: Pixels) -> None:
    import datasets

    kind = datasets.ClassLabel(names=["a", "b", "c"])
    pair = (pixels(6, 4, 4), [0, 1, 2, 0, 1, 2])
    folder = str(hub_folder({"train": pair, "test": pair}, label="fine_label", coarse_label=kind))
    with pytest.raises(UserError, match=r"columns that could hold labels .* Set label_column"):
        DataConfig(source=folder).load()
    assert DataConfig(source=folder, label_column="coarse_label").load().classes == ("a", "b", "c")
    with pytest.raises(UserError, match=r"`label_column`: .* has no column 'colour'\. Known: image"):
        DataConfig(source=folder, label_column="colour").load()


def test_label_column_of_words(hub_folder: Write, pixels: Pixels) -> None:
    import datasets

    pair = (pixels(2, 4, 4), ["a", "b"])
    folder = str(hub_folder({"train": pair, "test": pair}, feature=datasets.Value("string")))
    with pytest.raises(UserError, match="0 columns that could hold labels"):
        DataConfig(source=folder).load()
    with pytest.raises(UserError, match="labels that are no whole numbers"):
        DataConfig(source=folder, label_column="label").load()


def test_unlabelled_rows(hub_folder: Write, pixels: Pixels) -> None:
    import datasets

    pair = (pixels(3, 4, 4), [0, 1, -1])
    folder = hub_folder({"train": pair, "test": pair}, feature=datasets.Value("int64"))
    with pytest.raises(UserError, match="train has no label in row 2"):
        DataConfig(source=str(folder)).load()


def test_no_images(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"label": [0, 1], "text": ["a", "b"]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserError, match="0 columns of images among label, text"):
        DataConfig(source=str(tmp_path)).load()


def test_several_configurations(hub_folder: Write, pixels: Pixels) -> None:
    pair = (pixels(3, 4, 4), [0, 1, 2])
    folder = hub_folder({"train": pair})
    (folder / "other").mkdir()
    data = (folder / "plain" / "train-00000-of-00001.parquet").read_bytes()
    (folder / "other" / "train.parquet").write_bytes(data)
    with pytest.raises(UserError, match=r"holds several configurations \(other, plain\)"):
        DataConfig(source=str(folder)).load()
    assert len(DataConfig(source=str(folder / "other"), val_fraction=0.3).load().classes) == 3


def test_parquet_without_training_files(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no train\*\.parquet, but data\.parquet"):
        DataConfig(source=str(tmp_path)).load()


def test_damaged_parquet(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        DataConfig(source=str(tmp_path)).load()


def test_scripts_in_a_folder_are_not_run(hub_folder: Write, pixels: Pixels) -> None:
    pair = (pixels(8, 4, 4), [0, 1, 2, 0, 1, 2, 0, 1])
    folder = hub_folder({"train": pair, "test": pair})
    (folder / "set.py").write_text("raise SystemExit('a script was run')")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: x\n  data_files: '*.pkl'\n---\n")
    assert len(DataConfig(source=str(folder)).load().test) == 8


@pytest.fixture
def shelf(hub_folder: Write, pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real MNIST where it is at hand, a small stand-in elsewhere, as $MESETA_DATA."""
    root = SHELF
    if not (root / "ylecun" / "mnist").is_dir():
        labels = [i % 10 for i in range(200)]
        import datasets

        kind = datasets.ClassLabel(names=list("0123456789"))
        splits = {"train": (pixels(200, 28, 28), labels), "test": (pixels(200, 28, 28, seed=1), labels)}
        root = hub_folder(splits, name="ylecun/mnist", feature=kind).parents[1]
    monkeypatch.setenv("MESETA_DATA", str(root))
    return root


def test_mnist_against_its_files(shelf: Path) -> None:
    import pyarrow.parquet as pq
    from PIL import Image

    (file,) = shelf.glob("ylecun/mnist/*/test-*.parquet")
    rows = [row for row in pq.read_table(file).to_pylist() if row["label"] in (1, 7)]
    data = DataConfig(source="ylecun/mnist", classes=(1, 7)).load()
    assert data.test.labels.tolist() == [(1, 7).index(row["label"]) for row in rows]
    for row, image in zip(rows, data.test.images, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))), image[0].numpy())
    assert len(data.val) == round(0.05 * (len(data.train) + len(data.val)))
    assert data.classes == ("1", "7")


# the hub itself, with the library's own loader behind it


def test_hub_data_set(hub_folder: Write, pixels: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    images, labels = pixels(8, 4, 4), [0, 1, 2, 0, 1, 2, 0, 1]
    folder = hub_folder({"train": (images, labels), "test": (images, labels)})
    builder = datasets.load_dataset_builder(str(folder), cache_dir=str(tmp_path / "hub"))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda _: builder)
    data = DataConfig(source="some-one/some-set").load()
    assert np.array_equal(data.test.images[:, 0].numpy(), images)
    monkeypatch.setattr(datasets, "load_dataset_builder", None)
    assert DataConfig(source="some-one/some-set").load().test.labels.tolist() == labels


def test_hub_data_set_of_pickles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    from datasets.packaged_modules.pandas.pandas import Pandas

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda _: object.__new__(Pandas))
    with pytest.raises(UserError, match=r"some-one/some-set is stored as pandas\. Only arrow, csv"):
        DataConfig(source="some-one/some-set").load()


# cache


def test_second_load_needs_neither_datasets_nor_pillow(hub_folder: Write, pixels: Pixels) -> None:
    pair = (pixels(8, 4, 4), [0, 1, 2, 0, 1, 2, 0, 1])
    folder = hub_folder({"train": pair, "test": pair})
    first = DataConfig(source=str(folder)).load()
    code = (
        "import sys; from meseta.data import DataConfig;"
        f"data = DataConfig(source={str(folder)!r}).load();"
        "print(data.test.images.sum().item(), {'datasets', 'PIL'} & set(sys.modules) or 'none')"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [str(first.test.images.sum().item()), "none"]


def test_changed_folder_is_decoded_again(hub_folder: Write, pixels: Pixels) -> None:
    labels = [0, 1, 2, 0, 1, 2, 0, 1]
    folder = hub_folder({"train": (pixels(8, 4, 4), labels), "test": (pixels(8, 4, 4), labels)})
    DataConfig(source=str(folder)).load()
    new = pixels(8, 4, 4, seed=5)
    hub_folder({"test": (new, labels)})
    assert np.array_equal(DataConfig(source=str(folder)).load().test.images[:, 0].numpy(), new)


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_damaged_cache_is_decoded_again(image_folder: Write, cache: Path, damage: bytes | None) -> None:
    folder = str(image_folder("train", "test"))
    first = DataConfig(source=folder).load()
    (file,) = cache.iterdir()
    if damage is None:
        save_file({"other": torch.zeros(1)}, file, metadata={"meseta": "{}"})
    else:
        file.write_bytes(damage)
    assert torch.equal(DataConfig(source=folder).load().train.images, first.train.images)
    assert len(list(cache.iterdir())) == 1
    assert file.stat().st_size > 300


def test_cache_that_cannot_be_written(image_folder: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MESETA_CACHE", str(tmp_path / "file"))
    assert len(DataConfig(source=str(image_folder("train", "test"))).load().test) == 10


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MESETA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MESETA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/meseta")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "meseta"


# image folders


def test_image_folder(image_folder: Write, pixels: Pixels) -> None:
    data = DataConfig(source=str(image_folder("train", "val", "test"))).load()
    assert data.classes == ("cat", "dog")
    assert data.input_shape == (1, 6, 7)  # grey stays one channel
    assert (len(data.train), len(data.val), len(data.test)) == (10, 10, 10)
    expected = np.concatenate([pixels(5, 6, 7, seed=0), pixels(5, 6, 7, seed=1)])
    assert np.array_equal(data.test.images[:, 0].numpy(), expected)
    assert data.test.labels.tolist() == [0] * 5 + [1] * 5


def test_image_folder_without_test(image_folder: Write) -> None:
    data = DataConfig(source=str(image_folder("train", n=50))).load()
    assert (len(data.train), len(data.val), len(data.test)) == (76, 4, 20)
    assert "no test split, so 0.2 of the training set is, drawn with seed 0" in data.describe()


def test_one_coloured_image_makes_all_coloured(image_folder: Write, pixels: Pixels) -> None:
    from PIL import Image

    folder = image_folder("train", "test")
    Image.fromarray(pixels(1, 6, 7, 3)[0]).save(folder / "train" / "cat" / "x.png")
    data = DataConfig(source=str(folder)).load()
    assert data.input_shape == (3, 6, 7)
    assert torch.equal(data.test.images[:, 0], data.test.images[:, 2])


def test_mixed_sizes_need_image_size(image_folder: Write, pixels: Pixels) -> None:
    from PIL import Image

    folder = image_folder("train", "test")
    Image.fromarray(pixels(1, 9, 9)[0]).save(folder / "train" / "cat" / "x.png")
    with pytest.raises(UserError, match=r"x\.png has 9×9 pixels, but .*0\.png has 6×7\. Set image_size"):
        DataConfig(source=str(folder)).load()
    data = DataConfig(source=str(folder), image_size=5).load()
    assert data.input_shape == (1, 5, 5)
    assert "resized to 5×5" in data.describe()


def test_damaged_image_is_named(image_folder: Write) -> None:
    folder = image_folder("train", "test")
    file = folder / "test" / "dog" / "3.png"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"test/dog/3\.png cannot be decoded"):
        DataConfig(source=str(folder)).load()


def test_sixteen_bits_are_refused(image_folder: Write) -> None:
    from PIL import Image

    folder = image_folder("train", "test")
    Image.fromarray(np.zeros((6, 7), dtype=np.uint16)).save(folder / "train" / "cat" / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png has the pixel mode I;16\. Convert it"):
        DataConfig(source=str(folder)).load()


def test_image_folders_that_are_laid_out_wrongly(image_folder: Write, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither Parquet files nor a folder train/"):
        DataConfig(source=str(tmp_path / "empty")).load()
    folder = image_folder("train", "test")
    (folder / "test" / "bird").mkdir()
    with pytest.raises(UserError, match="has the classes bird, which train/ does not have"):
        DataConfig(source=str(folder)).load()
    (folder / "train" / "bird").mkdir()
    with pytest.raises(UserError, match="bird holds no images"):
        DataConfig(source=str(folder)).load()


def test_one_class_is_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match="has 1 class folders"):
        DataConfig(source=str(tmp_path)).load()


# safetensors files


def tensors(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    content = {
        "train_images": torch.rand(20, 3, 4, 4),
        "train_labels": torch.arange(20) % 2,
        "test_images": torch.rand(6, 3, 4, 4),
        "test_labels": torch.arange(6) % 2,
    }
    return {name: tensor for name, tensor in (content | changes).items() if tensor is not None}


def test_tensor_file(tmp_path: Path) -> None:
    content = tensors(val_images=torch.rand(5, 3, 4, 4), val_labels=torch.zeros(5, dtype=torch.int32))
    save_file(content, tmp_path / "own.safetensors")
    data = DataConfig(source=str(tmp_path / "own.safetensors")).load()
    assert torch.equal(data.test.images, content["test_images"])
    assert (len(data.train), len(data.val), data.classes) == (20, 5, ("0", "1"))


def test_tensor_file_without_test(tmp_path: Path) -> None:
    save_file(tensors(test_images=None, test_labels=None), tmp_path / "own.safetensors")
    assert len(DataConfig(source=str(tmp_path / "own.safetensors")).load().test) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": torch.full((20, 3, 4, 4), float("nan"))}, "train: `images` must be finite"),
        ({"test_images": torch.full((6, 3, 4, 4), 2.0)}, "test: `images` must lie in"),
        ({"test_images": torch.rand(6, 3, 4, 5)}, r"`test`: .* has images of \(3, 4, 5\) there"),
        ({"test_labels": torch.arange(5)}, r"test: `labels` must have the shape \(6,\)"),
        ({"train_labels": torch.arange(20) - 1}, "train: `labels` must not be negative"),
        ({"train_labels": None}, r"It needs train_images, train_labels and, as pairs"),
        ({"train_images": None, "train_labels": None}, "It needs train_images"),
        ({"test_label": torch.arange(6)}, r"unknown name 'test_label'\. Did you mean 'test_labels'\?"),
    ],
)
def test_wrong_tensor_files(changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path) -> None:
    save_file(tensors(**changes), tmp_path / "own.safetensors")
    with pytest.raises(UserError, match=message):
        DataConfig(source=str(tmp_path / "own.safetensors")).load()


def test_tensor_file_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        DataConfig(source=str(tmp_path / "own.safetensors")).load()
    (tmp_path / "own.safetensors").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="is damaged or no safetensors file"):
        DataConfig(source=str(tmp_path / "own.safetensors")).load()
