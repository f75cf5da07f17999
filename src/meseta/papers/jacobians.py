"""Yu's pictures of input gradients, and the statistics of their entries and of the Hessian's eigenvalues."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meseta.autodiff import Decision, ScalarField
from meseta.checks import whole
from meseta.errors import UserError
from meseta.evaluation.gradients import check_pictured
from meseta.evaluation.record import Measured, Picture, Pictured, Record, read_record
from meseta.geometry import GradientNorm, GradientSparsity, HessianSpectrum
from meseta.looking import PictureConfig, check_indices, picture_run
from meseta.papers.base import PaperFigure
from meseta.papers.estimates import finite, histogram, measured, take_measures
from meseta.report.comparison import Run as Shown
from meseta.report.comparison import percent, runs_of, significant
from meseta.report.figure import Figure, PanelFigure, PictureFigure, Tile
from meseta.workflow import Run, SplitName, check_counts


def take_pictures(
    runs: Sequence[Run],
    field: ScalarField,
    split: SplitName,
    indices: Sequence[int],
    say: Callable[[str], object],
    hessian: int = 0,
) -> None:
    """Keep the gradients of every run at the examples as pictures, where its record lacks them."""
    for run in runs:
        kept = read_record(run.folder)
        missing = []
        for index in dict.fromkeys(indices):
            if _find(kept, field, split, index, hessian) is None:
                missing.append(index)
        if missing:
            check_pictured(*run.chosen(split, missing), hessian)
            say(f"{kept.name}: picturing the gradient at {len(missing)} examples")
            picture_run(run, PictureConfig(field=field, split=split, indices=tuple(missing), hessian=hessian))


def _has_square(found: Pictured, side: int) -> bool:
    """Return whether there is a picture of the Hessian of a square of this side."""
    picture = found.pictures.get("hessian")
    return picture is not None and picture.shape[1] == found.pictures["input"].shape[0] * side**2


def _find(record: Record, field: ScalarField, split: str, index: int, hessian: int = 0) -> Pictured | None:
    wanted = "gradient", repr(field), split, index
    fitting = (one for one in record.pictured if (one.kind, one.settings, one.split, one.index) == wanted)
    return next((one for one in fitting if not hessian or _has_square(one, hessian)), None)


def pictured(record: Record, field: ScalarField, split: str, index: int, hessian: int = 0) -> Pictured:
    """Return the pictures of the gradient at an example, with the Hessian of a square of this side where it is not 0.

    Raises:
        UserError: the record lacks them.
    """
    found = _find(record, field, split, index, hessian)
    if found is None:
        square = f", with the Hessian of the middle {hessian}×{hessian} pixels," if hessian else ""
        raise UserError(
            f"`records`: {record.name} lacks pictures of the gradient of {field!r}{square} at {split} example {index}. "
            "`meseta figure` with its run takes them."
        )
    return found


def _reach(picture: Picture) -> str:
    """Return the range of a picture, for its caption."""
    if picture.low == -picture.high:
        return f"±{significant(picture.high)}"
    return f"{significant(picture.low)} to {significant(picture.high)}"


@dataclass(frozen=True, kw_only=True)
class Yu8(PaperFigure):
    """Jacobian and Hessian of the decision function: pictures at one example, and statistics over many.

    The paper finds that the robust model's are sparser and have smaller l1 norms than the natural model's, and that its
    Jacobian follows the strokes of the digit.

    Args:
        index: of the example in the pictures.
        n: the first so many examples at least in the statistics; 100 as in the paper, which draws them. All that the
            record has are drawn.
        hessian: side in pixels of the square in the middle whose Hessian is pictured.
        field: the decision function, of smooth networks. On piecewise-linear ones, such as the paper's, its Hessian is
            zero between the kinks: take CrossEntropy() there.
        split: "test", "val" or "train".

    Cost: d Hessian products on n examples.

    Source: Yu 2018, section 4.3, Figure 8 and footnote 3. Differs: entries and eigenvalues count as next to nothing
    below 1 % of the largest one, since the published 10e-3 depends on the scale of the logits; the share below it is
    given as well. Their 10e-10 for eigenvalues is below what float32 resolves. Histograms are of magnitudes.
    """

    index: int = 0
    n: int = 100
    hessian: int = 8
    field: ScalarField = Decision()
    split: SplitName = "test"

    def __post_init__(self) -> None:
        whole("index", self.index, 0)
        whole("hessian", self.hessian, 1)
        check_counts(self.n, None)

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Picture the example, and measure slopes, sparsity and spectra, on every run that lacks them."""
        take_pictures(runs, self.field, self.split, (self.index,), say, self.hessian)
        take_measures(runs, [self._norm, self._sparsity, self._spectrum], self.split, self.n, say)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return a row of pictures for each run, and below them the distributions of all runs."""
        runs = runs_of(records)
        norms, sparsity, spectra = (
            {run.short: measured(run.record, measure, self.split) for run in runs}
            for measure in (self._norm, self._sparsity, self._spectrum)
        )
        entries = {name: one.curves["magnitudes"].median for name, one in sparsity.items()}
        eigenvalues = {
            name: [abs(v) for v in finite(one.curves["eigenvalues"].median)] for name, one in spectra.items()
        }
        field = type(self.field).__name__
        charts = (
            (
                histogram(
                    "yu-8-entries",
                    "Entries of the Jacobian",
                    f"|J_i| ({field} / input)",
                    entries,
                    log_x=True,
                    y_label="share of entries (%)",
                ),
                histogram(
                    "yu-8-eigenvalues",
                    "Eigenvalues of the Hessian",
                    f"|λ_i| ({field} / input²)",
                    eigenvalues,
                    log_x=True,
                    y_label="share of eigenvalues (%)",
                ),
            ),
            (
                histogram(
                    "yu-8-norms",
                    "l1 norm of the Jacobian",
                    f"‖J‖₁ ({field} / input)",
                    {name: one.values for name, one in norms.items()},
                    log_x=True,
                ),
                histogram(
                    "yu-8-zeros",
                    "Sparsity of the Jacobian",
                    "entries below 1 % of the largest (%)",
                    {name: [None if v is None else 100 * v for v in one.values] for name, one in sparsity.items()},
                ),
            ),
        )
        ranks = "Entries and eigenvalues: sorted at each example, of each rank the median over the examples."
        notes = (ranks, *(_statistics(name, norms[name], sparsity[name], spectra[name]) for name in norms))
        return PanelFigure(self.key, f"Jacobian and Hessian of {field}", ((self._pictures(runs),), *charts), notes)

    def _pictures(self, runs: Sequence[Shown]) -> PictureFigure:
        rows = []
        for run in runs:
            one = pictured(run.record, self.field, self.split, self.index, self.hessian)
            input_, gradient, normalized, hessian = (
                one.pictures[name] for name in ("input", "gradient", "normalized", "hessian")
            )
            tiles = (
                Tile(input_, f"label {one.label}, predicted {one.predicted}"),
                Tile(gradient, _reach(gradient), signed=True),
                Tile(normalized, _reach(normalized)),
                Tile(hessian, _reach(hessian), signed=True),
            )
            rows.append((run.short, tiles))
        columns = ("input", "Jacobian", "Jacobian, black to white", f"Hessian, middle {self.hessian}×{self.hessian}")
        return PictureFigure("yu-8-pictures", f"{self.split} example {self.index}", columns, tuple(rows), SIGNED)

    @property
    def _norm(self) -> GradientNorm:
        return GradientNorm(field=self.field, q=1)

    @property
    def _sparsity(self) -> GradientSparsity:
        return GradientSparsity(field=self.field)

    @property
    def _spectrum(self) -> HessianSpectrum:
        return HessianSpectrum(field=self.field)


SIGNED = ("Signed pictures: red is negative, white zero, blue positive.",)


def _statistics(name: str, norm: Measured, sparsity: Measured, spectrum: Measured) -> str:
    """Return the means of a run in one sentence, beside those of the paper in its order."""
    share = {
        "of entries below 0.01": sparsity.parts["below_zero"].mean,
        "below 1 % of the largest": sparsity.mean,
        "of eigenvalues below 1 % of the largest": spectrum.parts["small"].mean,
    }
    shares = ", ".join(f"{percent(value)} % {what}" for what, value in share.items() if value is not None)
    norms = f"‖J‖₁ = {_mean(norm.mean)}, Σ|λ| = {_mean(spectrum.parts['nuclear'].mean)}"
    counts = norm.n, sparsity.n, spectrum.n
    n = (
        f"{norm.n}"
        if len(set(counts)) == 1
        else f"{norm.n} (‖J‖₁), {sparsity.n} (entries) and {spectrum.n} (eigenvalues)"
    )
    return f"{name}, means of {n} examples: {norms}; {shares}."


def _mean(value: float | None) -> str:
    return "none" if value is None else significant(value)


@dataclass(frozen=True, kw_only=True)
class _JacobianImages(PaperFigure):
    """What both figures share."""

    indices: tuple[int, ...] = ()
    signed: bool = False
    field: ScalarField = Decision()
    split: SplitName = "test"

    def __post_init__(self) -> None:
        check_indices(self.indices)

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Picture the examples on every run that lacks them."""
        take_pictures(runs, self.field, self.split, self.indices, say)

    def _images(self, key: str, records: Sequence[Record]) -> Figure:
        """Return the inputs in one row and a row for each run below; runs on other data have rows of their own."""
        groups: dict[tuple[str, ...], list[tuple[Shown, list[Pictured]]]] = {}
        for run in runs_of(records):
            found = [pictured(run.record, self.field, self.split, index) for index in self.indices]
            groups.setdefault(tuple(one.pictures["input"].pixels for one in found), []).append((run, found))
        panels = [self._panel(f"{key}-{i}", members) for i, members in enumerate(groups.values(), 1)]
        title = f"Jacobian of {type(self.field).__name__}"
        return PanelFigure(key, title, tuple((panel,) for panel in panels))

    def _panel(self, key: str, members: Sequence[tuple[Shown, list[Pictured]]]) -> PictureFigure:
        (_, first), *_ = members
        inputs = tuple(Tile(one.pictures["input"], f"label {one.label}") for one in first)
        rows = [("input", inputs), *((run.short, tuple(map(self._tile, found))) for run, found in members)]
        columns = tuple(f"{self.split} {one.index}" for one in first)
        every = "every picture from its smallest to its largest entry"
        notes = SIGNED if self.signed else (f"Black to white: {every}.",)
        return PictureFigure(key, "", columns, tuple(rows), notes)

    def _tile(self, one: Pictured) -> Tile:
        picture = one.pictures["gradient" if self.signed else "normalized"]
        wrong = "" if one.predicted == one.label else f"predicted {one.predicted}, "
        return Tile(picture, wrong + _reach(picture), signed=self.signed)


@dataclass(frozen=True, kw_only=True)
class Yu10(_JacobianImages):
    """Jacobians of the decision function as pictures: inputs in the first row, then a row for each run.

    The paper's robust models see the main pattern of digits and objects; natural ones are noise.

    Args:
        indices: of the examples in their split.
        signed: red, white and blue from negative to positive; else every picture stretched to 0 to 255, as published.
        field: the decision function.
        split: "test", "val" or "train".

    Source: Yu 2018, Figure 10, of MNIST and CIFAR-10: give the runs of both.
    """

    indices: tuple[int, ...] = (0, 1, 2, 3, 4, 5)

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return the rows of pictures."""
        return self._images("yu-10", records)


@dataclass(frozen=True, kw_only=True)
class Yu15(_JacobianImages):
    """Jacobians of the decision function as pictures, of more examples than in Figure 10.

    Args:
        indices: of the examples in their split.
        signed: red, white and blue from negative to positive; else every picture stretched to 0 to 255, as published.
        field: the decision function.
        split: "test", "val" or "train".

    Source: Yu 2018, Figure 15.
    """

    indices: tuple[int, ...] = tuple(range(10, 20))

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return the rows of pictures."""
        return self._images("yu-15", records)
