"""The surfaces of Yu 2018: Figures 1 to 4, 6, 7, 9 and 11 to 14."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from meseta.attacks import PGD, Attack
from meseta.autodiff.scalar_fields import CrossEntropy, Decision, ScalarField
from meseta.checks import whole
from meseta.errors import UserError
from meseta.evaluation.record import Record, Surface, read_record
from meseta.evaluation.surfaces import field_name
from meseta.looking import SurfaceConfig, check_same_example, largest_eps, surface_runs
from meseta.papers.base import PaperFigure
from meseta.report.comparison import runs_of
from meseta.report.figure import PanelFigure
from meseta.report.surfaces import at_the_example, caveats, common_span, panel
from meseta.surfaces import Adversarial, Axis, Random
from meseta.threat import Norm
from meseta.workflow import Run

LOSS, DECISION = CrossEntropy(), Decision()


@dataclass(frozen=True)
class Cell:
    """One panel: which run, which surface, which of its fields, and whether as a relief."""

    run: int
    config: SurfaceConfig
    field: ScalarField
    title: str
    relief: bool = False


@dataclass(frozen=True, kw_only=True)
class SurfacePanels(PaperFigure):
    """Panels of surfaces; those of one field in one space have one scale of colours.

    Args:
        indices: of the test examples that are looked at.
        norm: in which the axes have length 1.
        eps: of the ball that is outlined; None for the largest that the first run was evaluated at in this norm.
        span: the largest coordinate; None for three times eps.
        clipped: bring points that leave the valid inputs back to them, entry by entry.
        resolution: points along each axis of inputs. parameter_resolution: the same over parameters.
        n: examples whose mean loss is shown over parameters.
    """

    many: ClassVar[bool] = False
    """Whether it shows several examples."""
    title: ClassVar[str] = ""

    indices: tuple[int, ...] = (0,)
    norm: Norm = "Linf"
    eps: float | None = None
    span: float | None = None
    clipped: bool = False
    resolution: int = 101
    parameter_resolution: int = 31
    n: int = 256

    def __post_init__(self) -> None:
        if not self.indices or (len(self.indices) > 1 and not self.many):
            count = "at least one index" if self.many else "one index"
            raise UserError(f"`indices` of {type(self).__name__} must hold {count}, got {self.indices!r}.")
        for index in self.indices:
            whole("indices", index, 0)
        self.at(self.indices[0])  # whose settings are checked there

    @abstractmethod
    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return the panels, row by row, for runs of these names."""

    def at(self, index: int, *axes: Axis, path: bool = True, attack: Attack | None = None) -> SurfaceConfig:
        """Return the surface around an example, along axes of each run's own."""
        return SurfaceConfig(
            index=index,
            axes=axes or None,
            fields=(LOSS, DECISION),
            norm=self.norm,
            eps=self.eps,
            span=self.span,
            resolution=self.resolution,
            clipped=self.clipped,
            path=path,
            attack=attack,
            own_axes=True,
        )

    def over_parameters(self) -> SurfaceConfig:
        """Return the loss over the parameters, filter-normalised."""
        return SurfaceConfig(space="parameters", fields=(LOSS,), resolution=self.parameter_resolution, n=self.n)

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Look at the surfaces that the runs' records do not hold yet."""
        settled = self._settled(runs[0].record)
        cells = [cell for row in settled.cells([run.record.name for run in runs]) for cell in row]
        needed = list(dict.fromkeys((cell.config, cell.run) for cell in cells))
        for config, run in needed:
            check_same_example(runs[run], runs[0], config)
        for config, run in needed:
            if _find(read_record(runs[run].folder), config) is None:
                where = "the parameters" if config.space == "parameters" else f"example {config.index}"
                say(f"{runs[run].record.name}: looking around {where}")
                surface_runs([runs[run]], config)

    def draw(self, records: Sequence[Record]) -> PanelFigure:
        """Return the panels."""
        named = runs_of(records)
        rows = [
            [(cell, self._surface(records[cell.run], cell)) for cell in row]
            for row in self._settled(records[0]).cells([run.short for run in named])
        ]
        flat = [both for row in rows for both in row]
        self._check_same_examples([surface for _, surface in flat])
        panels = iter(
            panel(
                surface,
                field_name(cell.field),
                _span(flat, cell),
                key=f"{self.key}-{number}",
                title=cell.title,
                relief=cell.relief,
            )
            for number, (cell, surface) in enumerate(flat)
        )
        in_rows = tuple(tuple(next(panels) for _ in row) for row in rows)
        off = [surface.path.off for cell, surface in flat if surface.path and not cell.relief]
        notes = _notes([(named[cell.run].short, surface) for cell, surface in flat], off)
        return PanelFigure(self.key, self.title, in_rows, notes)

    def _settled(self, first: Record) -> Self:
        """Return the same with the eps of the first run, so that all runs are seen at one."""
        return self if self.eps is not None else replace(self, eps=largest_eps(first, self.norm))

    def _surface(self, record: Record, cell: Cell) -> Surface:
        found = _find(record, cell.config)
        if found is None:
            raise UserError(
                f"record: {record.name} lacks the surfaces of {type(self).__name__}. "
                f"`meseta figure {type(self).__name__} RUN...` looks at them."
            )
        return found

    def _check_same_examples(self, surfaces: Sequence[Surface]) -> None:
        examples = {(one.index, one.example) for one in surfaces if one.space == "input"}
        if len(examples) > len({index for index, _ in examples}):
            raise UserError("`run`: the runs are not of the same data: an example is not the same in all of them.")


