"""Memory under load: a million rows, a thousand classes, inputs of 3×224×224, large image folders, a thousand steps.

Each case has a process of its own. Peak memory is its largest resident set as the system counts it, with Python, torch
and the weights; what it takes beyond that is the peak less what was resident when the work began, data included.
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from common import SEED, UNIT, Options, Page, in_a_process, options, table
from torch import Tensor, nn

from meseta.attacks import FGSM
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation import evaluate, measure, provenance
from meseta.geometry import GradientNorm
from meseta.models import ResNet18
from meseta.objectives import Objective
from meseta.registry import methods
from meseta.threat import Threat

LIMIT = 16.0
"""GiB where a process is stopped."""
SECONDS = 300
"""After which a process is stopped; what it held by then is reported."""
MIB = 2**20
LARGE = ("Erm", "InputGradient", "CrossLipschitz", "Curvature", "Cure", "Soar", "Trades", "AdversarialTraining")
"""Objectives whose step is taken at 224×224: one of each kind of derivative and of search."""
Case = Callable[[bool], dict[str, Any]]


def resident() -> float:
    """Return this process's resident memory in MiB; its peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    return peak()


def peak() -> float:
    """Return the largest resident memory of this process in MiB."""
    return getrusage(RUSAGE_SELF).ru_maxrss * UNIT / MIB


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def work(call: Callable[[], object]) -> dict[str, Any]:
    """Return the seconds of a call, what was resident before and what it took beyond, in MiB."""
    gc.collect()
    before, began = resident(), perf_counter()
    call()
    return {"before_mib": before, "beyond_mib": max(0.0, peak() - before), "seconds": perf_counter() - began}


# A million rows


def tabular(quick: bool) -> tuple[nn.Module, int]:
    """Return a perceptron on 20 numbers, and how many rows there are."""
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 2)), 20_000 if quick else 1_000_000


