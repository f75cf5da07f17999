"""Robust accuracy and time of AutoAttack's standard version, as pyautoattack runs it, beside meseta's own suite.

    python benchmarks/autoattack.py RUN [RUN:EPS ...] --norm Linf --eps 8/255 --n 1000

Both attack the same images of the same trained models, one after the other in an order drawn anew for each round, and
whatever either finds goes before the same judge. AutoAttack has its full budgets and batches of 250.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, SEED, Options, Page, Spread, interleaved, ratios, table, trained
from torch import Tensor, nn

from meseta.attacks import AutoAttack
from meseta.evaluation import evaluate, provenance
from meseta.evaluation.judge import judge_attack
from meseta.threat import Threat
from meseta.workflow import load_run

BATCH = 250
THEIRS, OURS = "AutoAttack", "meseta"


@dataclass(frozen=True)
class Model:
    """A trained model with the images that it is attacked on."""

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    threat: Threat


Search = Callable[[Model], tuple[float, float]]
"""Clean and robust accuracy of a model."""


@dataclass(frozen=True)
class Result:
    """What both found on one model: accuracies in [0, 1], of all images; times of all rounds.

    Attributes:
        points: ours - theirs, in percentage points: below 0 where our suite breaks more.
        ratio: our time over theirs in the same round.
    """

    model: str
    eps: float
    n: int
    clean: float
    robust: dict[str, float]
    points: float
    seconds: dict[str, Spread]
    ratio: Spread


def by_autoattack(of: Model, attack: AutoAttack) -> tuple[float, float]:
    """Return clean and robust accuracy; all images at once, so that those still standing share batches."""
    generator = torch.Generator().manual_seed(SEED)
    found = attack.against(of.threat)(of.model, of.x, of.y, generator=generator)
    clean, robust = (1 - judge_attack(of.model, of.x, of.y, p, of.threat).broken.float().mean() for p in (of.x, found))
    return float(clean), float(robust)


def by_suite(of: Model, suite: str) -> tuple[float, float]:
    """Return clean and robust accuracy by one of meseta's suites, after all masking checks."""
    found = evaluate(of.model, of.x, of.y, threat=of.threat, suite=suite, batch_size=BATCH, seed=SEED)
    return found.clean_accuracy, found.robust[0].worst_case


def compare(of: Model, calls: dict[str, Search], rounds: int) -> Result:
    """Run both on one model, interleaved; accuracies are those of the last round, which a seed makes those of all."""
    found: dict[str, tuple[float, float]] = {}

    def run(name: str) -> None:
        found[name] = calls[name](of)

    times = interleaved({name: lambda name=name: run(name) for name in calls}, rounds, warm_up=0)
    robust = {name: accuracy for name, (_, accuracy) in found.items()}
    return Result(
        of.name,
        of.threat.eps,
        len(of.y),
        found[OURS][0],
        robust,
        100 * (robust[OURS] - robust[THEIRS]),
        {name: Spread.of(seconds) for name, seconds in times.items()},
        ratios(times, THEIRS)[OURS],
    )


def models(runs: list[str], threat: Threat, n: int, quick: bool) -> list[Model]:
    """Return the models of these runs with their first n test images; without runs, the network of all benchmarks."""
    if not runs:
        net = trained(quick)
        return [Model("SiluCnn", net.model, *net.test(n), threat)]
    found = []
    for text in runs:
        folder, _, eps = text.partition(":")
        run = load_run(Path(folder))
        own = replace(threat, eps=float(Fraction(eps))) if eps else threat
        found.append(Model(f"{run.folder.parent.name}/{run.folder.name}", run.model, *run.data.test[:n], own))
    return found


def main(
    given: Options,
    threat: Threat = Threat("Linf", 0.1),
    runs: list[str] | None = None,
    n: int = 1000,
    suite: str = "standard",
    rounds: int = 1,
) -> None:
    stop = provenance.start(SEED, "cpu")
    attack = AutoAttack(threat=threat, batch_size=BATCH, **({"steps": 3, "queries": 20} if given.quick else {}))
    calls: dict[str, Search] = {
        THEIRS: lambda of: by_autoattack(of, attack),
        OURS: lambda of: by_suite(of, suite),
    }
    chosen = models(runs or [], threat, 20 if given.quick else n, given.quick)
    results = [compare(of, calls, rounds) for of in chosen]
    rows = [
        [
            of.model,
            f"{of.eps:.4g}",
            f"{of.n}",
            f"{of.clean:.1%}",
            f"{of.robust[THEIRS]:.1%}",
            f"{of.robust[OURS]:.1%}",
            f"{of.points:+.1f}",
            f"{of.seconds[THEIRS].median:.0f}",
            f"{of.seconds[OURS].median:.0f}",
            f"{of.ratio.median:.2f}",
        ]
        for of in results
    ]
    header = ["model", "eps", "n", "clean", THEIRS, OURS, "points", f"{THEIRS}, s", f"{OURS}, s", "ratio of times"]
    text = (
        f"{threat.norm}. `{attack.name}` through pyautoattack; meseta's suite `{suite}`, its time with that of the "
        f"masking checks on the first 100 images; {rounds} round(s), batches of {BATCH}. Robust accuracy is that of "
        "`meseta.evaluation.judge` on the first n test images; points below 0 say that meseta's suite breaks more."
    )
    measured: dict[str, Any] = {"norm": threat.norm, "suite": suite, "autoattack": repr(attack), "rounds": rounds}
    measured["results"] = results
    page = Page("AutoAttack beside meseta's own suite", measured, f"{text}\n\n{table(header, rows)}")
    page.write(f"autoattack-{threat.norm}", given, stop)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help="RUN or RUN:EPS, folders of runs; one small network if left out")
    parser.add_argument("--norm", default="Linf", choices=("Linf", "L2", "L1"))
    parser.add_argument("--eps", default=Fraction("0.1"), type=Fraction, help="for example 8/255")
    parser.add_argument("--n", default=1000, type=int, help="test images")
    parser.add_argument("--suite", default="standard", help="meseta's suite")
    parser.add_argument("--rounds", default=1, type=int)
    parser.add_argument("--quick", action="store_true", help="tiny settings, to see that it runs")
    parser.add_argument("--out", type=Path, help="folder of the results; benchmarks/results if left out")
    return parser.parse_args()


if __name__ == "__main__":
    of = arguments()
    main(
        Options(of.quick, of.out or (RESULTS / "quick" if of.quick else RESULTS)),
        Threat(of.norm, float(of.eps)),
        of.runs,
        of.n,
        of.suite,
        of.rounds,
    )
