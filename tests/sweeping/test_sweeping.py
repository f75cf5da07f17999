"""Cells are made once each, by however many processes, whichever of them dies; the best is feasible."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cells
import optuna
import pytest
import torch

from meseta.cli import main
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.models import Mlp
from meseta.objectives import InputGradient
from meseta.report.swept import read_swept
from meseta.sweeping import SweepConfig, queue, sweep
from meseta.sweeping import run as sweeping_run
from meseta.training import RunConfig
from meseta.workflow import EvaluateConfig

WEIGHTS = [0.001, 0.01, 0.1, 1, 10, 100]
STORAGES = ["sqlite", "journal", "url"]


def grid(out, storage="journal", **settings):
    known = {"sqlite": None, "journal": "journal", "url": f"sqlite:///{out}/shared.db"}
    return SweepConfig(
        **{
            "name": "s",
            "out": str(out),
            "run": RunConfig(model=Mlp(), objective=InputGradient(), accelerator="cpu"),
            "space": {"objective.weight": WEIGHTS},
            "search": "grid",
            "evaluate": EvaluateConfig(split="val", threats={"Linf": (cells.EPS,)}),
            "storage": known[storage],
        }
        | settings
    )


def tpe(out, trials, floor=None, **settings):
    space = {"objective.weight": {"low": 1e-3, "high": 1e3, "log": True}}
    return grid(out, search="tpe", space=space, trials=trials, floor=floor, **settings)


def silent(_):
    pass


def in_a_process(config, make):
    """Start the same call in a process of its own."""
    context = multiprocessing.get_context("fork")  # imports nothing again
    process = context.Process(target=sweep, args=(config,), kwargs={"say": silent, "make": make})
    process.start()
    return process


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("storage", STORAGES)
def test_four_calls_at_once_make_each_cell_once(tmp_path, storage, monkeypatch):
    monkeypatch.setattr(sweeping_run, "POLL", 0.02)
    space = {"objective.weight": WEIGHTS, "epochs": [1, 2]}
    config = grid(tmp_path, storage, space=space)
    workers = [in_a_process(config, cells.slow_trade) for _ in range(4)]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert cells.begun(config.folder) == [f"cell-{i:03d}" for i in range(1, 13)]
    pids = {file.name.split()[1] for file in (config.folder / "begun").iterdir()}
    assert len(pids) > 1  # they did share the work
    swept = sweep(config, say=silent, make=cells.trade)
    assert [cell.state for cell in swept.cells] == ["finished"] * 12
    assert len({tuple(cell.settings.values()) for cell in swept.cells}) == 12
    assert len(cells.begun(config.folder)) == 12
    assert swept.cells == read_swept(config.folder / "sweep.json").cells


@pytest.mark.parametrize("storage", STORAGES)
def test_a_killed_workers_cell_is_taken_up_again(tmp_path, storage, monkeypatch):
    monkeypatch.setattr(sweeping_run, "POLL", 0.1)
    monkeypatch.setattr(queue, "GRACE", 1)
    config = grid(tmp_path, storage, space={"objective.weight": WEIGHTS[:3]})
    worker = in_a_process(config, cells.stuck)
    wait_for(lambda: (config.folder / "begun").exists() and cells.begun(config.folder))
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    swept = sweep(config, say=silent, make=cells.trade)
    assert [cell.state for cell in swept.cells] == ["finished"] * 3
    assert [cell.settings["objective.weight"] for cell in swept.cells] == WEIGHTS[:3]
    assert [cell.started for cell in swept.cells] == [2, 1, 1]
    assert cells.begun(config.folder) == ["cell-001", "cell-001", "cell-002", "cell-003"]


def test_a_cell_that_two_machines_queued_at_once_is_made_once(tmp_path):
    config = grid(tmp_path, "url")
    queue.Queue(config)
    study = optuna.load_study(study_name=config.name, storage=config.storage)
    for trial in study.get_trials():
        study.add_trial(trial)
    swept = sweep(config, say=silent, make=cells.trade)
    assert len(study.get_trials()) == 2 * len(WEIGHTS)
    assert len(cells.begun(config.folder)) == len(WEIGHTS)
    assert [cell.started for cell in swept.cells] == [1] * len(WEIGHTS)


def test_a_worker_that_dies_is_replaced_by_the_others_of_its_call(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeping_run, "POLL", 0.1)
    config = grid(tmp_path, workers=2, space={"objective.weight": WEIGHTS[:3]})
    swept = sweep(config, say=cells.note, make=cells.die_in_a_worker)
    died = (config.folder / "died").read_text()
    assert [cell.state for cell in swept.cells] == ["finished"] * 3
    assert {cell.name: cell.started for cell in swept.cells} == {
        f"cell-{i:03d}": 1 + (died == f"cell-{i:03d}") for i in (1, 2, 3)
    }
    assert "a worker ended on the way; others took up its cell" in cells.told


def test_tpe_takes_up_a_cell_with_the_settings_that_it_had(tmp_path):
    config = tpe(tmp_path, 3)
    worker = in_a_process(config, cells.stuck)
    wait_for(lambda: (config.folder / "begun").exists() and cells.begun(config.folder))
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    (former,) = queue.Queue(config).trials()[1]
    swept = sweep(config, say=silent, make=cells.trade)
    assert swept.cells[0].settings == former.params
    undisturbed = sweep(tpe(tmp_path / "b", 3), say=silent, make=cells.trade)
    assert [cell.settings for cell in swept.cells] == [cell.settings for cell in undisturbed.cells]


def test_the_best_cell_is_above_the_floor_and_tpe_looks_there(tmp_path):
    free = sweep(tpe(tmp_path / "a", 24), say=silent, make=cells.trade)
    bound = sweep(tpe(tmp_path / "b", 24, floor=0.9), say=silent, make=cells.trade)
    assert free.best == max(free.cells, key=lambda cell: cell.found.worst_case)
    feasible = [cell for cell in bound.cells if cell.found.clean_accuracy >= 0.9]
    assert bound.best == max(feasible, key=lambda cell: cell.found.worst_case)
    assert max(cell.found.worst_case for cell in bound.cells) > bound.best.found.worst_case

    def late(swept):
        """Return how many of the last cells are accurate."""
        return sum(cell.found.clean_accuracy >= 0.9 for cell in swept.cells[10:])

    assert late(free) <= 3
    assert late(bound) >= 5


def test_cells_that_diverge_are_told_and_never_chosen(tmp_path):
    config = grid(tmp_path)
    swept = sweep(config, say=silent, make=cells.diverge_at_ten)
    (diverged,) = [cell for cell in swept.cells if cell.state != "finished"]
    assert (diverged.state, diverged.reason, diverged.found) == ("diverged", "the loss of step 3 is nan", None)
    assert diverged.settings == {"objective.weight": 10}
    assert swept.best.settings == {"objective.weight": 100}
    assert sweep(config, say=silent, make=cells.stuck).cells == swept.cells  # which makes nothing


def test_nothing_feasible_is_no_best(tmp_path):
    assert sweep(grid(tmp_path, floor=1.0, space={"objective.weight": [10]}), say=silent, make=cells.trade).best is None


def test_a_cell_that_cannot_be_made_ends_the_call_and_is_tried_again_by_the_next(tmp_path):
    config = grid(tmp_path)
    with pytest.raises(UserError, match="no room"):
        sweep(config, say=silent, make=cells.fail_at_ten)
    assert len(cells.begun(config.folder)) == 4
    swept = sweep(config, say=silent, make=cells.trade)
    assert [cell.started for cell in swept.cells] == [1, 1, 1, 1, 2, 1]
    assert len(cells.begun(config.folder)) == 6


def test_more_trials_go_on_and_other_settings_are_refused(tmp_path):
    few = sweep(tpe(tmp_path, 3), say=silent, make=cells.trade)
    more = sweep(tpe(tmp_path, 5), say=silent, make=cells.trade)
    assert more.cells[:3] == few.cells
    assert [cell.state for cell in more.cells] == ["finished"] * 5
    with pytest.raises(UserError, match="already holds a sweep 's' with other settings"):
        sweep(tpe(tmp_path, 5, floor=0.5), say=silent, make=cells.stuck)
    assert read_swept(tmp_path / "s" / "sweep.json") == more


def test_a_cell_beyond_fewer_trials_is_made_too(tmp_path):
    with pytest.raises(UserError, match="no room"):
        sweep(tpe(tmp_path, 4), say=silent, make=cells.fail_in_the_last(4))
    assert [cell.state for cell in sweep(tpe(tmp_path, 2), say=silent, make=cells.trade).cells] == ["finished"] * 4


@pytest.mark.parametrize("there", ["record.json", "config.yaml", "notes"])
def test_what_is_no_sweep_is_left_alone(tmp_path, there):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / there).write_text("mine")
    with pytest.raises(UserError, match="holds something else than a sweep"):
        sweep(grid(tmp_path), say=silent, make=cells.trade)
    assert [(file.name, file.read_text()) for file in (tmp_path / "s").iterdir()] == [(there, "mine")]


@pytest.mark.parametrize(("storage", "file"), [(None, "sweep.db"), ("journal", "sweep.journal")])
@pytest.mark.parametrize("kind", ["garbage", "folder", "pipe"])
def test_a_damaged_storage_is_named(tmp_path, storage, file, kind):
    config = replace(grid(tmp_path, space={"objective.weight": [10]}), storage=storage)
    sweep(config, say=silent, make=cells.trade)
    (config.folder / file).unlink()
    make = {"garbage": lambda p: p.write_bytes(b"nothing of ours\n"), "folder": Path.mkdir, "pipe": os.mkfifo}
    make[kind](config.folder / file)
    with pytest.raises(UserError, match=f"`storage`.*{file}"):
        sweep(config, say=silent, make=cells.trade)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuch://host/db", "cannot be used"),
        ("sqlite:////nowhere/at/all.db", "cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(tmp_path, url, message):
    with pytest.raises(UserError, match=message):
        sweep(replace(grid(tmp_path), storage=url), say=silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("visible", "seen"), [(None, "1"), ("4,7", "7")])
def test_a_worker_sees_its_own_gpu_alone(monkeypatch, visible, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    sweeping_run.see_one_gpu(torch.device("cuda"))
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
    sweeping_run.see_one_gpu(torch.device("cuda:1"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


RECIPE = """
name: tiny
run:
  data: {train_limit: 320, test_limit: 60, val_fraction: 0.2}
  model: Mlp
  objective: InputGradient
  epochs: 2
  accelerator: cpu
