"""Peak memory and time of every measure on `ResNet18` at 3×224×224, each in a process of its own.

`ResNet18` is the variant for small images: without the stride and the pooling of the stem its maps have 16 times as
many pixels at 224×224 as those of the ImageNet one. It has 1000 classes here and stays untrained, which changes what an
iterative measure takes in time, and little of its memory. A measure that refuses ReLU networks runs on SiLU.

Peak memory is the process's largest resident set as the system counts it, with Python, torch and the weights. What a
thousand calls on a small network add to it says whether anything is kept between calls.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from common import SEED, UNIT, Options, Page, in_a_process, options, table
from torch import Tensor, nn

from meseta.autodiff import CrossEntropy, Margin, value_and_gradient
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.geometry import SpectralCurvature
from meseta.models import ResNet18
from meseta.registry import methods

TARGET, LIMIT = 8.0, 16.0
"""GiB that a measure should stay below, and where its process is stopped."""
SECONDS = 240
"""After which a process is stopped; what it held by then is reported."""
MARGIN = "SpectralCurvature(field=Margin())"
REPEATS = 1000

Call = Callable[[nn.Module, Tensor, Tensor], object]


def calls() -> dict[str, Call]:
    """Return what is measured, by name: two yardsticks, then every measure with its defaults."""

    def forward(model: nn.Module, x: Tensor, y: Tensor) -> object:
        with torch.no_grad():
            return F.cross_entropy(model(x), y)

    def gradient(model: nn.Module, x: Tensor, y: Tensor) -> object:
        return value_and_gradient(CrossEntropy().bind(model, x, y), x)

    measures: dict[str, Call] = {name: measure() for name, measure in sorted(methods("measures").items())}
    return {"forward": forward, "input gradient": gradient, **measures, MARGIN: SpectralCurvature(field=Margin())}


def child(name: str, batch: int, quick: bool, threads: int, out: str) -> None:
    """Run one call in this process and write its seconds, and the activation it ran on, to `out`."""
    torch.set_num_threads(threads)
    shape, classes, width = ((3, 16, 16), 10, 4) if quick else ((3, 224, 224), 1000, 64)
    generator = torch.Generator().manual_seed(SEED)
    x, y = torch.rand(batch, *shape, generator=generator), torch.randint(classes, (batch,), generator=generator)
    call = calls()[name]
    for activation in ("relu", "silu"):
        model = ResNet18(width=width, activation=activation).build(shape, classes, generator=generator).eval()
        began = perf_counter()
        with suppress(UserError):  # a measure that is blind on ReLU networks says so
            call(model, x, y)
            Path(out).write_text(json.dumps({"seconds": perf_counter() - began, "activation": activation}))
            return


def growth(name: str, calls_made: int) -> float:
    """Return by how many MiB this process's peak grew over so many calls on a small network, after some to warm up."""
    model = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 4)).eval()
    x, y = torch.rand(16, 64), torch.arange(16) % 4
    call = calls()[name]
    for _ in range(20):
        call(model, x, y)
    before = getrusage(RUSAGE_SELF).ru_maxrss
    for _ in range(calls_made):
        call(model, x, y)
    return (getrusage(RUSAGE_SELF).ru_maxrss - before) * UNIT / 2**20


def peak(name: str, batch: int, quick: bool) -> dict[str, Any]:
    """Return peak memory in GiB, seconds and what became of one call in a fresh process."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        arguments = (name, batch, quick, torch.get_num_threads(), str(out))
        ended = in_a_process(f"import memory; memory.child(*{arguments!r})", limit=LIMIT, most=SECONDS)
        found = json.loads(out.read_text()) if out.exists() else {"seconds": None, "activation": None}
    return {"gib": ended.gib, "ended": ending(ended.code, ended.error, found["seconds"] is not None), **found}


def ending(code: int, error: str, result: bool) -> str:
    """Return what became of a process: "", or why there is no result."""
    if code == 0:
        return "" if result else "refused both activations"
    if "allocate memory" in error or "MemoryError" in error:
        return f"wanted more than {LIMIT:g} GiB"
    if code < 0:
        return f"stopped after {SECONDS} s"
    raise RuntimeError(error)


def verdict(of: dict[str, Any]) -> str:
    """Return whether the target was met; a process that was stopped by time has shown only what it held by then."""
    if of["gib"] > TARGET or "wanted" in of["ended"]:
        return "**no**"
    return f"so far ({of['ended']})" if of["ended"] else "yes"


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    batches = (2,) if given.quick else (1, 8)
    found = {batch: {name: peak(name, batch, given.quick) for name in calls()} for batch in batches}
    text = (
        f"`ResNet18`, {'3×16×16' if given.quick else '3×224×224, K = 1000'}, untrained, float32, "
        f"{torch.get_num_threads()} threads; one process each. `meseta measure` takes B = 1 for such inputs where "
        f"none is given. The target is {TARGET:g} GiB."
    )
    for batch, of in found.items():
        rows = [
            [
                name,
                m["activation"] or "",
                f"{m['gib']:.2f}",
                "" if m["seconds"] is None else f"{m['seconds']:.1f}",
                verdict(m),
            ]
            for name, m in of.items()
        ]
        header = ["measure", "activation", "peak GiB", "seconds", f"within {TARGET:g} GiB"]
        text += f"\n\n## B = {batch}\n\n{table(header, rows)}"
    repeats = 20 if given.quick else REPEATS
    grown = {name: growth(name, repeats) for name in calls()}
    rows = [[name, f"{mib:.2f}"] for name, mib in grown.items()]
    text += f"\n\n## {repeats} calls on a small network\n\nWhat they add to the peak of their process.\n\n"
    text += table(["measure", "MiB"], rows)
    measured = {"batches": found, "repeats": repeats, "grown_mib": grown}
    Page("Memory of the measures", measured, text).write("memory", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
