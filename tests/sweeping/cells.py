"""Cells that cost nothing, in place of training and attacks where tests ask how cells are handed out."""

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

from meseta.errors import Diverged, UserError
from meseta.evaluation.provenance import start
from meseta.evaluation.record import Evaluation, RobustAccuracy

EPS = 0.1
told = []
"""What this process was told."""


def note(text):
    told.append(text)


def evaluated(clean, robust):
    provenance = start(0, "cpu")()
    found = RobustAccuracy(norm="Linf", eps=EPS, worst_case=robust, attacks=[])
    return Evaluation(
        provenance=provenance, split="val", n=100, clean_accuracy=clean, nonfinite_logits=0, robust=[found]
    )


def begin(run):
    """Note that a cell began, in a file of its own, and return the folder of the sweep."""
    folder = Path(run.out).parent
    (folder / "begun").mkdir(exist_ok=True)
    (folder / "begun" / f"{run.name} {os.getpid()} {time.monotonic_ns()}").touch()
    return folder


def begun(folder):
    """Return the names of the cells that began, once for each time."""
    return sorted(file.name.split()[0] for file in (folder / "begun").iterdir())


def trade(run, evaluate):
    """Robust accuracy rises with the weight of the objective, clean accuracy falls."""
    begin(run)
    position = (math.log10(run.objective.weight) + 3) / 6  # of 1e-3 to 1e3
    return evaluated(1 - 0.5 * position**2, 0.2 + 0.6 * position)


def slow_trade(run, evaluate):
    time.sleep(0.02)
    return trade(run, evaluate)


def stuck(run, evaluate):
    """Never end: whoever makes this cell must be killed."""
    begin(run)
    time.sleep(60)


def die_in_a_worker(run, evaluate):
    """The first cell that a worker begins kills it; the first process waits for that."""
    folder = begin(run)
    died = folder / "died"
    if multiprocessing.parent_process() is not None and not died.exists():
        died.write_text(run.name)
        os.kill(os.getpid(), signal.SIGKILL)
    until = time.monotonic() + 120
    while not died.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return evaluated(0.9, 0.5)


def diverge_at_ten(run, evaluate):
    if run.objective.weight == 10:
        raise Diverged("the loss of step 3 is nan")
    return trade(run, evaluate)


def fail_at_ten(run, evaluate):
    if run.objective.weight == 10:
        raise UserError("no room")
    return trade(run, evaluate)


def fail_in_the_last(number):
    """Return what fails in one cell."""

    def make(run, evaluate):
        if run.name == f"cell-{number:03d}":
            raise UserError("no room")
        return trade(run, evaluate)

    return make
