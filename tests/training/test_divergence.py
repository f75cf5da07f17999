"""A loss, a gradient or a weight that is not finite: named, left out, or met with lower weights; and told."""

from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file

from meseta.data import DataConfig
from meseta.errors import Diverged, UserError
from meseta.evaluation.record import read_record
from meseta.models import Mlp
from meseta.objectives import AdversarialTraining, Cure, Erm, InputGradient, Scheduled, Sum
from meseta.objectives.base import Penalty, Regularizer
from meseta.objectives.weights import has_weight, with_weights
from meseta.training import RunConfig, Sgd, train
from meseta.training.checkpoint import LAST

STEPS = 6
"""Steps of an epoch."""


def config(tmp_path, objective, **settings):
    return RunConfig(
        **{
            "out": str(tmp_path),
            "name": "run",
            "data": DataConfig(train_limit=150, test_limit=10),
            "model": Mlp(hidden=(10,), norm="batch"),
            "objective": objective,
            "optimizer": Sgd(lr=0.01),
            "epochs": 2,
            "batch_size": 25,
            **settings,
        }
    )


@dataclass(frozen=True, kw_only=True)
class Spoiled(Regularizer):
    """A penalty that is not finite in some calls, or whose gradient is not."""

    weight: float = 1.0
    calls: tuple[int, ...] = ()
    gradient: bool = False
    above: float = 0.0
    """Only while the weight is above this."""

    def penalize(self, model, x, y, generator):
        logits = model(x)
        COUNT[0] += 1
        value = logits.square().sum(1)
        if COUNT[0] - 1 in self.calls and self.weight > self.above:
            zero = (logits - logits.detach()).sum(1)
            value = zero.abs().sqrt() if self.gradient else value * torch.inf  # sqrt(0) is fine, its slope is not
        return Penalty(value, None, {"spoiled": value.detach()})


COUNT = [0]


@pytest.fixture(autouse=True)
def _count_from_zero():
    COUNT[0] = 0


def test_a_loss_that_is_not_finite_stops_with_step_term_and_checkpoint(tmp_path):
    with pytest.raises(Diverged) as raised:
        train(config(tmp_path, Spoiled(calls=(8,))))
    said = str(raised.value)
    assert "diverged at step 8: the loss is not finite (terms that are not: spoiled)" in said
    assert f"The last good checkpoint is {tmp_path / 'run' / LAST}, after {STEPS} steps." in said
    kept = torch.load(tmp_path / "run" / LAST, weights_only=True)
    assert kept["global_step"] == STEPS
    assert all(tensor.isfinite().all() for tensor in kept["state_dict"].values())
    assert not (tmp_path / "run" / "record.json").exists()


def test_a_gradient_that_is_not_finite_stops_with_the_parameter(tmp_path):
    with pytest.raises(Diverged, match=r"step 2: the gradient of \S+weight is not finite.*No checkpoint was kept yet"):
        train(config(tmp_path, Spoiled(calls=(2,), gradient=True)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("last", [False, True], ids=["in between", "in the last step"])
def test_weights_that_overflow_stop_even_in_the_last_step(tmp_path, last):
    huge = Sgd(lr=3e38, momentum=0.0)
    settings = {"optimizer": huge, "data": DataConfig(train_limit=26, test_limit=10), "batch_size": 25, "epochs": 1}
    with pytest.raises(Diverged, match=r"the weight of \S+ is not finite after the update"):
        train(config(tmp_path, InputGradient(weight=1e6), divergence="stop" if last else "skip", **settings))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
def test_a_step_may_be_left_out(tmp_path, gradient):
    """The buffers count two forwards, those of penalty and loss, for each step that was taken."""
    folder = train(config(tmp_path, Spoiled(calls=(3, 7), gradient=gradient), divergence="skip"))
    training = read_record(folder).training
    assert [one.step for one in training.left_out] == [3, 7]
    assert ("gradient" if gradient else "spoiled") in training.left_out[0].why
    assert training.weight_factor == 1
    assert training.steps == 2 * STEPS
    weights = load_file(folder / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert int(next(t for name, t in weights.items() if name.endswith("num_batches_tracked"))) == 2 * (2 * STEPS - 2)


def test_weights_of_penalties_may_be_lowered(tmp_path):
    """Halved at each divergence, until the term that is not finite above a quarter of its weight is."""
    objective = Sum(parts=(Spoiled(weight=1.0, calls=tuple(range(2, 99)), above=0.3), InputGradient(weight=0.8)))
    folder = train(config(tmp_path, objective, divergence="lower"))
    training = read_record(folder).training
    assert [one.step for one in training.left_out] == [2, 3]
    assert training.weight_factor == 0.25


def test_a_training_of_nothing_but_left_out_steps_ends(tmp_path):
    run = config(tmp_path, Spoiled(calls=tuple(range(1000))), divergence="skip", batch_size=2)
    with pytest.raises(Diverged, match=r"100 steps in a row"):
        train(run)


def test_lowering_needs_a_weight(tmp_path):
    with pytest.raises(UserError, match=r"`divergence`: lower .* Erm has none"):
        config(tmp_path, Erm(), divergence="lower")
    with pytest.raises(UserError, match=r"`divergence` must be stop, skip or lower"):
        config(tmp_path, Erm(), divergence="ignore")


@pytest.mark.parametrize(
    "objective",
    [
        lambda w: InputGradient(weight=w),
        lambda w: Sum(parts=(InputGradient(weight=w), Cure(weight=2 * w))),
        lambda w: Scheduled(objective=InputGradient(weight=w)),
        lambda w: AdversarialTraining(objective=InputGradient(weight=w)),
    ],
    ids=["itself", "parts", "scheduled", "at adversarial points"],
)
def test_weights_are_found_wherever_they_stand(objective):
    assert has_weight(objective(2.0))
    assert with_weights(objective(2.0), 0.5) == objective(1.0)


def test_adversarial_training_alone_has_none():
    assert not has_weight(AdversarialTraining())
