import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from meseta.errors import MissingExtra, UserError
from meseta.models import Architecture, Cnn4, LeNet5, Mlp, Network, ResNet18, SiluCnn


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = Mlp(hidden=(5, 4)).build((1, 2, 3), 3, mean=[0.5], std=[0.25])
    network.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "architecture",
    [Mlp(hidden=(5, 4)), LeNet5(padding=2, norm="batch"), SiluCnn(), Cnn4(hidden=()), ResNet18(width=4)],
    ids=lambda a: type(a).__name__,
)
def test_reloads_bit_for_bit(architecture: Architecture, dtype: torch.dtype, tmp_path: Path) -> None:
    network = architecture.build((1, 8, 8), 3, mean=[0.3], std=[0.4]).to(dtype)
    x = torch.rand(6, 1, 8, 8, dtype=dtype)
    network(x)  # moves the running statistics of a batch normalisation
    network.save_pretrained(tmp_path)
    again = Network.from_pretrained(tmp_path)
    assert not again.training
    assert again.architecture == architecture
    assert (again.input_shape, again.classes) == ((1, 8, 8), 3)
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in again.parameters())
    assert torch.equal(again(x), network.eval()(x))


def test_config_says_what_it_is(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert config["format"] == 1
    assert config["architecture"] == "Mlp"
    assert config["options"] == {"activation": "relu", "beta": 1.0, "norm": "none", "hidden": [5, 4]}
    assert (config["input_shape"], config["classes"]) == ([1, 2, 3], 3)
    assert load_file(saved / "model.safetensors")["normalize.mean"].tolist() == [[[0.5]]]


def test_loading_takes_no_random_numbers(saved: Path) -> None:
    state = torch.get_rng_state()
    Network.from_pretrained(saved)
    assert torch.equal(torch.get_rng_state(), state)


def test_interrupted_save_leaves_the_old_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def stop(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        Mlp().build((4,), 2).save_pretrained(saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Mlp().build((4,), 2).save_pretrained(tmp_path / "file")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist\. Give a folder that holds model.safetensors"):
        Network.from_pretrained(tmp_path / "none")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"holds no {name}"):
        Network.from_pretrained(saved)


def test_file_instead_of_folder(saved: Path) -> None:
    with pytest.raises(UserError, match=r"is a file\. Give the folder"):
        Network.from_pretrained(saved / "model.safetensors")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_named_and_never_opened(saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match=r"It holds pytorch_model.bin: pickles can run code and are never opened"):
        Network.from_pretrained(saved)


@pytest.mark.parametrize("content", [b"", b"not tensors at all", pickle.dumps(Bomb()), b"\xff" * 100])
def test_damaged_weights(saved: Path, content: bytes) -> None:
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="is damaged or no safetensors file"):
        Network.from_pretrained(saved)


def test_weights_cut_short(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="is damaged or no safetensors file"):
        Network.from_pretrained(saved)


@pytest.mark.parametrize("content", ["", "{", "\x00"])
def test_config_that_is_not_json(saved: Path, content: str) -> None:
    (saved / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not JSON"):
        Network.from_pretrained(saved)


def test_config_that_is_not_text(saved: Path) -> None:
    (saved / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read as text"):
        Network.from_pretrained(saved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2; this meseta reads format 1"),
        ({"architecture": "Mpl"}, r"unknown name 'Mpl'\. Did you mean 'Mlp'\? Known: Cnn4, ConvNetGap, LeNet300100"),
        ({"architecture": "Architecture"}, "unknown name 'Architecture'"),
        ({"architecture": ["Mlp"]}, "unknown name"),
        ({"options": {"depth": 3}}, "does not describe a Mlp: .*depth"),
        ({"options": {"hidden": ["a"]}}, "does not describe a Mlp: `hidden`"),
        ({"options": {"beta": "x"}}, "does not describe a Mlp"),
        ({"options": None}, "lacks its `options`"),
        ({"classes": None}, "does not describe a Mlp: `classes`"),
        ({"input_shape": [10**30]}, "does not describe a Mlp"),
        ({"classes": 4}, "shape. Save both files together"),
        ({"input_shape": [1, 2, 4]}, "body.1.weight of another shape"),
        ({"options": {"hidden": [5]}}, "body.5.bias, body.5.weight unexpected"),
        ({"options": {"hidden": [5, 4, 3, 3]}}, "body.7.bias, body.7.weight, body.9.bias and 1 more missing"),
    ],
)
def test_config_that_does_not_fit(saved: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(saved, **changes)
    with pytest.raises(UserError, match=message):
        Network.from_pretrained(saved)


def test_config_of_another_program(saved: Path) -> None:
    (saved / "config.json").write_text('["bert"]')
    with pytest.raises(UserError, match="has format None"):
        Network.from_pretrained(saved)


def change_weights(folder: Path, **changes: torch.Tensor) -> None:
    save_file(load_file(folder / "model.safetensors") | changes, folder / "model.safetensors")


def test_weights_that_are_not_finite(saved: Path) -> None:
    change_weights(saved, **{"body.1.bias": torch.tensor([0, 0, float("nan"), 0, 0])})
    with pytest.raises(UserError, match=r"NaN or infinite values in body\.1\.bias"):
        Network.from_pretrained(saved)


def test_weights_of_another_type(saved: Path) -> None:
    change_weights(saved, **{"body.1.bias": torch.zeros(5, dtype=torch.int64)})
    with pytest.raises(UserError, match=r"body\.1\.bias of another type"):
        Network.from_pretrained(saved)


def test_weights_of_mixed_precision(saved: Path) -> None:
    change_weights(saved, **{"body.1.bias": torch.zeros(5, dtype=torch.float64)})
    with pytest.raises(UserError, match=r"mixes torch\.float32 and torch\.float64"):
        Network.from_pretrained(saved)


def test_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    code = "from meseta.models import Network\nNetwork.from_pretrained('some-one/some-model')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "UserError: model: 'some-one/some-model' is no folder here and cannot be fetched" in result.stderr


def test_hub_copy_is_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(saved))
    assert Network.from_pretrained("some-one/some-model").classes == 3


def test_hub_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=r"meseta\[data\]"):
        Network.from_pretrained("some-one/some-model")


def test_import_needs_torch_and_safetensors_alone() -> None:
    code = (
        "import sys, meseta.models; print(sorted({'datasets', 'sklearn', 'PIL', 'huggingface_hub'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
