"""Where reproductions work: runs are trained, attacked, measured and drawn once; a second call finds them done."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from meseta.attacks import FGSM, Attack
from meseta.checks import whole
from meseta.comparing import keep_certified, keep_evaluated, keep_measured, keep_trained
from meseta.configuration import dump
from meseta.errors import Diverged, UserError, printable
from meseta.evaluation.masking import GradientHealth, MaskingCheck, OneStep
from meseta.evaluation.record import Evaluation, Record, Verdict, read_record
from meseta.evaluation.suites import Suite
from meseta.files import write_text
from meseta.objectives import AdversarialTraining, Objective, Scheduled
from meseta.papers import PaperFigure
from meseta.papers.attacked import alone, by_attacks, evaluations, radii_by_norm
from meseta.report.comparison import NORMS, eps_text, newcombe, wilson
from meseta.report.figure import Figure
from meseta.report.printed import save
from meseta.report.reproduced import Entry, Row
from meseta.schedules import LinearWarmup
from meseta.threat import Threat
from meseta.training import RunConfig, check_same
from meseta.workflow import CertifyConfig, EvaluateConfig, MeasureConfig, SplitName, load_run

DIVERGED = "diverged.txt"
"""In the folder of a run whose training met a loss that is not finite: why."""
CHANCE = 15.0
"""Clean accuracy in % below which a model of ten classes has learnt next to nothing."""
COLLAPSED = "no better than chance: no claim is about it"
Say = Callable[[str], object]
FEW: tuple[MaskingCheck, ...] = (GradientHealth(), OneStep())
"""The checks of a lab that is not thorough."""


class Lab:
    """A folder of runs that belong together, and the work on them.

    Everything is kept: what an earlier call, or one that was interrupted, has finished is not done again, and a
    training that was interrupted goes on.

    Args:
        folder: of the runs, their figures and what was found.
        processes: how many trainings, or attacks on runs, are under way at once; the figures do not depend on it.
        thorough: whether runs are judged by the standard suite and all masking checks; else by the quick suite and two
            checks, which tell nothing but that everything runs.
        say: tells what is being done.
    """

    def __init__(self, folder: Path, *, processes: int = 1, thorough: bool = True, say: Say = print) -> None:
        whole("processes", processes, 1)
        self.folder = folder
        self.figures: dict[str, Figure] = {}
        """By key, as they were drawn."""
        self._processes = processes
        self._thorough = thorough
        self._say = say

    def train(self, *runs: RunConfig, may_diverge: bool = False) -> list[Path]:
        """Train runs and return their folders, in order.

        Args:
            runs: their `out` is the lab's.
            may_diverge: go on where a training meets a loss that is not finite; `has_diverged` tells such a folder.

        Raises:
            UserError: two runs of one name, or a folder that holds a run with other settings.
        """
        placed = [replace(run, out=str(self.folder / "runs")) for run in runs]
        names = [run.run_name for run in placed]
        if len(set(names)) < len(names):
            raise UserError(f"`runs`: {max(names, key=names.count)} is given twice. Name each training once.")
        for run in placed:
            if not (may_diverge and _diverged_before(run)):
                check_same(run)
        self._each(partial(_train, may_diverge), placed)
        return [_folder(run) for run in placed]

    def judge(
        self,
        runs: Sequence[Path],
        threat: Threat,
        *,
        n: int | None,
        suite: Suite = "standard",
        sources: Sequence[Path] = (),
        checked: int = 100,
    ) -> None:
        """Check runs for gradient masking and attack them with a suite: the evaluation that stands for each.

        `checked` of the first examples are examined by the checks.
        """
        config = EvaluateConfig(
            threats={threat.norm: (threat.eps,)},
            suite=suite if self._thorough else "quick",
            checks=None if self._thorough else FEW,
            checked=checked,
            sources=tuple(map(str, sources)),
            n=n,
            pictured=0,
        )
        self.evaluate(runs, config)

    def attack(
        self,
        runs: Sequence[Path],
        attacks: Sequence[Attack],
        threats: Sequence[Threat],
        *,
        n: int | None,
        split: SplitName = "test",
    ) -> None:
        """Attack runs, each attack on all examples at every threat, beside the evaluation that stands for them."""
        radii = radii_by_norm(threats)
        config = EvaluateConfig(threats=radii, attacks=tuple(attacks), checks=(), n=n, split=split, pictured=0)
        self.evaluate(runs, config, beside=True)

    def look(self, runs: Sequence[Path], threat: Threat) -> None:
        """Take the clean accuracy of runs, and FGSM's at a threat, on the whole test split."""
        self.attack(runs, [FGSM()], [threat], n=None)

    def evaluate(self, runs: Sequence[Path], config: EvaluateConfig, *, beside: bool = False) -> None:
        """Evaluate runs; `beside` keeps the evaluation that stands for them."""
        self._each(partial(_evaluate, config, beside), _standing(runs))

    def measure(self, runs: Sequence[Path], config: MeasureConfig) -> None:
        """Measure runs."""
        self._each(partial(_measure, config), _standing(runs))

    def certify(self, runs: Sequence[Path], config: CertifyConfig) -> None:
        """Take bounds on runs, and distances that attacks find."""
        self._each(partial(_certify, config), _standing(runs))

    def draw(self, figure: PaperFigure, runs: Sequence[Path], *, key: str = "") -> str:
        """Draw a figure of a paper from runs, measuring what their records lack, and return its key.

        Args:
            key: in place of the figure's own, for a second figure of its kind.
        """
        loaded = [load_run(run) for run in _standing(runs)]
        figure.check_runs(len(loaded))
        figure.take(loaded, self._say)
        drawn = figure.draw([read_record(run.folder) for run in loaded])
        return self.keep_figure(replace(drawn, key=key or drawn.key))

    def keep_figure(self, figure: Figure) -> str:
        """Write a figure as PDF and PNG, keep it for the page, and return its key."""
        save(figure, self.folder / "figures")
        self.figures[figure.key] = figure
        return figure.key

    def _each(self, work: Callable[[Any, Say], object], items: Sequence[Any]) -> None:
        """Do the work on every item, some at once; the first error is raised when those under way have ended."""
        if self._processes == 1 or len(items) < 2:
            for item in items:
                work(item, self._say)
            return
        futures = [self._workers.submit(work, item, _print) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            self._workers.shutdown(cancel_futures=True)
            raise

    @cached_property
    def _workers(self) -> ProcessPoolExecutor:
        """The other processes, started when first needed; they end with this one."""
        threads = max(1, torch.get_num_threads() // self._processes)
        return ProcessPoolExecutor(self._processes, get_context("spawn"), torch.set_num_threads, (threads,))


def grown(training: AdversarialTraining, warmup: float) -> Objective:
    """Let the radius and the step of an adversarial training grow from zero over its share `warmup`."""
    if not warmup:
        return training
    growth = LinearWarmup(until=warmup)
    return Scheduled(objective=training, schedules={"attack.threat.eps": growth, "attack.alpha": growth})


def has_diverged(run: Path) -> bool:
    """Return whether the training of a run met a loss that is not finite, so that there is no model."""
    return (run / DIVERGED).exists()


def held_out(run: Path) -> float | None:
    """Return the clean accuracy in % on the whole held-out split, as training saw it last; None of a diverged run."""
    if has_diverged(run):
        return None
    training = read_record(run).training
    value = training.metrics["val/accuracy"] if training else None
    return None if value is None else 100 * value


def training_seconds(run: Path) -> float:
    """Return the seconds of all training steps of a run."""
    training = read_record(run).training
    assert training is not None
    return training.seconds_per_epoch * training.epochs


def accuracies(
    runs: Sequence[Path],
    attack: Attack | None,
    threat: Threat | None = None,
    *,
    split: str = "test",
    most: int | None = None,
) -> list[float | None]:
    """Return the accuracy in % that an attack left of each run, clean ones without an attack; None of diverged runs.

    It is that of the evaluation of most examples of the split, of at most `most`: what stands beside an attack on the
    first n examples must be of those too.
    """
    return [None if has_diverged(run) else _accuracy(read_record(run), attack, threat, split, most) for run in runs]


def worst_cases(runs: Sequence[Path], attacks: Sequence[Attack], threat: Threat, *, split: str = "test") -> list[float]:
    """Return the accuracy in % that several attacks left of each run together, example by example."""
    return [100 * _found(read_record(run), attacks, threat, split).robust[0].worst_case for run in runs]


def judged(name: str, entries: Sequence[Entry], runs: Sequence[Path], threat: Threat, *, note: str = "") -> Row:
    """Return a row with the worst case and the masking verdict of its runs, one for each seed, at a threat.

    A seed that diverged has no worst case, so that the row has no mean; the verdict is that of the others.
    """
    found = [None if has_diverged(run) else read_record(run).evaluation for run in runs]
    went_through = [one for one, run in zip(found, runs, strict=True) if not has_diverged(run)]
    verdicts = [one.masking.verdict if one and one.masking else None for one in went_through]
    order: tuple[Verdict | None, ...] = ("broken", None, "suspicious", "trusted")
    return Row(
        name=name,
        entries=list(entries),
        worst_case=[_worst(one, threat) for one in found],
        verdict=min(verdicts, key=order.index, default=None),
        note=note,
    )


def judged_at(runs: Sequence[Path], threat: Threat) -> str:
    """Return in words what the worst case of runs is over: the threat, the suite and the number of examples."""
    found = [one for run in _standing(runs) if (one := read_record(run).evaluation)]
    suites = " or ".join(sorted({one.suite or "of chosen attacks" for one in found}))
    ns = sorted({one.n for one in found})
    n = " to ".join(map(str, ns[:: max(1, len(ns) - 1)]))
    return f"{NORMS[threat.norm]} {eps_text(threat.norm, threat.eps)}, suite {suites} and masking checks, n = {n}"


def best(runs: Sequence[Path], score: Callable[[Path], float | None]) -> Path | None:
    """Return the run of the highest score, the first of several; None where no run has one."""
    scored = [(value, run) for run in _standing(runs) if (value := score(run)) is not None]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def exceeds(first: float | None, second: float | None, n: int, *, by: float = 0.0) -> bool | None:
    """Return whether one accuracy in % of n examples is more than `by` points above another.

    None where chance alone may decide: where the 95 % interval of their difference holds `by` (`_between`).
    """
    if first is None or second is None:
        return None
    low, high = _between(first, second, n)
    return None if low <= by <= high else low > by


def alike(first: float | None, second: float | None, n: int, *, within: float) -> bool | None:
    """Return whether two accuracies in % of n examples are at most so many points apart.

    None where chance alone may decide: where the 95 % interval of their difference is neither inside nor outside.
    """
    if first is None or second is None:
        return None
    low, high = _between(first, second, n)
    if -within <= low and high <= within:
        return True
    return False if low > within or high < -within else None


def reaches(value: float | None, least: float, n: int) -> bool | None:
    """Return whether a share in % of n examples is at least so much; None where its 95 % interval holds the limit.

    A mean of n numbers from 0 to 1 varies no more than such a share.
    """
    if value is None:
        return None
    low, high = (100 * end for end in wilson(value / 100, n))
    return True if low >= least else False if high < least else None


def negated(answer: bool | None) -> bool | None:
    """Return the opposite answer; None stays open."""
    return None if answer is None else not answer


def _between(first: float, second: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two accuracies in %, by `newcombe`; both of n examples.

    It takes the examples as drawn anew for each, which is wide: of the same examples differences vary less.
    """
    low, high = newcombe(first / 100, n, second / 100, n)
    return 100 * low, 100 * high


def all_hold(answers: Iterable[bool | None]) -> bool | None:
    """Return whether all hold; None where one cannot be told and none fails."""
    given = list(answers)
    return False if False in given else None if None in given else True


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where any value is missing, or there is none."""
    present = [value for value in values if value is not None]
    return fmean(present) if present and len(present) == len(values) else None


def _accuracy(record: Record, attack: Attack | None, threat: Threat | None, split: str, most: int | None) -> float:
    record = _of_at_most(record, most)
    if attack is None:
        fitting = [one for one in evaluations(record) if one.split == split]
        if not fitting:
            raise UserError(f"record: {record.name} was not evaluated on {split} examples.")
        return 100 * max(fitting, key=lambda one: one.n).clean_accuracy
    threat = threat or attack.threat
    return 100 * alone(_found(record, [attack], threat, split), attack).robust[0].worst_case


def _of_at_most(record: Record, most: int | None) -> Record:
    """Return a record without the evaluations of more examples."""
    if most is None:
        return record
    kept = [one for one in evaluations(record) if one.n <= most]
    return record.model_copy(update={"evaluation": None, "other_evaluations": kept})


def _found(record: Record, attacks: Sequence[Attack], threat: Threat, split: str) -> Evaluation:
    found = by_attacks(record, attacks, [threat], split=split, others=True)
    if found is None:
        raise UserError(f"record: {record.name} was not attacked with {attacks} at {threat} on {split} examples.")
    return found


def _worst(evaluation: Evaluation | None, threat: Threat) -> float | None:
    radii = evaluation.robust if evaluation else []
    found = [one.worst_case for one in radii if (one.norm, one.eps) == (threat.norm, threat.eps)]
    return 100 * found[0] if found else None


def _standing(runs: Sequence[Path]) -> list[Path]:
    """Return the runs that did not diverge."""
    return [run for run in runs if not has_diverged(run)]


def _diverged_before(run: RunConfig) -> bool:
    """Return whether the folder of a run tells that it diverged, with just these settings."""
    if not has_diverged(_folder(run)):
        return False
    check_same(run)
    return True


def _folder(run: RunConfig) -> Path:
    return Path(run.out) / run.run_name


# Functions of the module, because other processes find them by name.


def _train(may_diverge: bool, run: RunConfig, say: Say) -> None:
    folder = _folder(run)
    if may_diverge and _diverged_before(run):
        return
    try:
        keep_trained(run, say=say)
    except Diverged as error:
        if not may_diverge:
            raise
        say(f"{run.run_name}: {error}")
        write_text(folder / "config.yaml", dump(run))
        write_text(folder / DIVERGED, f"{error}\n")


def _evaluate(config: EvaluateConfig, beside: bool, run: Path, say: Say) -> None:
    keep_evaluated(run, config, beside=beside, say=say)


def _measure(config: MeasureConfig, run: Path, say: Say) -> None:
    keep_measured(run, config, say=say)


def _certify(config: CertifyConfig, run: Path, say: Say) -> None:
    keep_certified(run, config, say=say)


def _print(text: str) -> None:
    print(printable(text), flush=True)
