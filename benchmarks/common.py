"""What the benchmarks share: interleaved timing, tables, records beside them, and one briefly trained network."""

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import median
from threading import Timer
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from meseta.data import DataConfig, ImageData, loader
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.files import write_text
from meseta.models import Network, SiluCnn
from meseta.objectives import Erm

RESULTS = Path(__file__).parent / "results"
SEED = 0


@dataclass(frozen=True)
class Options:
    """How a benchmark is run.

    Args:
        quick: tiny settings, to see that it runs; its numbers mean nothing.
        out: where records, tables and figures go.
        runs: folder of trained runs, for benchmarks that look at them.
    """

    quick: bool
    out: Path
    runs: Path | None = None


def options(description: str | None) -> Options:
    """Return the options from the command line; quick runs keep away from the published results."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="tiny settings, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder of the results; benchmarks/results if left out")
    parser.add_argument("--runs", type=Path, help="folder of the runs of the recipe masking-controls, for masking.py")
    parsed = parser.parse_args()
    return Options(parsed.quick, parsed.out or (RESULTS / "quick" if parsed.quick else RESULTS), parsed.runs)


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of n measurements."""

    median: float
    min: float
    max: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of one or more values."""
        return cls(median(values), min(values), max(values), len(values))


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int, *, warm_up: int = 1, budget: float = float("inf")
) -> dict[str, list[float]]:
    """Return the seconds of every call in every round.

    Every round times each call once, in an order drawn anew, so that a slow spell of the machine meets all of them and
    none always follows the same neighbour. After two rounds, no round begins once `budget` seconds are spent.
    """
    for call in [call for call in calls.values() for _ in range(warm_up)]:
        call()
    order, shuffle = list(calls), random.Random(SEED).shuffle
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = perf_counter()
    for done in range(rounds):
        if done >= 2 and perf_counter() - began > budget:
            break
        shuffle(order)
        for name in order:
            times[name].append(seconds(calls[name]))
    return times


def seconds(call: Callable[[], object]) -> float:
    """Return the wall-clock seconds of one call."""
    began = perf_counter()
    call()
    return perf_counter() - began


def ratios(times: dict[str, list[float]], base: str) -> dict[str, Spread]:
    """Return how many times longer each call took than `base` in the same round."""
    return {name: Spread.of([t / b for t, b in zip(of, times[base], strict=True)]) for name, of in times.items()}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table: the first column text, the others numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


@dataclass(frozen=True)
class Page:
    """One benchmark's result: what was measured, for machines and for readers."""

    title: str
    measured: dict[str, Any]
    text: str

    def write(self, name: str, given: Options, stop: Callable[[], provenance.Provenance]) -> None:
        """Print the page; write it as NAME.md and, with all that was measured, as NAME.json."""
        record = stop().model_dump() | {"command": command(), "processor": processor(), "quick": given.quick}
        record["environment"] = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
        where = f"{record['processor']}, {record['device']}, torch {record['versions']['torch']}, {record['commit']}"
        warning = "\n\n**Quick run: these numbers mean nothing.**" if given.quick else ""
        text = (
            f"# {self.title}{warning}\n\n{self.text}\n\n`{record['command']}`: {record['seconds']:.0f} s on {where}\n"
        )
        content = json.dumps(record | {"measured": self.measured}, indent=1, default=asdict, ensure_ascii=False)
        write_text(given.out / f"{name}.json", content + "\n")
        write_text(given.out / f"{name}.md", text)
        print(text, flush=True)


def command() -> str:
    """Return the command line, from the root of the repository."""
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


@cache
def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown processor"


def run_python(*arguments: str) -> None:
    """Run this Python in a new process, in silence; raise if it fails."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in which the system counts the peak of a process."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its peak in GiB, its exit code, what it said of errors."""

    gib: float
    code: int
    error: str


def in_a_process(code: str, *, limit: float, most: float) -> Ended:
    """Run Python code beside the benchmarks in a process of its own, with so many GiB and seconds at most."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_DATA, (int({limit} * 2**30),) * 2)\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    timer = Timer(most, process.kill)
    timer.start()
    assert process.stderr is not None
    error = process.stderr.read().decode()  # until the process ends
    _, status, usage = os.wait4(process.pid, 0)  # its own peak, also where it was stopped
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(usage.ru_maxrss * UNIT / 2**30, process.returncode, error)


def load_data(quick: bool) -> tuple[ImageData, str]:
    """Return MNIST, or the built-in digits where it cannot be had or a quick run wants little, and what was taken."""
    digits = DataConfig(source="digits")
    if quick:
        return (data := digits.load()), data.describe()
    try:
        return (data := DataConfig(source="ylecun/mnist").load()), data.describe()
    except (UserError, OSError) as error:
        why = str(error).splitlines()[0]
        return (data := digits.load()), f"MNIST could not be loaded ({why}), so: {data.describe()}"


@dataclass(frozen=True)
class Trained:
    """A network trained briefly and plainly, in eval mode, with its data and how well it does."""

    model: Network
    data: ImageData
    about: str

    def test(self, n: int) -> tuple[Tensor, Tensor]:
        """Return the first n test images and their labels."""
        return self.data.test[:n]


@cache
def trained(quick: bool) -> Trained:
    """Return `SiluCnn` after one pass over MNIST with Adam; the same network for all benchmarks of one process."""
    data, described = load_data(quick)
    steps = 60 if quick else 450  # 445 batches of 128 are one pass over MNIST's training split
    generator = torch.Generator().manual_seed(SEED)
    model = SiluCnn().build(data.input_shape, data.num_classes, mean=data.mean, std=data.std, generator=generator)
    optimizer, objective = torch.optim.Adam(model.parameters(), lr=1e-3), Erm()
    batches = loader(data.train, 128, shuffle=True, generator=generator)
    done = 0
    while done < steps:
        for x, y in batches:
            if done == steps:
                break
            optimizer.zero_grad()
            objective(model, x, y).total.backward()
            optimizer.step()
            done += 1
    model.eval()
    x, y = data.test[:1000]
    with torch.no_grad():
        accuracy = (model(x).argmax(1) == y).float().mean().item()
    about = (
        f"`SiluCnn`, {steps} steps of Adam(1e-3) at B = 128, seed {SEED}; "
        f"accuracy on {len(x)} test images {accuracy:.1%}. {described}."
    )
    return Trained(model, data, about)
