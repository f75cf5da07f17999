"""Figures of Mei et al. 2022, HAAT: accuracy over the epochs of training, and against its settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from meseta.attacks import PGD, AutoAttack
from meseta.errors import UserError
from meseta.evaluation.record import Evaluation, Record
from meseta.evaluation.suites import Suite
from meseta.papers.attacked import counted, evaluations, masked, of_split
from meseta.papers.base import PaperFigure
from meseta.papers.sweeps import Sweep, sweep_figure, sweeps
from meseta.papers.watched import WatchedFigure, shared
from meseta.report.comparison import NORMS, eps_text, runs_of
from meseta.report.curves import (
    WORST,
    Logged,
    curves_over_epochs,
    epoch_figure,
    epoch_line,
    history,
    in_rows,
    upper_bounds,
)
from meseta.report.figure import Figure, LineFigure, PanelFigure
from meseta.threat import Threat
from meseta.training import Watch
from meseta.workflow import EvaluateConfig, Run, SplitName, evaluate_run

THREAT = Threat("Linf", 8 / 255)
WATCH = Watch(
    every=20, splits=("train", "val", "test"), attacks=(PGD(threat=THREAT, steps=10), AutoAttack(threat=THREAT))
)
"""What the figures over the epochs are drawn from, as near to the paper as it can be read: it keeps every 20th epoch
from the 10th on, a watch looks at the 20th, the 40th, ..."""


@dataclass(frozen=True, kw_only=True)
class WatchedAccuracies(WatchedFigure):
    """What both figures over the epochs share."""

    @property
    def watch(self) -> Watch:
        """What to train with."""
        return WATCH

    def is_drawn(self, one: Logged) -> bool:
        """Return whether this is an accuracy under attack; clean ones are drawn beside it."""
        return bool(one.attack)

    def _accuracies(self, records: Sequence[Record]) -> list[Logged]:
        """Return the accuracies that all records have, at least one of them under attack; no worst cases."""
        self.check_watched(records)
        shared(records, self.is_drawn)
        return shared(records, lambda one: one.is_accuracy and one.attack != WORST)


@dataclass(frozen=True, kw_only=True)
class Haat1(WatchedAccuracies):
    """Accuracy over the epochs of training with HAAT: training and validation examples, clean and under attack.

    The paper shows the best validation accuracy at epoch 89 of 200, and overfitting under AutoAttack after epoch 100.
    Runs: trained with `Haat` and watched every 20 epochs; a panel each.

    Source: Mei et al. 2022, figure 1. Differs: every accuracy that was watched is drawn, each under its own name, where
    the paper does not say which attack its validation accuracy is under; on the first examples of each split; after
    epochs 20, 40, ..., where the paper keeps epochs 10, 30, ...
    """

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a row for each run: clean accuracy, and accuracy under attack, a line for each split and attack."""
        rows: list[tuple[LineFigure, ...]] = []
        notes: list[str] = []
        self.check_watched(records)
        for run in runs_of(records):
            names = self._accuracies([run.record])
            clean = [one for one in names if not one.attack]
            panels = (
                self._panel(f"{self.key}-{run.style}-clean", f"{run.short}, clean", run.record, clean, 0),
                self._panel(
                    f"{self.key}-{run.style}-robust", f"{run.short}, under attack", run.record, names[len(clean) :], 3
                ),
            )
            rows.append(panels)
            notes += upper_bounds([run], names)
        return PanelFigure(self.key, "Accuracy over training", tuple(rows), tuple(notes))

    def _panel(self, key: str, title: str, record: Record, names: Sequence[Logged], first: int) -> LineFigure:
        values = history(record)
        lines = [epoch_line(str(one), k, values[one.name], percent=True) for k, one in enumerate(names, first)]
        return replace(epoch_figure(key, title, "accuracy (%)", lines, percent=True), of_attacks=True)


