"""A training that was killed goes on to bitwise the same weights, and to the same figures."""

import os
import random
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from meseta.attacks import FGSM
from meseta.configuration import dump
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.files import locked
from meseta.models import Mlp
from meseta.objectives import AdversarialTraining
from meseta.schedules import Cosine
from meseta.training import RunConfig, Watch, train
from meseta.training.checkpoint import LAST, Checkpoint


def config(tmp_path, name, **settings):
    """Four epochs of seven steps, with random starts, augmentation, momentum and a schedule; kept after every step."""
    return RunConfig(
        **{
            "out": str(tmp_path),
            "name": name,
            "data": DataConfig(train_limit=220, test_limit=20),
            "augment": "crop",
            "model": Mlp(hidden=(20,), norm="batch"),
            "objective": AdversarialTraining(attack=FGSM(random_start=True)),
            "schedule": Cosine(),
            "epochs": 4,
            "batch_size": 32,
            "checkpoint_seconds": 0.0,
            "watch": Watch(n=20, attacks=(FGSM(),)),
            **settings,
        }
    )


def killed(work, *, after=None):
    """Do the work in another process, which dies by SIGKILL; by itself, or after so many seconds."""
    child = os.fork()
    if child == 0:
        try:  # whatever happens in the child ends there
            if after is not None:
                threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def outcome(folder):
    """All that must not depend on interruptions."""
    training = read_record(folder).training
    weights = load_file(folder / "model.safetensors")
    return weights, training.history, training.metrics, training.steps, (folder / "metrics.csv").read_text()


def assert_same(found, expected):
    weights, *figures = found
    assert weights.keys() == expected[0].keys()
    assert all(torch.equal(weights[name], expected[0][name]) for name in weights)
    assert figures == list(expected[1:])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The outcome of a training that nothing interrupts, and the seconds that it takes."""
    tmp_path = tmp_path_factory.mktemp("whole")
    began = time.perf_counter()
    folder = train(config(tmp_path, "run"))
    return outcome(folder), time.perf_counter() - began


@pytest.mark.parametrize("step", [1, 6, 7, 13, 27], ids=lambda step: f"step {step}")
def test_killed_in_a_step(tmp_path, step, uninterrupted, monkeypatch):
    """Just after the first step, at both sides of the end of an epoch, inside one, and in the very last step."""
    run = config(tmp_path, "run")
    steps = iter(range(100))

    def evaluate(self, model, x, y, generator, whole=AdversarialTraining.evaluate):
        if torch.is_grad_enabled() and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, model, x, y, generator)

    with monkeypatch.context() as patched:
        patched.setattr(AdversarialTraining, "evaluate", evaluate)
        killed(lambda: train(run))
    assert not (tmp_path / "run" / "record.json").exists()
    said = []
    assert_same(outcome(train(run, say=said.append)), uninterrupted[0])
    assert said == [f"going on with {tmp_path / 'run'}"]
    assert read_record(tmp_path / "run").training.resumed == [step]


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_time_again_and_again(tmp_path, seed, uninterrupted):
    expected, seconds = uninterrupted
    run, draw = config(tmp_path, "run"), random.Random(seed)

    def go_on():
        if not (tmp_path / "run" / "record.json").exists():
            train(run)

    for _ in range(2):
        killed(lambda: (go_on(), time.sleep(60)), after=draw.uniform(0.02, 0.9 * seconds))
    go_on()
    assert_same(outcome(tmp_path / "run"), expected)


def test_killed_while_a_checkpoint_is_written(tmp_path, uninterrupted, monkeypatch):
    """Half a file is never taken for a whole one."""
    run = config(tmp_path, "run")
    writes = iter(range(100))

    def write(self, trainer, whole=Checkpoint._write):
        if next(writes) == 9:
            half = (tmp_path / "run" / LAST).read_bytes()[:5000]
            (tmp_path / "run" / LAST).with_suffix(".unfinished").write_bytes(half)
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "_write", write)
        killed(lambda: train(run))
    assert (tmp_path / "run" / LAST).with_suffix(".unfinished").exists()
    assert_same(outcome(train(run)), uninterrupted[0])
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == [LAST.name]


def test_an_interrupt_from_the_keyboard_is_one_and_the_training_goes_on(tmp_path, uninterrupted, monkeypatch):
    run = config(tmp_path, "run")

    def interrupt(self, trainer, whole=Checkpoint._write):
        whole(self, trainer)
        if self.step == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    assert_same(outcome(train(run)), uninterrupted[0])


def test_another_configuration_does_not_go_on(tmp_path):
    run = config(tmp_path, "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump(run))
    with pytest.raises(UserError, match="another configuration"):
        train(replace(run, batch_size=16))


def test_a_damaged_checkpoint_is_named(tmp_path):
    run = config(tmp_path, "run", epochs=1)
    folder = train(run)
    (folder / "record.json").unlink()
    (folder / LAST).write_bytes(b"PK\x03\x04 half a checkpoint")
    with pytest.raises(UserError, match=r"last\.ckpt.*Remove"):
        train(run)
    assert (folder / LAST).exists()


def test_two_processes_do_not_train_one_run(tmp_path):
    with locked(tmp_path / "run", "is held by the test"), pytest.raises(UserError, match="being trained"):
        train(config(tmp_path, "run"))