def _find(record: Record, config: SurfaceConfig) -> Surface | None:
    return next((one for one in record.surfaces if one.settings == repr(config)), None)


def _span(flat: Sequence[tuple[Cell, Surface]], cell: Cell) -> tuple[float, float]:
    like = (one for other, one in flat if (other.field, other.config.space) == (cell.field, cell.config.space))
    return common_span(like, field_name(cell.field))


def _notes(shown: Sequence[tuple[str, Surface]], off: Sequence[float]) -> tuple[str, ...]:
    """Return what a reader must know of all the panels, each once; `off` tells how far paths on maps leave them."""
    surfaces = [surface for _, surface in shown]
    inputs = sorted({(one.index, one.label) for one in surfaces if one.index is not None and one.label is not None})
    examples = [f"example {index} (label {label})" for index, label in inputs]
    notes = [f"Test {', '.join(examples)}."] if examples else []
    notes += [*caveats(surfaces), "Panels of one field share a scale of colours."]
    if off:
        least, most = round(100 * min(off)), round(100 * max(off))
        share = f"{least}" if least == most else f"{least} to {most}"
        notes.append(f"Paths are seen from above: {share} % of their way is off the planes.")
    wrong = (f"{name} {at_the_example(one)} (example {one.index})." for name, one in shown if at_the_example(one))
    return (" ".join(notes), *dict.fromkeys(wrong))


RANDOM = (Random(), Random())
ADVERSARIAL = (Random(), Adversarial())


@dataclass(frozen=True, kw_only=True)
class Yu1(SurfacePanels):
    """A network's loss over its parameters, wide and flat, and over its inputs, which is neither.

    Source: Yu 2018, Figure 1. Differs: inputs are seen along a random and an adversarial axis; the paper does not say
    along which.
    """

    title: ClassVar[str] = "The loss over parameters and over inputs"

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return the two reliefs of each run."""
        return [
            [
                Cell(i, self.over_parameters(), LOSS, f"{run}: parameters", relief=True),
                Cell(i, self.at(self.indices[0], *ADVERSARIAL), LOSS, f"{run}: inputs", relief=True),
            ]
            for i, run in enumerate(runs)
        ]


@dataclass(frozen=True, kw_only=True)
class Yu2(SurfacePanels):
    """Loss surfaces over parameters of natural and robust models, which do not differ clearly.

    Source: Yu 2018, Figure 2. Differs: filter-normalised random axes, the mean over `n` test examples.
    """

    title: ClassVar[str] = "The loss over parameters"
    least_runs: ClassVar[int] = 2

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return a row of reliefs, and one of maps."""
        return _relief_and_map(runs, self.over_parameters())


@dataclass(frozen=True, kw_only=True)
class Yu3(SurfacePanels):
    """Loss surfaces over inputs of the same models, where the natural one's valley is narrow.

    Source: Yu 2018, Figure 3. Differs: a random and an adversarial axis; the paper does not say which.
    """

    title: ClassVar[str] = "The loss over inputs"
    least_runs: ClassVar[int] = 2

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return a row of reliefs, and one of maps."""
        return _relief_and_map(runs, self.at(self.indices[0], *ADVERSARIAL))


def _relief_and_map(runs: Sequence[str], config: SurfaceConfig) -> list[list[Cell]]:
    return [[Cell(i, config, LOSS, run, relief) for i, run in enumerate(runs)] for relief in (True, False)]


@dataclass(frozen=True, kw_only=True)
class Yu4(SurfacePanels):
    """Loss and decision surfaces of a model along a random axis and three adversarial ones.

    Source: Yu 2018, Figure 4. Differs: the adversarial axes go where attacks do; equation 3, as printed, goes the other
    way in the first, and the caption's "descent direction" of it in the other two. Paths are those of 20 steps of
    PGD on the loss of the panel; there is none towards the least likely class.
    """

    title: ClassVar[str] = "Loss and decision function, seen along the first steps of three attacks"

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return for each run a row of the loss, and one of the decision function."""
        ways = {
            "random": Random(),
            "cross-entropy": Adversarial(),
            "least likely class": Adversarial(target="least_likely"),
            "C&W margin": Adversarial(field=DECISION),
        }
        attacks = {"cross-entropy": LOSS, "C&W margin": DECISION}
        configs = {
            name: self.at(
                self.indices[0],
                Random(),
                axis,
                path=name in attacks,
                attack=PGD(steps=20, random_start=False, loss=attacks[name]) if name in attacks else None,
            )
            for name, axis in ways.items()
        }
        return [
            [Cell(i, config, field, _join(run if len(runs) > 1 else "", name)) for name, config in configs.items()]
            for i, run in enumerate(runs)
            for field in (LOSS, DECISION)
        ]


