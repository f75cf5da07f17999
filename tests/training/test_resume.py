"""A training that was killed goes on to bitwise the same weights, and to the same figures."""

import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from meseta.attacks import FGSM
from meseta.configuration import dump
from meseta.data import DataConfig
from meseta.errors import Diverged, UserError
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

    def write(self, content, whole=Path.write_bytes):
        if next(writes) == 9:
            whole(self, content[:5000])
            os.kill(os.getpid(), signal.SIGKILL)
        whole(self, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", write)
        killed(lambda: train(run))
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert len(kept) == 2
    assert kept[1] == LAST.name
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


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_other_precisions_go_on_bitwise_too(tmp_path, precision):
    """Compared in the checkpoints, since saved weights are rounded to float32."""
    whole, dead = (config(tmp_path, name, precision=precision, epochs=3) for name in ("whole", "dead"))
    expected = torch.load(train(whole) / LAST, weights_only=True)["state_dict"]
    seen = []

    def interrupt(self, trainer, write=Checkpoint._write):
        write(self, trainer)
        if self.step == 10:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "_write", interrupt)
        killed(lambda: train(dead))
    found = torch.load(train(dead, say=seen.append) / LAST, weights_only=True)["state_dict"]
    assert seen
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("there", [".git", ".env", "notes.txt"])
def test_what_others_put_into_a_folder_is_left_alone(tmp_path, there):
    foreign = tmp_path / "run" / there
    foreign.mkdir(parents=True)
    with pytest.raises(UserError, match="already holds a run"):
        train(config(tmp_path, "run", epochs=1))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [there]


def test_what_an_interruption_left_half_written_is_removed(tmp_path):
    run = config(tmp_path, "run", epochs=1)
    folder = train(run)
    (folder / "record.json").unlink()
    left = [
        folder / f".{name}.ab12cd_9{suffix}" for name, suffix in (("metrics.csv", ".csv"), ("record.json", ".json"))
    ]
    for file in (*left, folder / ".mine.json"):
        file.write_text("half")
    train(run)
    assert not any(file.exists() for file in left)
    assert (folder / ".mine.json").exists()


def test_a_diverged_training_goes_on_with_another_answer(tmp_path, monkeypatch):
    run = config(tmp_path, "run", epochs=2)

    def spoil(self, model, x, y, generator, whole=AdversarialTraining.evaluate):
        value = whole(self, model, x, y, generator)
        spoilt = torch.is_grad_enabled() and next(steps) == 9
        return replace(value, total=value.total * torch.inf) if spoilt else value

    monkeypatch.setattr(AdversarialTraining, "evaluate", spoil)
    steps = iter(range(100))
    with pytest.raises(Diverged, match="after 9 steps"):
        train(run)
    steps = iter(range(9, 100))
    folder = train(replace(run, divergence="skip"))
    assert [one.step for one in read_record(folder).training.left_out] == [9]
    with pytest.raises(UserError, match="already holds a run"):
        train(run)
