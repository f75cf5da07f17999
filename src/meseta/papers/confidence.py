"""What the confidence p of a binary classifier does to its robustness and to regularisers, by formula.

Nothing is retyped: the bounds and measures of the library are taken on a linear classifier of one input, whose logits
are nu x / 2 and -nu x / 2. It has confidence p at x = log(p / (1 - p)) / nu.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff import CrossEntropy
from meseta.certificates import BinaryTaylor, LinearPiece, LossTaylor
from meseta.checks import positive
from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.geometry import CrossLipschitz, GradientNorm, JacobianFrobenius, SpectralCurvature
from meseta.papers.base import PaperFigure
from meseta.report.figure import Figure, LineFigure, PanelFigure, Series

Classifier = Callable[[Tensor], Tensor]
PRINTED, LEMMA, EXACT = "eq. 8 as printed", ("Lemma 3.1, lower bound", "Lemma 3.1, upper bound"), "the classifier errs"
"""Names of distances."""


def linear_classifier(nu: float) -> Classifier:
    """Return the classifier of inputs (B, 1) whose two logits' gradients lie nu apart."""
    return lambda x: torch.cat([nu * x / 2, -nu * x / 2], 1)


def at_confidence(p: Tensor, nu: float) -> tuple[Tensor, Tensor]:
    """Return the inputs (B, 1) at which `linear_classifier` has these confidences, and their labels."""
    return (p / (1 - p)).log()[:, None] / nu, torch.zeros(len(p), dtype=torch.long)


def confidences() -> Tensor:
    """Return confidences from 1/2, which is left out, to 0.98: beyond, distances leave no room for all others."""
    return torch.linspace(0.501, 0.98, 120, dtype=torch.float64)


def _lines(x: Tensor, columns: Mapping[str, Tensor], styles: Sequence[int] | None = None) -> tuple[Series, ...]:
    places, series = tuple(x.tolist()), []
    for style, (name, column) in zip(styles or range(len(columns)), columns.items(), strict=True):
        y = tuple(column.tolist())
        series.append(Series(name, style, places, y, y, y))
    return tuple(series)


def _figure(key: str, title: str, labels: tuple[str, str], series: tuple[Series, ...], *notes: str) -> LineFigure:
    return LineFigure(
        key=key,
        title=title,
        x_label=labels[0],
        y_label=labels[1],
        series=series,
        notes=notes,
        band=True,
        percent=False,
        of_attacks=True,
    )


