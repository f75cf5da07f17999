"""A disk that is full, or a folder that cannot be written: one clear error, and the last good state stays."""

import os
import resource
import sys

from meseta.cli import main
from meseta.evaluation.record import read_record
from meseta.training.checkpoint import LAST

TRAIN = ["train", "--data.train_limit", "200", "--data.test_limit", "50", "--model", "Mlp", "--name", "run"]


def elsewhere(arguments, prepare, said):
    """Run the command line in another process, its errors into a file, and return its exit code."""
    child = os.fork()
    if child == 0:
        code = 70
        try:  # whatever happens in the child ends there
            sys.stderr = said.open("w", buffering=1)
            prepare()
            code = main(arguments)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def room_for(largest):
    """Return what lets no file grow beyond so many bytes, as a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def become_another_user():
    """Where the tests run as root, who may write anywhere."""
    if os.geteuid() == 0:
        os.setuid(65534)


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path):
    said, out = tmp_path / "said", ["--out", str(tmp_path / "runs")]
    assert main([*TRAIN, *out, "--epochs", "1"]) == 0
    folder = tmp_path / "runs" / "run"
    (folder / "record.json").unlink()
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 3"))
    before = (folder / LAST).read_bytes()
    assert elsewhere([*TRAIN, *out, "--epochs", "3"], room_for(len(before) // 2), said) == 2
    assert said.read_text().count("\n") == 1
    assert said.read_text().endswith(f"{folder / LAST}: File too large\n")
    assert (folder / LAST).read_bytes() == before
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [LAST.name]
    assert main([*TRAIN, *out, "--epochs", "3"]) == 0
    assert read_record(folder).training.resumed == [2]


def test_a_record_that_finds_no_room_leaves_the_one_before(tmp_path):
    said, folder = tmp_path / "said", tmp_path / "run"
    assert main([*TRAIN, "--out", str(tmp_path), "--epochs", "1"]) == 0
    before = (folder / "record.json").read_bytes()
    measure = ["measure", str(folder), "--measures", "[GradientNorm]", "--n", "50"]
    assert elsewhere(measure, room_for(len(before)), said) == 2
    assert said.read_text().endswith(f"{folder / 'record.json'}: File too large\n")
    assert (folder / "record.json").read_bytes() == before
    assert {path.name for path in folder.rglob(".*")} == {".lock"}


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    said, closed = tmp_path / "said", tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    train = [*TRAIN, "--out", str(closed / "runs"), "--epochs", "1"]
    assert elsewhere(train, become_another_user, said) == 2
    assert f"{closed}" in said.read_text()
    assert "Permission denied" in said.read_text() or "cannot be written" in said.read_text()
    assert said.read_text().count("\n") == 1
    assert not any(closed.iterdir())
