"""SOAR's figures of the loss along a direction, beside its expansions."""

from abc import ABC
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from meseta.autodiff import CrossEntropy, ScalarField
from meseta.errors import UserError
from meseta.evaluation.record import Profile, Record, read_record
from meseta.geometry import Expansion
from meseta.looking import ProfileConfig, check_indices, profile_run
from meseta.papers.base import PaperFigure
from meseta.report.comparison import Run as Shown
from meseta.report.comparison import runs_of, slug
from meseta.report.figure import Figure, LineFigure, PanelFigure
from meseta.report.profiles import profile_panel
from meseta.threat import Threat
from meseta.workflow import Run, SplitName


@dataclass(frozen=True, kw_only=True)
class _Expansions(PaperFigure, ABC):
    """What both figures share."""

    eps: float = 8 / 255
    direction: Literal["random", "gradient"] = "random"
    h: tuple[float, ...] = (0.03, 1.0)
    field: ScalarField = CrossEntropy()
    split: SplitName = "test"
    seed: int = 0

    @property
    def expansion(self) -> Expansion:
        """What is drawn, as the library has it."""
        return Expansion(
            field=self.field,
            threat=Threat("Linf", self.eps),
            direction=self.direction,
            h=self.h,
            seed=self.seed,
        )

    def _take(self, runs: Sequence[Run], indices: Sequence[int], say: Callable[[str], object]) -> None:
        for run in runs:
            kept = read_record(run.folder)
            missing = tuple(index for index in dict.fromkeys(indices) if self._profile(kept, index) is None)
            if missing:
                run.chosen(self.split, missing)  # which refuses an index before any is announced
                say(f"{kept.name}: expanding at {len(missing)} examples")
                profile_run(run, ProfileConfig(expansion=self.expansion, indices=missing, split=self.split))

    def _profile(self, record: Record, index: int) -> Profile | None:
        wanted = repr(self.expansion), self.split, index
        return next((one for one in record.profiles if (one.settings, one.split, one.index) == wanted), None)

    def _panel(self, run: Shown, index: int, title: str) -> LineFigure:
        one = self._profile(run.record, index)
        if one is None:
            raise UserError(
                f"`records`: {run.label} lacks the expansion at {self.split} example {index}. "
                f"`meseta figure {type(self).__name__} RUN` takes it."
            )
        return replace(profile_panel(run, one, f"{slug(run.label)}-{index}"), title=title)

    @property
    def _direction(self) -> str:
        """What lies along t, for titles."""
        return "the gradient's sign" if self.direction == "gradient" else "a random direction"


@dataclass(frozen=True, kw_only=True)
class Soar1(_Expansions):
    """The loss along a direction beside its second-order expansions, exact and by finite differences.

    The paper expands at one training example along a random direction. It sees the exact Hessian miss the loss, and the
    difference at a larger h come closer: the classifier is so confident at x that nothing bends there.

    Args:
        index: of the example in its split.
        eps: of the L∞ ball that the step lies in; 8/255. The step's own length is on the axis.
        direction: "random", or "gradient" for the steepest step.
        h: the radii of the differences, L2.
        field: the loss, or another field.
        split: "test", "val" or "train".
        seed: of the random direction.

    Source: Ma 2020 (SOAR), Figure 1, whose caption gives the formulas (`Expansion`) and colours the exact loss and the
    difference both "Red". Differs: a test example unless `split` says train; first order as well; two h, since none is
    given: the largest that SOAR trains with, which sees no more than the exact Hessian does, and 1, which is about the
    L2 length of the step on CIFAR-10 and does better there (`Expansion`). On smaller inputs the step is shorter, at
    most 0.88 on MNIST, and h = 1 looks beyond it: give h of the length on the axis.
    """

    index: int = 0

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Expand at the example on every run that lacks it."""
        self._take(runs, (self.index,), say)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a panel for each run."""
        panels = [self._panel(run, self.index, run.short) for run in runs_of(records)]
        title = f"{type(self.field).__name__} along {self._direction}, {self.split} example {self.index}"
        return PanelFigure(self.key, title, in_rows(panels, 3))


@dataclass(frozen=True, kw_only=True)
class Soar4(_Expansions):
    """The loss along a direction beside its expansions, at several examples: Figure 1 with other initial points.

    Args:
        indices: of the examples in their split.
        eps: of the L∞ ball that the step lies in; 8/255. The step's own length is on the axis.
        direction: "random", or "gradient" for the steepest step.
        h: the radii of the differences, L2.
        field: the loss, or another field.
        split: "test", "val" or "train".
        seed: of the random direction, which all examples share.

    Source: Ma 2020 (SOAR), Figure 4. Differs: as `Soar1`.
    """

    indices: tuple[int, ...] = (1, 2, 3, 4, 5, 6)

    def __post_init__(self) -> None:
        check_indices(self.indices)

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Expand at the examples on every run that lacks them."""
        self._take(runs, self.indices, say)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a row of panels for each example, one for each run; of a single run three examples in a row."""
        runs = runs_of(records)
        panels = [
            self._panel(
                run, index, f"{run.short}, example {index}" if len(runs) > 1 else f"{self.split} example {index}"
            )
            for index in self.indices
            for run in runs
        ]
        of = f", {runs[0].short}" if len(runs) == 1 else f", {self.split}"
        title = f"{type(self.field).__name__} along {self._direction}{of}"
        return PanelFigure(self.key, title, in_rows(panels, 3 if len(runs) == 1 else len(runs)))


def in_rows(panels: Sequence[LineFigure], most: int) -> tuple[tuple[LineFigure, ...], ...]:
    """Return the panels in rows of at most so many."""
    return tuple(tuple(panels[i : i + most]) for i in range(0, len(panels), most))
