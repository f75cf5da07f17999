"""One world to fuzz in: a run with every kind of section in its record, a folder to call from, a folder of others'."""

from types import SimpleNamespace

import pytest
from sandbox import CANARY, WATCH

from meseta.cli import main

SMALL = ["--data.train_limit", "64", "--data.test_limit", "16", "--epochs", "1"]
SMALL += ["--model", "Mlp", "--model.hidden", "[4]", "--model.activation", "silu"]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    for name in ("outside", "cwd"):
        (root / name).mkdir()
    (root / "cwd" / f"{CANARY}.py").write_text("raise SystemExit('the canary was imported')")
    run = root / "runs" / "a"
    steps = (
        ["train", "--out", str(run.parent), "--name", "a", *SMALL],
        ["evaluate", str(run), "--eps", "0.1", "--n", "4", "--attacks", "[FGSM]", "--checks", "[OneStep]"],
        ["measure", str(run), "--n", "4", "--measures", "[GradientNorm]"],
        ["certify", str(run), "--n", "4", "--bounds", "[LinearPiece]", "--attacks", "[DeepFool]"],
        ["surface", str(run), "--resolution", "3", "--out", str(root / "out")],
    )
    with pytest.MonkeyPatch.context() as patch:  # without the figures, which take most of the time
        patch.setattr("meseta.report.write_figures", lambda *_: [])
        patch.setattr("meseta.cli._save_figure", lambda *_: None)
        for step in steps:
            assert main(step) == 0
    return SimpleNamespace(root=root, run=run, cwd=root / "cwd", cache=root / "cache")


@pytest.fixture
def world(built, monkeypatch):
    monkeypatch.setenv("MESETA_CACHE", str(built.cache))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("meseta.files.machine_memory", lambda: 2**29)  # what fits is made, and that takes its time
    monkeypatch.setattr("meseta.cli._draw", lambda *_: None)  # figures take most of the time
    monkeypatch.chdir(built.cwd)
    monkeypatch.syspath_prepend(str(built.cwd))  # as `python -m meseta` has it
    return built


def pytest_terminal_summary(terminalreporter):
    """Tell how many calls of the command line were watched."""
    if WATCH.count:
        terminalreporter.write_line(f"{WATCH.count} calls of the command line")