space: {optimizer.lr: [1e-2, 1e30], objective.weight: [0.01, 0.1]}
search: grid
floor: 0.5
evaluate: {threats: {Linf: [8/255]}, n: 60, attacks: [FGSM], checks: [OneStep], checked: 20}
"""


def test_the_command_trains_each_cell_once_though_killed(tmp_path, capsys):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    command = ["sweep", "--config", str(recipe), "--out", str(tmp_path)]
    folder = tmp_path / "tiny"
    process = subprocess.Popen([sys.executable, "-m", "meseta", *command], stdout=subprocess.DEVNULL)
    wait_for(lambda: (folder / "cells" / "cell-002" / "config.yaml").exists() or process.poll() is not None)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    trained = (folder / "cells" / "cell-001" / "model.safetensors").stat().st_mtime_ns
    assert main(command) == 0
    out = capsys.readouterr().out
    assert (folder / "cells" / "cell-001" / "model.safetensors").stat().st_mtime_ns == trained
    swept = read_swept(folder / "sweep.json")
    assert [cell.state for cell in swept.cells] == ["finished", "finished", "diverged", "diverged"]
    assert [cell.started for cell in swept.cells] == [1, 2, 1, 1]
    for cell in swept.cells[:2]:
        record = read_record(folder / "cells" / cell.name)
        assert record.evaluation.split == "val"
        assert cell.found.clean_accuracy == record.evaluation.clean_accuracy
        assert cell.found.worst_case == record.evaluation.robust[0].worst_case
        assert f"weight={cell.settings['objective.weight']}" in record.training.objective
    assert swept.provenance.versions["optuna"]
    assert f"on the test set: meseta evaluate {folder / 'cells' / swept.best.name}" in out
    assert re.search(r"^[1-4]/4  cell-004 .*, diverged; best so far cell-00[12]$", out, re.MULTILINE)
    assert "\n4/4  cell-" in out
    assert (folder / "sweep.html").stat().st_size > 1_000_000
    before = {file: file.stat().st_mtime_ns for file in (folder / "cells").rglob("*")}
    assert main(command) == 0
    assert {file: file.stat().st_mtime_ns for file in (folder / "cells").rglob("*")} == before
    assert read_swept(folder / "sweep.json").cells == swept.cells
