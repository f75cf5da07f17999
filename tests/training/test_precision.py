"""Training in bfloat16 and float64: what runs in it, and what comes out."""

import pytest
import torch
from safetensors.torch import load_file

from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.models import Mlp, Network
from meseta.objectives import InputGradient
from meseta.training import RunConfig, Sgd, train
from meseta.training.checkpoint import LAST


def trained(tmp_path, precision):
    data = DataConfig(train_limit=320, test_limit=50)
    run = RunConfig(
        out=str(tmp_path),
        name=precision,
        data=data,
        model=Mlp(activation="silu"),
        objective=InputGradient(weight=0.01),
        optimizer=Sgd(lr=0.05),
        epochs=4,
        precision=precision,
    )
    return train(run)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_a_run_says_its_precision_learns_and_is_saved_in_float32(precision, tmp_path):
    folder = trained(tmp_path, precision)
    training = read_record(folder).training
    assert training.precision == precision
    assert training.metrics["val/accuracy"] > 0.6
    assert {tensor.dtype for name, tensor in load_file(folder / "model.safetensors").items()} == {torch.float32}
    parameters = torch.load(folder / LAST, weights_only=True)["state_dict"]
    expected = torch.float64 if precision == "float64" else torch.float32
    assert {tensor.dtype for tensor in parameters.values()} == {expected}
    x = torch.rand(2, 1, 8, 8)
    assert Network.from_pretrained(folder)(x).dtype == torch.float32


def test_precisions_differ_by_their_rounding(tmp_path):
    """In bfloat16 by about its resolution, 2^-8, and more than float32 and float64 do."""

    def weights(precision):
        tensors = load_file(trained(tmp_path, precision) / "model.safetensors")
        return torch.cat([tensor.flatten() for tensor in tensors.values()])

    exact, single, half = (weights(precision) for precision in ("float64", "float32", "bfloat16"))
    assert 0 < (single - exact).norm() / exact.norm() < 1e-4
    assert 1e-4 < (half - exact).norm() / exact.norm() < 0.1


def test_another_precision_is_refused():
    with pytest.raises(UserError, match="`precision` must be float32, bfloat16 or float64, got 'float16'"):
        RunConfig(precision="float16")
