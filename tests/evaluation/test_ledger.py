import pytest
import torch
from torch import nn

from meseta.errors import UserError
from meseta.evaluation.ledger import Ledger, digest, fingerprint


def test_it_gives_back_what_was_put_and_nothing_else(tmp_path):
    ledger = Ledger(tmp_path / "kept")
    assert ledger.get("a") is None
    ledger.put("a", "one")
    ledger.put("a", "two")
    assert Ledger(tmp_path / "kept").get("a") == "two"
    assert ledger.get("b") is None
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["a.json"]


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ledger(None).put("a", "one")
    assert Ledger(None).get("a") is None
    assert not list(tmp_path.iterdir())


def test_a_digest_sees_values_shapes_types_and_order():
    x = torch.arange(6.0)
    same = digest("a", x)
    assert same == digest("a", x.clone())
    others = [("b", x), ("a", x + 1e-6), ("a", x.view(2, 3)), ("a", x.double()), ("a", x.int()), (x, "a"), ("a",)]
    assert len({same, *(digest(*parts) for parts in others)}) == 1 + len(others)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.int64, torch.float64])
def test_tensors_of_every_type_have_one(dtype):
    assert digest(torch.ones(3).to(dtype)) != digest(torch.zeros(3).to(dtype))
    assert digest(torch.tensor(1).to(dtype)) != digest(torch.tensor(0).to(dtype))


def test_a_fingerprint_sees_every_weight_buffer_and_layer():
    def made():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))

    one = fingerprint(made())
    assert one == fingerprint(made())
    weight, buffer, layer = made(), made(), made()
    weight[3].bias.data[1] += 1e-6
    buffer[1].running_mean[0] += 1e-6
    layer[2] = nn.SiLU()
    others = [fingerprint(model) for model in (weight, buffer, layer)]
    assert len({one, *others}) == 4
    hooked = made()
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match="cannot tell the model by its `0"):
        fingerprint(hooked)


def test_a_fingerprint_sees_plain_attributes_and_buffers_that_are_not_saved():
    class Rounded(nn.Module):
        def __init__(self, levels, offset):
            super().__init__()
            self.levels = levels
            self.register_buffer("offset", torch.tensor(offset), persistent=False)

    settings = [(8, 0.0), (9, 0.0), (8, 0.1)]
    assert len({fingerprint(Rounded(*each)) for each in settings}) == 3
    assert fingerprint(Rounded(8, 0.0)) == fingerprint(Rounded(8, 0.0))


def test_a_function_has_no_weights_to_tell_it_by():
    with pytest.raises(UserError, match="`keep` needs an nn"):
        fingerprint(lambda x: x)


def test_functions_are_told_by_what_they_do():
    def holding(function):
        module = nn.Linear(2, 2)
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)
        module.act = function
        return fingerprint(module)

    assert holding(torch.relu) == holding(torch.relu) != holding(torch.tanh)
    assert holding(lambda x: x + 1) != holding(lambda x: x + 2)
    scale = 2
    with pytest.raises(UserError, match="cannot tell the model by its `act`"):  # what it holds may change
        holding(lambda x: scale * x)