def stream(rows: int, batch: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows that nobody holds: a loader of any size."""
    generator = seeded()
    for _ in range(rows // batch):
        x = torch.rand(batch, 20, generator=generator)
        yield x, (x.sum(1) > 10).long()


def evaluated(quick: bool, streamed: bool) -> dict[str, Any]:
    """Evaluate with FGSM at one eps, everything kept on disk as it is finished."""
    model, rows = tabular(quick)
    data = (stream(rows), None) if streamed else tuple(torch.cat(column) for column in zip(*stream(rows), strict=True))
    with TemporaryDirectory() as folder:
        keep = Path(folder)
        options = {"threat": Threat("Linf", 0.05), "attacks": [FGSM()], "checks": (), "batch_size": 1000, "keep": keep}
        found = work(lambda: evaluate(model, *data, **options))
        kept = [file.stat() for file in keep.rglob("*") if file.is_file()]
        return found | {
            "ledger_mib": sum(stat.st_size for stat in kept) / MIB,
            "ledger_disk_mib": sum(stat.st_blocks * 512 for stat in kept) / MIB,
            "ledger_files": len(kept),
            "rows": rows,
        }


def measured(quick: bool) -> dict[str, Any]:
    """Take one measure, and write its section of the record."""
    model, rows = tabular(quick)
    sizes: list[int] = []

    def call() -> None:
        sizes.append(len(measure(model, stream(rows), measure=GradientNorm()).model_dump_json()))

    return work(call) | {"section_mib": sizes[0] / MIB, "rows": rows}


# A thousand classes, and inputs of 3×224×224


def conv_net(classes: int) -> nn.Module:
    """Return a small smooth network on 3×32×32."""
    torch.manual_seed(SEED)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32 * 64, classes))


def batch(n: int, shape: tuple[int, ...], classes: int) -> tuple[Tensor, Tensor]:
    return torch.rand(n, *shape, generator=seeded()), torch.randint(classes, (n,), generator=seeded())


def resnet(quick: bool, activation: str) -> nn.Module:
    """Return the ResNet-18 for small images, untrained; its maps have 16 times the pixels of the ImageNet one."""
    shape, classes, width = ((3, 16, 16), 10, 4) if quick else ((3, 224, 224), 1000, 64)
    return ResNet18(width=width, activation=activation).build(shape, classes, generator=seeded())


def stepped(objective: Objective, model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Take one training step."""
    return work(lambda: objective(model, x, y, generator=seeded()).total.backward())


def classes_step(name: str, quick: bool) -> dict[str, Any]:
    k = 20 if quick else 1000
    return stepped(methods("objectives")[name](), conv_net(k), *batch(32, (3, 32, 32), k))


def classes_measure(name: str, quick: bool) -> dict[str, Any]:
    k = 20 if quick else 1000
    x, y = batch(32, (3, 32, 32), k)
    return work(lambda: methods("measures")[name]()(conv_net(k).eval(), x, y))


def classes_evaluate(quick: bool) -> dict[str, Any]:
    k = 20 if quick else 1000
    x, _ = batch(64, (3, 32, 32), k)
    model = conv_net(k).eval()
    return work(lambda: evaluate(model, x, model(x).argmax(1), suite="quick", checks=()))


def large_step(name: str, quick: bool) -> dict[str, Any]:
    """Take one step at B = 2, on SiLU where the objective refuses ReLU."""
    objective = methods("objectives")[name]()
    size, k = (16, 10) if quick else (224, 1000)
    x, y = batch(2, (3, size, size), k)
    for activation in ("relu", "silu"):
        with suppress(UserError):
            return stepped(objective, resnet(quick, activation), x, y) | {"activation": activation}
    return {"ended": "refused"}


def large_evaluate(quick: bool) -> dict[str, Any]:
    size, k = (16, 10) if quick else (224, 1000)
    x, _ = batch(4, (3, size, size), k)
    model = resnet(quick, "relu").eval()
    y = torch.cat([model(part).argmax(1).detach() for part in x.split(2)])
    return work(lambda: evaluate(model, x, y, attacks=[FGSM()], checks=(), batch_size=2))


# Images on disk


def folder_of(root: Path, images: int, size: int) -> None:
    """Write PNG files of noise, the same few again and again, into two classes of training and one test image each."""
    from PIL import Image

    pixels = torch.randint(256, (8, size, size, 3), dtype=torch.uint8, generator=seeded()).numpy()
    for split, n in (("train", images), ("test", 2)):
        for i in range(n):
            (root / split / f"class{i % 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[i % 8]).save(root / split / f"class{i % 2}" / f"{i}.png", compress_level=0)


def loaded(quick: bool, again: bool) -> dict[str, Any]:
    """Load an image folder, decoding it or from the cache; its training split holds out 5 % for validation."""
    images, size = (40, 32) if quick else (4000, 224)
    with TemporaryDirectory() as folder:
        os.environ["MESETA_CACHE"] = str(Path(folder) / "cache")
        folder_of(root := Path(folder) / "images", images, size)
        code = f"from meseta.data import DataConfig; DataConfig(source={str(root)!r}).load()"
        if again:
            subprocess.run([sys.executable, "-c", code], check=True)
        decoded = images * size * size * 3 / MIB
        found = work(lambda: DataConfig(source=str(root)).load())
        return found | {"decoded_mib": decoded, "times": found["beyond_mib"] / decoded}


# A thousand steps


def growth(name: str, quick: bool) -> dict[str, Any]:
    """Return by how much live tensors and the peak grew between some steps to warm up and the last."""
    torch.manual_seed(SEED)
    model = nn.Sequential(nn.Linear(64, 256), nn.SiLU(), nn.Linear(256, 4))
    x, y, generator = torch.rand(2, 64), torch.tensor([0, 3]), seeded()
    objective, optimizer = methods("objectives")[name](), torch.optim.Adam(model.parameters())

    def steps(n: int) -> tuple[int, float]:
        for _ in range(n):
            optimizer.zero_grad()
            objective(model, x, y, generator=generator).total.backward()
            optimizer.step()
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()), peak()

    n, began = 20 if quick else 1000, perf_counter()
    tensors, mib = steps(n // 10)
    then, later = steps(n - n // 10)
    return {"steps": n, "tensors": then - tensors, "grown_mib": later - mib, "seconds": perf_counter() - began}


def cases() -> dict[str, dict[str, Case]]:
    """Return what is measured, by section and name."""

    def of(kind: str, case: Callable[[str, bool], dict[str, Any]]) -> dict[str, Case]:
        return {name: lambda quick, name=name: case(name, quick) for name in sorted(methods(kind))}

    large = {name: case for name, case in of("objectives", large_step).items() if name in LARGE}
    return {
        "A million rows": {
            "evaluate, from a tensor": lambda quick: evaluated(quick, streamed=False),
            "evaluate, from a loader": lambda quick: evaluated(quick, streamed=True),
            "measure, from a loader": measured,
        },
        "An image folder": {
            "decoded": lambda quick: loaded(quick, again=False),
            "from the cache": lambda quick: loaded(quick, again=True),
        },
        "A thousand steps": of("objectives", growth),
        "A thousand classes: a step of every objective": of("objectives", classes_step),
        "A thousand classes: every measure": of("measures", classes_measure),
        "A thousand classes: an evaluation": {"quick suite": classes_evaluate},
        "Inputs of 3×224×224: a training step": large,
        "Inputs of 3×224×224: an evaluation": {"FGSM": large_evaluate},
    }


def child(section: str, name: str, quick: bool, threads: int, out: str) -> None:
    """Run one case in this process and write what it found to `out`."""
    torch.set_num_threads(threads)
    Path(out).write_text(json.dumps(cases()[section][name](quick)))


def run(section: str, name: str, quick: bool) -> dict[str, Any]:
    """Return what a case found in a fresh process, with its peak in GiB and what became of it."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        arguments = (section, name, quick, torch.get_num_threads(), str(out))
        process = in_a_process(f"import load; load.child(*{arguments!r})", limit=LIMIT, most=SECONDS)
        found = json.loads(out.read_text()) if out.exists() else {}
    ended = found.pop("ended", "") if process.code == 0 else ending(process.code, process.error)
    return {"gib": process.gib, "ended": ended, **found}


def ending(code: int, error: str) -> str:
    """Return why a process gave no result."""
    if "allocate memory" in error or "MemoryError" in error:
        return f"wanted more than {LIMIT:g} GiB"
    if code < 0:
        return f"stopped after {SECONDS} s"
    return error.strip().splitlines()[-1][:80] if error.strip() else f"exit code {code}"


COLUMNS = {
    "gib": ("peak GiB", "{:.2f}"),
    "before_mib": ("MiB before", "{:.0f}"),
    "beyond_mib": ("MiB beyond", "{:.1f}"),
    "rows": ("rows", "{:,}"),
    "ledger_mib": ("ledger MiB", "{:.1f}"),
    "ledger_disk_mib": ("on disk", "{:.1f}"),
    "ledger_files": ("files", "{:,}"),
    "section_mib": ("section of the record, MiB", "{:.1f}"),
    "decoded_mib": ("decoded MiB", "{:.0f}"),
    "times": ("beyond / decoded", "{:.2f}"),
    "steps": ("steps", "{}"),
    "tensors": ("live tensors more", "{:+d}"),
    "grown_mib": ("peak more, MiB", "{:+.2f}"),
    "activation": ("activation", "{}"),
    "seconds": ("seconds", "{:.1f}"),
    "ended": ("", "{}"),
}


def shown(found: dict[str, dict[str, Any]]) -> str:
    """Return a table with the columns that some case has."""
    keys = [key for key in COLUMNS if any(of.get(key) not in (None, "") for of in found.values())]
    rows = [
        [name, *[COLUMNS[key][1].format(of[key]) if key in of else "" for key in keys]] for name, of in found.items()
    ]
    return table(["", *[COLUMNS[key][0] for key in keys]], rows)


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    found: dict[str, dict[str, dict[str, Any]]] = {}
    text = (
        f"float32, {torch.get_num_threads()} threads, one process a case. Rows have 20 numbers; 1000 classes are those "
        "of a small conv net on 3×32×32 at B = 32; 3×224×224 is an untrained `ResNet18` with 1000 classes at B = 2."
    )
    for section, of in cases().items():
        found[section] = {name: run(section, name, given.quick) for name in of}
        text += f"\n\n## {section}\n\n{shown(found[section])}"
    Page("Memory under load", found, text).write("load", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