@dataclass(frozen=True, kw_only=True)
class Haat4(WatchedAccuracies):
    """Accuracy over the epochs of training, PGD training against HAAT: a panel for each split and attack.

    The paper shows both alike, HAAT a little better under AutoAttack.
    Runs: trained with `Haat` and with `AdversarialTraining`, watched alike.

    Source: Mei et al. 2022, figure 4 by its text, 3 by its caption; differs as `Haat1` does.
    """

    least_runs = 2

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a panel for each accuracy that all runs were watched for, a line for each run."""
        runs = runs_of(records)
        names = self._accuracies(records)
        panels = [curves_over_epochs(f"{self.key}-{k}", str(one), [one], runs) for k, one in enumerate(names)]
        return PanelFigure(self.key, "Accuracy over training", in_rows(panels, 3), upper_bounds(runs, names))


@dataclass(frozen=True, kw_only=True)
class _Tuning(PaperFigure):
    """Accuracy against one setting of HAAT, clean and under attack; several seeds give a spread.

    Args:
        eps: L∞.
        suite: what the runs that lack it are attacked with.
        n: the first so many examples; None for all.
        split: whose examples.
    """

    setting: ClassVar[str]
    """As the configuration of runs names it."""
    x_label: ClassVar[str]
    x_name: ClassVar[str]
    log_x: ClassVar[bool] = False
    eps: float = 8 / 255
    suite: Suite = "autoattack"
    n: int | None = None
    split: SplitName = "test"
    least_runs = 2

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Attack the runs that lack it with the suite."""
        for run in runs:
            found = self._evaluation(run.record)
            if found is None or found.n < len(run.examples(self.split, self.n)):
                say(f"{run.record.name}: attacking with the suite {self.suite}")
                config = EvaluateConfig(
                    threats={"Linf": (self.eps,)}, suite=self.suite, checks=(), split=self.split, n=self.n
                )
                evaluate_run(run, config, beside=True)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a line of clean accuracy and one under attack for each group of runs that differ in nothing else."""
        sorted_out = sweeps(records, self.setting, besides=["attack.guarded"])  # which rounding noise needs
        found = [sweep for sweep in sorted_out if len(sweep.values) > 1]
        if not found:
            raise UserError(
                f"`run`: no two runs are alike but for `{self.setting}` of their objective. Give runs "
                "trained with Haat at several of them."
            )
        lines: list[tuple[str, int, Sweep, Callable[[Record], float | None]]] = []
        for sweep in found:
            for part in sweep.apart("exact Hessian"):
                end = f", {part.name}" if len(found) > 1 else part.name.removeprefix(sweep.name)
                lines.append((f"clean{end}", len(lines), part, self._clean))
                lines.append((f"under attack{end}", len(lines), part, self._robust))
        figure = sweep_figure(
            self.key,
            f"HAAT against its {self.x_label}, suite {self.suite} at {NORMS['Linf']} {eps_text('Linf', self.eps)}",
            lines,
            x_label=f"{self.x_label} {self.x_name}",
            x_name=self.x_name,
            y_label="accuracy (%)",
            percent=True,
            log_x=self.log_x,
        )
        drawn = [record for sweep in found for group in sweep.records.values() for record in group]
        notes = (counted([self._needed(record) for record in drawn]), *figure.notes, *masked(drawn))
        ticks = {} if self.log_x else {x: f"{x:g}" for sweep in found for x in sweep.values}
        return replace(figure, of_attacks=True, notes=notes, ticks=ticks)

    def _clean(self, record: Record) -> float:
        return 100 * self._needed(record).clean_accuracy

    def _robust(self, record: Record) -> float:
        return next(100 * one.worst_case for one in self._needed(record).robust if self._is(one.norm, one.eps))

    def _is(self, norm: str, eps: float) -> bool:
        return norm == "Linf" and eps == self.eps

    def _evaluation(self, record: Record) -> Evaluation | None:
        """Return the evaluation by the suite on the split, of the most examples."""
        fitting = [
            one
            for one in evaluations(record)
            if (one.suite, one.split) == (self.suite, self.split)
            and any(self._is(robust.norm, robust.eps) for robust in one.robust)
        ]
        return max(fitting, key=lambda one: one.n) if fitting else None

    def _needed(self, record: Record) -> Evaluation:
        found = self._evaluation(record)
        if found is None:
            raise UserError(
                f"record: {record.name} was not attacked with the suite {self.suite} at {NORMS['Linf']} {self.eps:g} "
                f"on {self.split} examples. Measure it: meseta evaluate RUN --suite {self.suite} --norm Linf "
                f"--eps {self.eps!r}{of_split(self.split)}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Haat2(_Tuning):
    """Accuracy against the step of HAAT's finite difference; the paper finds 5e-6 the best under AutoAttack.

    Runs: trained with `Haat`, alike but for `attack.radius`.

    Source: Mei et al. 2022, figure 2 by its text, 2a by its caption. Differs: a run with the exact Hessian, of no step,
    is a line across.
    """

    setting: ClassVar[str] = "attack.radius"
    x_label: ClassVar[str] = "finite-difference step"
    x_name: ClassVar[str] = "ξ"
    log_x: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Haat3(_Tuning):
    """Accuracy against the steps of HAAT's solver; the paper finds 5 the best under AutoAttack.

    Runs: trained with `Haat`, alike but for `attack.solver.steps`.

    Source: Mei et al. 2022, figure 3 by its text, 2b by its caption. Differs: counts the products of the solver, of
    `PowerIteration` one more than the paper's k.
    """

    setting: ClassVar[str] = "attack.solver.steps"
    x_label: ClassVar[str] = "steps of the solver"
    x_name: ClassVar[str] = "k"
