"""What cheap estimates see of the curvature, and how the iterations behind them converge."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from meseta.autodiff import CrossEntropy, Decision, ScalarField
from meseta.errors import UserError
from meseta.evaluation.record import Curve, Measured, Record, read_record
from meseta.geometry import CurvatureEstimates, Measure, PowerConvergence
from meseta.papers.base import PaperFigure
from meseta.report.comparison import runs_of, slug
from meseta.report.figure import Figure, HistogramFigure, LineFigure, PanelFigure, Sample, Series
from meseta.workflow import MeasureConfig, Run, SplitName, check_counts, measure_run


def take_measures(
    runs: Sequence[Run], measures: Sequence[Measure], split: SplitName, n: int, say: Callable[[str], object]
) -> None:
    """Take the measures on the first n examples of every run whose record lacks them on so many or more.

    Raises:
        UserError: what a measure refuses, such as a network on which it is blind, before any is announced.
    """
    for run in runs:
        kept, size = read_record(run.folder), len(run.examples(split, n))
        for one in measures:
            found = found_measure(kept, one, split)
            if found is None or found.n < size:
                one(run.model, *run.chosen(split, range(min(2, size))))
                say(f"{kept.name}: taking {one.name} on {size} examples")
                measure_run(run, MeasureConfig(measures=(one,), split=split, n=n))


def found_measure(record: Record, measure: Measure, split: str) -> Measured | None:
    """Return the section of a measure with just these settings, of however many examples."""
    wanted = repr(measure), split
    return next((m for m in record.measures if (m.measure, m.split) == wanted), None)


def measured(record: Record, measure: Measure, split: str) -> Measured:
    """Return the section of a measure.

    Raises:
        UserError: the record lacks it.
    """
    found = found_measure(record, measure, split)
    if found is None:
        raise UserError(
            f"`records`: {record.name} lacks {measure.name} on its {split} examples. `meseta figure` with its run "
            f"measures it, and so does `meseta measure`: {measure!r}."
        )
    return found


def finite(values: Sequence[float | None]) -> tuple[float, ...]:
    """Return the values that are there."""
    return tuple(v for v in values if v is not None and isfinite(v))


@dataclass(frozen=True, kw_only=True)
class Mustafa3(PaperFigure):
    """Histograms of the Hessian's norm |Hv*| and of its estimate |Hg| along the gradient, and of their difference.

    The paper finds |Hv*| to the right of |Hg| with a heavier tail, and concludes that |Hg| is no tight lower bound.

    Args:
        field: whose Hessian: the decision function's, of smooth networks; of the loss most norms are near 0.
        split: "test", "val" or "train".
        n: the first so many examples at least; all that the record has are drawn.

    Source: Mustafa 2020, appendix C.1, Figure 3; by its footnote 2 the Hessian is that of f^(j), j the class of the
    second largest logit, which on correctly classified examples is the decision function. Differs: on misclassified
    ones the rival is the largest logit; the norm by Lanczos as well, which the ascent that the paper
    takes for the truth falls short of where curvatures are small (`CurvatureEstimates`); both differences.
    """

    field: ScalarField = Decision()
    split: SplitName = "test"
    n: int = 1000

    def __post_init__(self) -> None:
        check_counts(self.n, None)

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Measure `CurvatureEstimates` on every run that lacks it."""
        take_measures(runs, [CurvatureEstimates(field=self.field)], self.split, self.n, say)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a row for each run: the norms, and what the estimates lack."""
        rows = []
        for run in runs_of(records):
            one = measured(run.record, CurvatureEstimates(field=self.field), self.split)
            parts = {name: part.values for name, part in one.parts.items()}
            norms = {
                LANCZOS: one.values,
                ASCENT: parts["hessian_ascent"],
                GRADIENT: parts["gradient_direction"],
            }
            lacks = {
                "Lanczos − |Hg|": [_minus(v, g) for v, g in zip(one.values, norms[GRADIENT], strict=True)],
                "ascent − |Hg|": parts["ascent_minus_gradient"],
            }
            unit = f"{type(self.field).__name__} / input²"
            key, title = f"mustafa-3-{slug(run.label)}", f"{run.short}, {one.n} examples"
            rows.append(
                (
                    histogram(f"{key}-norms", title, f"norm ({unit})", norms, log_x=True),
                    histogram(f"{key}-lacks", f"{run.short}: what |Hg| lacks", f"difference ({unit})", lacks, first=3),
                )
            )
        return PanelFigure(self.key, "The Hessian's norm and its estimates", tuple(rows))


LANCZOS, ASCENT, GRADIENT = "|Hv*| by Lanczos", "|Hv*| by ascent, as published", "|Hg|"


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def histogram(
    key: str,
    title: str,
    x_label: str,
    columns: Mapping[str, Sequence[float | None]],
    *,
    log_x: bool = False,
    first: int = 0,
    y_label: str = "share of examples (%)",
) -> HistogramFigure:
    """Return distributions of one run over common bins, their styles counted from `first`; notes count the rest."""
    samples, notes = [], []
    for style, (name, values) in enumerate(columns.items(), first):
        there = finite(values)
        shown = tuple(v for v in there if v > 0 or not log_x)
        samples.append(Sample(name, style, shown, len(values)))
        off = {"not finite": len(values) - len(there), "zero or negative": len(there) - len(shown)}
        kinds = ", ".join(f"{count} {kind}" for kind, count in off.items() if count)
        if kinds:
            notes.append(f"{title}, {name}: {kinds} of {len(values)} values, not on the axis.")
    if not any(sample.values for sample in samples):
        raise UserError(f"`records`: {title} has nothing to show: none of its values is finite and on the axis.")
    return HistogramFigure(key, title, x_label, tuple(samples), log_x, y_label, tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Haat5(PaperFigure):
    """Convergence of the power iteration on finite differences: how far each step still moves the unit vector.

    The paper looks at ||r_i - r_(i-1)|| in the last of 1, 5 and 10 steps and finds that it mostly does not converge.
    The first movement of a random start is about the root of 2, whatever the Hessian is.

    Args:
        field: whose Hessian; the loss by default.
        radius: h of the differences, L2.
        split: "test", "val" or "train".
        n: the first so many examples at least; all that the record has are drawn.

    Source: Mei 2022, section 5.1, Figure 5 by the text, 4 by its caption. Differs: at the example itself, where the
    paper looks at the perturbed one of the last attack step in training; every step of 1 to 10, since the
    vectors after 1 and after 5 steps are those that 10 steps pass; median and 5 % to 95 % of the examples, where the
    paper has points of 10 batches; exact products beside the differences, and movements up to sign, which settle also
    where the dominant eigenvalue is negative (`PowerConvergence`).
    """

    field: ScalarField = CrossEntropy()
    radius: float = 1e-6
    split: SplitName = "test"
    n: int = 200

    def __post_init__(self) -> None:
        check_counts(self.n, None)

    @property
    def measure(self) -> PowerConvergence:
        """What is drawn."""
        return PowerConvergence(field=self.field, steps=10, radius=self.radius)

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Measure `PowerConvergence` on every run that lacks it."""
        take_measures(runs, [self.measure], self.split, self.n, say)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a row for each run: movements as published, and up to sign."""
        rows = []
        for run in runs_of(records):
            one = measured(run.record, self.measure, self.split)
            key = f"haat-5-{slug(run.label)}"
            rows.append(
                tuple(
                    LineFigure(
                        key=f"{key}-{kind}",
                        title=f"{run.short}, {one.n} examples, {kind}",
                        x_label="step i",
                        y_label=label,
                        series=tuple(
                            _steps(name, style, one.curves[f"{curve}{ending}"])
                            for style, (name, curve) in enumerate(self._curves().items())
                        ),
                        ticks={1.0: "1", 5.0: "5", 10.0: "10"},
                        notes=_undefined(run.short, one),
                        band=True,
                        percent=False,
                        of_attacks=True,
                    )
                    for kind, label, ending in (
                        ("as published", "‖r_i − r_(i−1)‖", "_as_published"),
                        ("up to sign", "min ‖r_i ± r_(i−1)‖", ""),
                    )
                )
            )
        notes = ("Lines: median over the examples. Bands: 5 % to 95 % of them.",)
        return PanelFigure(self.key, "Movement of the power iteration", tuple(rows), notes)

    def _curves(self) -> dict[str, str]:
        return {f"finite difference, h = {self.radius:g}": "difference", "exact products": "exact"}


def _steps(name: str, style: int, curve: Curve) -> Series:
    rows = [
        (float(i), *row)
        for i, row in enumerate(zip(curve.median, curve.quantile_05, curve.quantile_95, strict=True), 1)
        if None not in row
    ]
    x, y, low, high = (tuple(float(v) for v in column if v is not None) for column in zip(*rows, strict=True))
    return Series(name, style, x, y, low, high)


def _undefined(name: str, one: Measured) -> tuple[str, ...]:
    counts = {curve: one.curves[curve].nonfinite for curve in ("difference", "exact")}
    return tuple(
        f"{name}: {count} of {one.n} examples left out of `{curve}`, where a product is zero or not finite."
        for curve, count in counts.items()
        if count
    )
