"""Two processes train, attack, measure and certify as one does; where one of them dies, nothing is lost."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from two_processes import verbs

from meseta.cli import main
from meseta.comparing import Comparison, compare
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.objectives import Erm
from meseta.processes import Team, another_ended, check_world, join, refused_devices
from meseta.training import RunConfig
from meseta.training.checkpoint import LAST

SCRIPT = Path(__file__).with_name("two_processes.py")


def output(command):
    """Return what a command says, which must end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_two_processes_do_what_one_does(tmp_path):
    """One test, since it takes four processes: those of torchrun, and then those that Lightning starts."""
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    for verb in verbs(str(one.parent), "1"):
        assert main(verb) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    said = output([*torchrun, str(SCRIPT), str(two.parent), "2"])
    assert said.count("masking: ") == 1  # one of them speaks
    check_weights(*(torch.load(run / LAST, weights_only=True)["state_dict"] for run in (one, two)))
    check_training(*(read_record(run).training for run in (one, two)))
    check_sections(one, two)

    before = (two / "record.json").stat().st_mtime_ns
    output([sys.executable, "-m", "meseta", *verbs(str(two.parent), "2")[2]])  # measures again
    assert (two / "record.json").stat().st_mtime_ns > before
    check_sections(one, two)


def check_weights(first, second):
    """After ten steps, the last of each epoch shared unevenly."""
    for name, weight in first.items():
        assert weight.dtype == torch.float64
        torch.testing.assert_close(weight, second[name], rtol=1e-12, atol=1e-12)


def check_training(first, second):
    """Terms and validation are those of all examples."""
    assert (first.processes, second.processes) == (1, 2)
    assert first.steps == second.steps == 10
    assert first.history.keys() == second.history.keys()
    for name, values in first.history.items():
        assert values == pytest.approx(second.history[name], rel=1e-6), name
    assert first.metrics == pytest.approx(second.metrics, rel=1e-6)


def check_sections(*runs):
    """What was attacked, measured and bounded is the same, and nothing unfinished is left."""
    for section in ("evaluation", "measures", "bounds"):
        first, second = (timeless(read_record(run).model_dump()[section]) for run in runs)
        assert first
        assert first == second
    assert not any((run / "unfinished").exists() for run in runs)


def timeless(part):
    """Leave out what two processes do in another time."""
    if isinstance(part, dict):
        return {key: timeless(value) for key, value in part.items() if key not in ("seconds", "provenance")}
    return [timeless(value) for value in part] if isinstance(part, list) else part


def test_what_was_started_must_be_what_is_asked_for(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_world(2, 1)
    check_world(1, 2)
    with pytest.raises(UserError, match=r"torchrun has started 2 processes.*asks for 1"):
        check_world(1, 1)


def test_srun_is_looked_at_as_well(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "meseta")
    check_world(2, 1)
    with pytest.raises(UserError, match=r"srun has started 2 processes.*asks for 1"):
        check_world(1, 1)
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")  # whose one task starts the others
    check_world(1, 1)


def test_what_lightning_says_of_devices_names_the_option():
    with pytest.raises(UserError, match="`devices`: You requested gpu"), refused_devices():
        raise MisconfigurationException("You requested gpu: [0, 1]\n But your machine only has: [0]")


def test_one_process_needs_no_other():
    team, device = join(1, 1, "cpu")
    assert (team, device) == (Team(), "cpu")
    assert team.leads
    assert team.wait() is None


@pytest.mark.parametrize(
    ("bad", "named"), [((0, 1, None), "devices"), ((1, 0, None), "nodes"), ((2, 1, "cuda:1"), "device")]
)
def test_bad_numbers_are_refused(bad, named):
    with pytest.raises(UserError, match=f"`{named}`"):
        join(*bad)


def test_only_the_loss_of_another_process_is_told_as_such():
    lost = RuntimeError("[/gloo/transport/tcp/pair.cc:525] Connection closed by peer [127.0.0.1]:1")
    assert "another of the processes has ended" in str(another_ended(lost))
    own = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as raised:
        another_ended(own)
    assert raised.value is own


def test_several_runs_in_one_go_are_trained_by_one_process_each(tmp_path):
    comparison = Comparison(out=str(tmp_path), run=RunConfig(devices=2), objectives={"erm": Erm()})
    with pytest.raises(UserError, match=r"`devices`: erm is to be trained by 2 processes.*meseta train"):
        compare(comparison)
    assert not any(tmp_path.rglob("*"))