@dataclass(frozen=True, kw_only=True)
class Guo1(PaperFigure):
    """How the distance ||r*|| in the quadratic model of the loss varies with the confidence p of a binary classifier.

    Left, the loss along the steepest direction and its quadratic model, which reaches log 2 at ||r*||. Middle, ||r*||
    against p. Right, beside it the distance at which the linear classifier itself errs: ||r*|| is no guarantee.

    Args:
        nu: local cross-Lipschitz constants ||v_+ - v_-||_2, at least one; left and right show the first.
        p: confidences on the left, between 1/2 and 1.

    Source: Guo 2020, Figure 1, Proposition 3.1 and Lemma 3.1, whose two bounds are equal here. Differs: the right
    panel, with the exact distance log(p / (1 - p)) / nu, and eq. 8 as it is printed, with the -1 inside the root; p
    ends at 0.98.
    """

    least_runs = 0
    nu: tuple[float, ...] = (1.0, 2.0, 4.0)
    p: tuple[float, ...] = (0.51, 0.7, 0.9)

    def __post_init__(self) -> None:
        if not self.nu:
            raise UserError("`nu` must hold at least one number, such as [1].")
        for nu in self.nu:
            positive("nu", nu)
        if not self.p or not all(0.5 < p < 1 for p in self.p):
            raise UserError(f"`p` must hold confidences between 0.5 and 1, got {self.p}.")

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return the three panels."""
        return PanelFigure(
            "guo-1",
            "Confidence and distance of a binary classifier",
            ((self._along_the_step(), self._by_slope(), self._beside_the_truth()),),
        )

    def _along_the_step(self) -> LineFigure:
        nu = self.nu[0]
        model, loss = linear_classifier(nu), CrossEntropy()
        x, y = at_confidence(torch.tensor(self.p, dtype=torch.float64), nu)
        far = 1.1 * float(BinaryTaylor()(model, x, y).value.max())
        r = torch.linspace(0, far, 60, dtype=torch.float64)
        columns = {}
        for i, p in enumerate(self.p):
            one, label = x[i : i + 1], y[i : i + 1]
            columns[f"loss, p = {p:g}"] = torch.cat([loss.bind(model, one, label)(one - step) for step in r])
            model_of_loss = [BinaryTaylor().worst_loss(model, one, label, float(step)) for step in r]
            columns[f"its quadratic model, p = {p:g}"] = torch.cat(model_of_loss)
        columns["log 2"] = torch.full_like(r, 2).log()
        return _figure(
            "guo-1-steps", f"Along the steepest step, ν = {nu:g}", ("‖r‖₂ (input units)", "loss"), _lines(r, columns)
        )

    def _by_slope(self) -> LineFigure:
        p = confidences()
        columns = {
            f"‖r*‖, ν = {nu:g}": BinaryTaylor()(linear_classifier(nu), *at_confidence(p, nu)).value for nu in self.nu
        }
        return _figure("guo-1-nu", "Against the confidence", ("p", "‖r*‖₂ (input units)"), self._styled(p, columns))

    def _styled(self, p: Tensor, columns: Mapping[str, Tensor]) -> tuple[Series, ...]:
        """Return the lines with styles that no other line of the figure has, the same in both panels."""
        first = 2 * len(self.p) + 1
        names = [*(f"‖r*‖, ν = {nu:g}" for nu in self.nu), PRINTED, *LEMMA, EXACT]
        return _lines(p, columns, [first + names.index(name) for name in columns])

    def _beside_the_truth(self) -> LineFigure:
        p, nu = confidences(), self.nu[0]
        model, (x, y) = linear_classifier(nu), at_confidence(p, nu)
        lemma = LossTaylor()(model, x, y)
        columns = {
            PRINTED: as_printed(p, nu),
            f"‖r*‖, ν = {nu:g}": BinaryTaylor()(model, x, y).value,
            LEMMA[0]: lemma.value,
            LEMMA[1]: lemma.parts["upper"],
            EXACT: LinearPiece()(model, x, y).value,
        }
        return _figure(
            "guo-1-exact",
            f"Beside the truth, ν = {nu:g}",
            ("p", "distance, L2 (input units)"),
            self._styled(p, columns),
        )


def as_printed(p: Tensor, nu: float) -> Tensor:
    """Return eq. 8 of Guo 2020 as it stands in the paper, (1 / (p nu)) sqrt(1 + 2 p xi / (1 - p) - 1)."""
    xi = (2 * p).log()
    return (2 * p * xi / (1 - p)).sqrt() / (p * nu)


@dataclass(frozen=True, kw_only=True)
class Guo3(PaperFigure):
    """The factors by which regularisers depend on the confidence p of a binary classifier, and their slopes.

    Of the input gradient (1 - p)^2 and of the curvature p (1 - p), each times nu^2; of the cross-Lipschitz and the
    Jacobian regulariser 1/2, at any p. The input gradient pushes most where p is small; the curvature, as ||r*|| does,
    where p is large.

    Source: Guo 2020, Figure 3 and eq. 11. The text compares "the green curve" with p (1 - p), "which is different";
    since (1 - p)^2 is the one that has its steepest slope at low confidence, it must mean that the curvature's
    p (1 - p), green, differs from (1 - p)^2. Differs: the slopes, which the text speaks of, as a panel of their own.
    """

    least_runs = 0

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return the factors, and the magnitudes of their slopes."""
        p = torch.linspace(0.5, 0.999, 200, dtype=torch.float64)
        model, (x, y) = linear_classifier(1.0), at_confidence(p, 1.0)
        columns = {
            "input gradient, (1 − p)²": GradientNorm()(model, x, y).value ** 2,
            "cross-Lipschitz, 1/2": CrossLipschitz()(model, x, y).value ** 2,
            "curvature, p (1 − p)": SpectralCurvature()(model, x, y).value.abs(),
            "Jacobian, 1/2": JacobianFrobenius()(model, x, y).value ** 2,
        }
        slopes = {name: torch.gradient(column, spacing=(p,))[0].abs() for name, column in columns.items()}
        return PanelFigure(
            "guo-3",
            "Regularisers and the confidence of a binary classifier",
            (
                (
                    _figure("guo-3-factors", "Factor of ν²", ("p", "regulariser / ν²"), _lines(p, columns)),
                    _figure("guo-3-slopes", "Its slope", ("p", "|d(regulariser / ν²) / dp|"), _lines(p, slopes)),
                ),
            ),
            ("‖v₊‖ = ‖v₋‖ = ν / 2, as Proposition 3.4 finds for the optimal weights.",),
        )
