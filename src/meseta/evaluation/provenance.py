"""Gather what it takes to measure a figure again."""

import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from time import perf_counter

import torch

from meseta.evaluation.record import Provenance
from meseta.version import __version__


def start(seed: int | None, device: torch.device | str) -> Callable[[], Provenance]:
    """Start the clock; the function returned stops it and gives the provenance of what was measured meanwhile."""
    began, created = perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")

    def stop() -> Provenance:
        return Provenance(
            command=_command(),
            created=created,
            seconds=round(perf_counter() - began, 3),
            seed=seed,
            device=_device_name(torch.device(device)),
            versions={"meseta": __version__, "python": platform.python_version(), "torch": torch.__version__},
            commit=_commit(),
        )

    return stop


def _command() -> str:
    """Return the command line, with the program by its name alone: where it is installed is nobody's business."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    if program == "__main__.py":
        program = "meseta"  # python -m meseta
    return shlex.join([program, *sys.argv[1:]])


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


@cache
def _commit() -> str | None:
    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True)
        return run.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
