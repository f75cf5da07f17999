"""Figures of Mustafa et al. 2020, Cross-Hölder regularisation: accuracy under attack against eps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meseta.attacks import PGD
from meseta.autodiff.scalar_fields import CrossEntropy, Decision
from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.papers.attacked import alone, attack_runs, counted, needed
from meseta.papers.base import PaperFigure
from meseta.report.figure import Figure, LineFigure, PanelFigure
from meseta.report.figures import robustness_curves
from meseta.threat import Threat
from meseta.workflow import Run, SplitName


@dataclass(frozen=True, kw_only=True)
class TwoAttacks(PaperFigure):
    """Accuracy under PGD on the cross-entropy, PGD on the C&W margin, and both, per example, against eps in L2.

    Args:
        eps: radii, L2, in pixel units.
        steps: of PGD.
        restarts: of PGD.
        n: the first so many examples; None for all.
        split: whose examples.
    """

    eps: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    steps: int = 50
    restarts: int = 10
    n: int | None = None
    split: SplitName = "test"

    def __post_init__(self) -> None:
        if not self.eps:
            raise UserError("`eps` must hold at least one radius, such as [1, 2, 3, 4, 5].")
        self._attacks()

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Attack the runs that lack it with both."""
        attack_runs(runs, self._attacks(), self._threats(), n=self.n, split=self.split, say=say)

    def _attacks(self) -> tuple[PGD, PGD]:
        pgd = PGD(threat=Threat("L2"), steps=self.steps, restarts=self.restarts, loss=CrossEntropy())
        return pgd, replace(pgd, loss=Decision())

    def _threats(self) -> list[Threat]:
        return [Threat("L2", eps) for eps in sorted(self.eps)]

    def _curves(self, records: Sequence[Record], key: str, title: str, attack: PGD | None = None) -> LineFigure:
        """Return accuracy against eps under one of the attacks, or under both."""
        found = [needed(record, self._attacks(), self._threats(), split=self.split) for record in records]
        chosen = [alone(one, attack) if attack else one for one in found]
        drawn = [r.model_copy(update={"evaluation": one}) for r, one in zip(records, chosen, strict=True)]
        (figure,) = robustness_curves(drawn)
        y_label = "accuracy (%)" if attack else figure.y_label
        return replace(figure, key=key, title=title, y_label=y_label, notes=(counted(found), *figure.notes))


@dataclass(frozen=True, kw_only=True)
class WorstOfTwoAttacks(TwoAttacks):
    """What both attacks leave."""

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return the worst case against eps, a line per run."""
        return self._curves(records, self.key, f"Worst case of two PGD attacks, {_data(records)}")


@dataclass(frozen=True, kw_only=True)
class EachOfTwoAttacks(TwoAttacks):
    """What each attack leaves, and what both do."""

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return three panels against eps, a line per run: each attack alone, and the worst case."""
        key = self.key
        cross_entropy, margin = self._attacks()
        panels = (
            self._curves(records, f"{key}-a", "(a) PGD on the cross-entropy", cross_entropy),
            self._curves(records, f"{key}-b", "(b) PGD on the C&W margin", margin),
            self._curves(records, f"{key}-c", "(c) worst case"),
        )
        return PanelFigure(key, f"Accuracy under PGD in L2, {_data(records)}", (panels,))


def _data(records: Sequence[Record]) -> str:
    """Return the names of the data sets."""
    return ", ".join(dict.fromkeys(record.data.split(":")[0].split(",")[0] for record in records))


@dataclass(frozen=True, kw_only=True)
class Mustafa1(WorstOfTwoAttacks):
    """Worst-case accuracy against eps on MNIST, a line per run.

    The paper shows cross-Hölder, cross-Lipschitz and adversarial training (eps = 5): all three hold up to eps = 4,
    beyond which cross-Hölder is above cross-Lipschitz.
    Runs: trained on MNIST with `CrossHolder`, `CrossLipschitz` and `AdversarialTraining`. The same as `Mustafa4` (c).

    Source: Mustafa et al. 2020, figure 1, appendix C.2. Differs: the paper names neither norm nor step size; L2, as in
    its experiments' eps of 1 to 5, and 2.5 eps / steps. An example that is broken at one eps counts as broken at all
    larger ones, so that curves never rise.
    """


@dataclass(frozen=True, kw_only=True)
class Mustafa2(WorstOfTwoAttacks):
    """Worst-case accuracy against eps on Fashion-MNIST, a line per run.

    `Mustafa1` on other data: adversarial training (eps = 4) leads up to eps = 4 in the paper, then cross-Hölder.

    Source: Mustafa et al. 2020, figure 2; differs as `Mustafa1` does.
    """


@dataclass(frozen=True, kw_only=True)
class Mustafa4(EachOfTwoAttacks):
    """Accuracy against eps on MNIST under PGD on the cross-entropy, on the C&W margin, and under both.

    The paper shows that adversarial training, which saw the first attack, falls behind cross-Hölder under the second.

    Source: Mustafa et al. 2020, figure 4; differs as `Mustafa1` does.
    """


@dataclass(frozen=True, kw_only=True)
class Mustafa5(EachOfTwoAttacks):
    """Accuracy against eps on Fashion-MNIST under PGD on the cross-entropy, on the C&W margin, and under both.

    Source: Mustafa et al. 2020, figure 5; differs as `Mustafa1` does.
    """
