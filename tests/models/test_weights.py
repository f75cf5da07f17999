import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from meseta.errors import UserError
from meseta.models import load_weights

WEIGHTS = {
    "0.weight": torch.arange(12.0).reshape(3, 4),
    "0.bias": torch.zeros(3),
    "1.weight": torch.ones(3),
    "1.bias": torch.ones(3),
    "1.running_mean": torch.zeros(3),
    "1.running_var": torch.ones(3),
    "1.num_batches_tracked": torch.tensor(7),
    "2.weight": torch.ones(2, 3),
    "2.bias": torch.ones(2),
}


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def under(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in WEIGHTS.items()}


def loaded(content: object, path: Path, ignore: tuple[str, ...] = ()) -> nn.Module:
    torch.save(content, path)
    filled = model()
    load_weights(filled, path, ignore=ignore)
    return filled


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module.1.", "1."])
@pytest.mark.parametrize("container", [None, "state_dict", "model_state_dict", "model", "net"])
def test_prefixes_and_containers(tmp_path: Path, prefix: str, container: str | None) -> None:
    content = under(prefix) if container is None else {container: under(prefix), "epoch": 3, "lr": [0.1]}
    filled = loaded(content, tmp_path / "w.pt").state_dict()
    assert filled.keys() == WEIGHTS.keys()
    assert all(torch.equal(filled[name], tensor) for name, tensor in WEIGHTS.items())


def test_safetensors_and_files_of_the_old_format(tmp_path: Path) -> None:
    save_file(under("module."), tmp_path / "w.safetensors")
    torch.save(WEIGHTS, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    for name in ("w.safetensors", "w.pth"):
        filled = model()
        load_weights(filled, tmp_path / name)
        assert torch.equal(filled.state_dict()["0.weight"], WEIGHTS["0.weight"])


def test_device_and_precision_stay_the_models(tmp_path: Path) -> None:
    torch.save({name: t.half() if t.is_floating_point() else t for name, t in WEIGHTS.items()}, tmp_path / "w.pt")
    filled = model().double()
    load_weights(filled, tmp_path / "w.pt")
    assert filled.state_dict()["0.weight"].dtype == torch.float64
    assert torch.equal(filled.state_dict()["0.weight"], WEIGHTS["0.weight"].double())


def test_older_files_count_no_batches(tmp_path: Path) -> None:
    older = {name: tensor for name, tensor in WEIGHTS.items() if "num_batches" not in name}
    assert loaded(older, tmp_path / "w.pt").state_dict()["1.num_batches_tracked"] == 0


def test_what_the_model_has_itself_is_left_out_only_where_it_is_named(tmp_path: Path) -> None:
    content = under("module.1.") | {"module.0.mean": torch.zeros(4)}
    with pytest.raises(UserError, match=r"module\.0\.mean unexpected.*`ignore`"):
        loaded(content, tmp_path / "w.pt")
    assert torch.equal(loaded(content, tmp_path / "w.pt", ("module.0.",)).state_dict()["2.bias"], torch.ones(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"2.bias": None}, "2.bias missing"),
        ({"2.bias": torch.ones(3)}, "2.bias of another shape"),
        ({"2.bias": torch.ones(2, dtype=torch.int64)}, "2.bias of another type"),
        ({"2.bias": torch.tensor([1.0, float("inf")])}, "NaN or infinite values in 2.bias"),
        ({"3.bias": torch.ones(2)}, "3.bias unexpected"),
        ({"2.bias": [1.0]}, "2.bias beside tensors"),
    ],
)
def test_misfits_are_named_and_leave_the_model_as_it_was(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    torch.save({k: v for k, v in (WEIGHTS | changes).items() if v is not None}, tmp_path / "w.pt")
    filled = model()
    before = {name: tensor.clone() for name, tensor in filled.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(filled, tmp_path / "w.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in filled.state_dict().items())


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickle_that_holds_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.pt").write_bytes(pickle.dumps(Bomb()))
    if not whole:
        torch.save(WEIGHTS | {"hook": Bomb()}, "w.pt")
    with pytest.raises(UserError, match=r"can run code .* safetensors.torch.save_file"):
        load_weights(model(), "w.pt")
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "damaged"), (b"PK\x03\x04" * 9, "damaged"), (b"not weights", "damaged")]
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_weights(model(), tmp_path / "w.pt")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_weights(model(), tmp_path / "none.pt")
    with pytest.raises(UserError, match="is no regular file"):
        load_weights(model(), tmp_path)
    with pytest.raises(UserError, match="a list, no state dict"):
        loaded([1], tmp_path / "w.pt")