@dataclass(frozen=True, kw_only=True)
class _Projections(SurfacePanels):
    """The decision function of each run, a row each, along two random axes and along an adversarial one."""

    title: ClassVar[str] = "Decision surfaces, random and adversarial"
    least_runs: ClassVar[int] = 2

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return a row for each run."""
        names = {"random": RANDOM, "adversarial": ADVERSARIAL}
        return [
            [Cell(i, self.at(self.indices[0], *axes), DECISION, f"{run}: {name}") for name, axes in names.items()]
            for i, run in enumerate(runs)
        ]


@dataclass(frozen=True, kw_only=True)
class Yu6(_Projections):
    """Decision surfaces on MNIST; the robust model's plateau is flat as far as its ball, 0.3.

    Source: Yu 2018, Figure 6.
    """

    eps: float | None = 0.3
    span: float | None = 0.6


@dataclass(frozen=True, kw_only=True)
class Yu7(_Projections):
    """Decision surfaces on CIFAR-10; the natural model's has sharp peaks.

    Source: Yu 2018, Figure 7.
    """

    eps: float | None = 8 / 255


@dataclass(frozen=True, kw_only=True)
class Yu9(_Projections):
    """Decision surfaces of a natural model and of one regularised by its decision gradient.

    Source: Yu 2018, Figure 9.
    """


@dataclass(frozen=True, kw_only=True)
class Yu11(SurfacePanels):
    """The loss has large blank regions where the decision function still says something.

    Two random planes through one example, the loss above, the decision function below.

    Source: Yu 2018, Figure 11.
    """

    title: ClassVar[str] = "Loss and decision function on two random planes"

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return two rows for each run."""
        planes = [self.at(self.indices[0], Random(seed=seed), Random(seed=seed)) for seed in (0, 1)]
        return [
            [Cell(i, plane, field, f"{run}: plane {number + 1}") for number, plane in enumerate(planes)]
            for i, run in enumerate(runs)
            for field in (LOSS, DECISION)
        ]


@dataclass(frozen=True, kw_only=True)
class Yu12(SurfacePanels):
    """Loss and decision surface of a robust model, which have the opposite geometry.

    Source: Yu 2018, Figure 12.
    """

    title: ClassVar[str] = "Loss and decision function of one model"
    many: ClassVar[bool] = True
    indices: tuple[int, ...] = (0, 1)

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return two rows for each run, a column for each example."""
        return [
            [Cell(i, self.at(index, *ADVERSARIAL), field, f"{run}: example {index}") for index in self.indices]
            for i, run in enumerate(runs)
            for field in (LOSS, DECISION)
        ]


@dataclass(frozen=True, kw_only=True)
class Yu13(SurfacePanels):
    """A natural model along random axes and along an adversarial one, on several examples.

    Source: Yu 2018, Figure 13.
    """

    title: ClassVar[str] = "Random and adversarial projections"
    many: ClassVar[bool] = True
    indices: tuple[int, ...] = (0, 1)

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return four rows for each run, a column for each example."""
        names = {"random": RANDOM, "adversarial": ADVERSARIAL}
        return [
            [Cell(i, self.at(index, *axes), field, f"{_join(run, name)}, example {index}") for index in self.indices]
            for i, run in enumerate(runs)
            for name, axes in names.items()
            for field in (LOSS, DECISION)
        ]


@dataclass(frozen=True, kw_only=True)
class Yu14(SurfacePanels):
    """Natural and robust models along an adversarial axis, on several examples.

    Source: Yu 2018, Figure 14.
    """

    title: ClassVar[str] = "Adversarial projections"
    many: ClassVar[bool] = True
    least_runs: ClassVar[int] = 2
    indices: tuple[int, ...] = (0, 1)

    def cells(self, runs: Sequence[str]) -> list[list[Cell]]:
        """Return a row for each run, a column for each example."""
        return [
            [Cell(i, self.at(index, *ADVERSARIAL), DECISION, f"{run}: example {index}") for index in self.indices]
            for i, run in enumerate(runs)
        ]


def _join(*words: str) -> str:
    return ": ".join(word for word in words if word)
