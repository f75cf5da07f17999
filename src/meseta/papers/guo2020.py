"""Figures of Guo et al. 2020, connections between regularisers: robustness against their weight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from statistics import fmean, median

from meseta.attacks import FGSM, PGD, Attack, CarliniWagner, DeepFool, MinimumNormAttack
from meseta.errors import UserError
from meseta.evaluation.record import Bounded, Evaluation, Record
from meseta.papers.attacked import alone, attack_runs, counted, masked, needed, of_split, spelled
from meseta.papers.base import PaperFigure
from meseta.papers.sweeps import Sweep, sweep_figure, sweeps
from meseta.report.comparison import NORMS, eps_text, slug
from meseta.report.figure import Figure, LineFigure, PanelFigure
from meseta.threat import Threat
from meseta.workflow import CertifyConfig, Run, SplitName, certify_run

Quantity = Callable[[Record], float | None]


@dataclass(frozen=True, kw_only=True)
class RobustnessAgainstWeight(PaperFigure):
    """Accuracy under FGSM and PGD, and the mean distance that DeepFool and C&W find, against the weight.

    A row for each network and data set, a line for each regulariser: the mean over the seeds. Runs with the same
    settings but for the weight are one line; a run without a weight, as of `Erm`, is a line across. Where DeepFool or
    C&W found no adversarial example for some examples of a run, the mean over the others would say nothing of the run:
    then its panel shows medians, in which those examples are the farthest, and a note counts them.

    Args:
        eps: of FGSM and PGD, L∞.
        steps: of PGD.
        searches: of C&W, values of its constant. cw_steps: of each.
        n: the first so many examples; None for all.
        near: of how many examples DeepFool and C&W search the distance; None for as many as `n`.
        split: whose examples.
    """

    eps: float = 0.1
    steps: int = 40
    searches: int = 9
    cw_steps: int = 100
    n: int | None = 1000
    near: int | None = None
    split: SplitName = "test"

    def __post_init__(self) -> None:
        self.attacks(), self.nearest()

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Attack the runs that lack it, and measure their distances."""
        attack_runs(runs, self.attacks(), [self.threat()], n=self.n, split=self.split, say=say, others=True)
        near = self.n if self.near is None else self.near
        for run in runs:
            for attack in self.nearest():
                found = distances_of(run.record, attack, self.split)
                if found is None or found.n < len(run.examples(self.split, near)):
                    say(f"{run.record.name}: searching for the nearest adversarial examples with {attack.name}")
                    certify_run(run, CertifyConfig(bounds=(), attacks=(attack,), split=self.split, n=near))

    def draw(self, records: Sequence[Record]) -> Figure:
        """Return four panels for each network, a line for each regulariser."""
        key = self.key
        tasks = list(dict.fromkeys((record.model, record.data) for record in records))
        found = [
            [part for sweep in sweeps(those, "weight") for part in sweep.apart("λ = 0")]
            for those in ([r for r in records if (r.model, r.data) == task] for task in tasks)
        ]
        names = list(dict.fromkeys(sweep.name for row in found for sweep in row))
        for row in found:
            if not any(sweep.values for sweep in row):
                of = ", ".join(sweep.name for sweep in row)
                raise UserError(
                    f"`run`: {of}: no run has a weight above 0. Give runs of regularisers at several weights."
                )
        attacked = [self._evaluation(record) for record in records]
        measured = [self._distances(attack, record) for attack in self.nearest() for record in records]
        rows = [
            self._row(f"{key}-{i}" if len(tasks) > 1 else key, 4 * (i - 1), _networks(model), row, names)
            for i, ((model, _), row) in enumerate(zip(tasks, found, strict=True), 1)
        ]
        about = "; ".join(dict.fromkeys(_described(data) for _, data in tasks))
        notes = (*_counted(attacked, measured), *masked(records))
        return PanelFigure(key, f"Robustness against the weight of regularisers, {about}", tuple(rows), notes)

    def _row(
        self, key: str, first: int, network: str, row: Sequence[Sweep], names: Sequence[str]
    ) -> tuple[LineFigure, ...]:
        """Return the panels of one network."""
        fgsm, pgd = self.attacks()
        under = f"accuracy at {NORMS['Linf']} {eps_text('Linf', self.eps)} (%)"
        panels: list[tuple[str, str, Quantity, tuple[str, ...]]] = [
            ("FGSM", under, partial(self._accuracy, fgsm), ()),
            ("PGD", under, partial(self._accuracy, pgd), ()),
        ]
        for name, attack in self.named_nearest():
            notes = self._not_found(name, attack, row)
            kind, middle = ("median", median) if notes else ("mean", fmean)
            panels.append((name, f"{kind} L2 distance (input units)", partial(self._distance, attack, middle), notes))
        drawn = (
            sweep_figure(
                f"{key}-{slug(name.lower())}",
                f"({'abcdefghijklmnopqrstuvwxyz'[(first + k) % 26]}) {name}, {network}",
                [(sweep.name, names.index(sweep.name), sweep, quantity) for sweep in row],
                x_label="weight λ",
                x_name="λ",
                y_label=y_label,
                percent=k < 2,
            )
            for k, (name, y_label, quantity, _) in enumerate(panels)
        )
        return tuple(replace(one, notes=(*one.notes, *notes)) for one, (*_, notes) in zip(drawn, panels, strict=True))

    def _not_found(self, name: str, attack: MinimumNormAttack, row: Sequence[Sweep]) -> tuple[str, ...]:
        """Return notes that count the examples without a distance, and name the points without a median."""
        missing, without = [], []
        for sweep in row:
            found = [self._distances(attack, one) for group in sweep.records.values() for one in group]
            if count := sum(one.values.count(None) for one in found):
                missing.append(f"{count} of {sum(one.n for one in found)} examples of {sweep.name}")
            without += [
                sweep.name if weight is None else f"{sweep.name} at λ = {weight:g}"
                for weight, group in sweep.records.items()
                if any(self._distance(attack, median, one) == inf for one in group)
            ]
        if not missing:
            return ()
        counts = f"{name} found no adversarial example for {', '.join(missing)}: medians, with those as the farthest."
        return (counts, *([f"{name}, left out for want of a median: {', '.join(without)}."] if without else []))

    def _evaluation(self, record: Record) -> Evaluation:
        return needed(record, self.attacks(), [self.threat()], split=self.split, others=True)

    def _accuracy(self, attack: Attack, record: Record) -> float:
        """Return the accuracy in % that an attack leaves."""
        return 100 * alone(self._evaluation(record), attack).robust[0].worst_case

    def _distance(self, attack: MinimumNormAttack, middle: Callable[[list[float]], float], record: Record) -> float:
        """Return the middle of the distances of all: 0 of misclassified examples, infinite where none was found."""
        return middle([inf if value is None else value for value in self._distances(attack, record).values])

    def _distances(self, attack: MinimumNormAttack, record: Record) -> Bounded:
        found = distances_of(record, attack, self.split)
        if found is None:
            raise UserError(
                f"record: {record.name} lacks the distances that {attack.name} alone finds on {self.split} examples. "
                f"Measure them: meseta certify RUN --bounds [] --attacks '{spelled([attack])}'{of_split(self.split)}"
            )
        return found

    def threat(self) -> Threat:
        """Return the ball of FGSM and PGD."""
        return Threat("Linf", self.eps)

    def attacks(self) -> tuple[FGSM, PGD]:
        """Return the attacks whose accuracies are drawn."""
        return FGSM(threat=self.threat()), PGD(threat=self.threat(), steps=self.steps)

    def named_nearest(self) -> list[tuple[str, MinimumNormAttack]]:
        """Return the attacks whose distances are drawn, with their names."""
        return [
            ("DeepFool", DeepFool(threat=Threat("L2", 0.5))),
            ("C&W", CarliniWagner(searches=self.searches, steps=self.cw_steps)),
        ]

    def nearest(self) -> list[MinimumNormAttack]:
        """Return the attacks whose distances are drawn."""
        return [attack for _, attack in self.named_nearest()]


def distances_of(record: Record, attack: MinimumNormAttack, split: str) -> Bounded | None:
    """Return the distances of one attack alone on a split, of the most examples."""
    wanted = "attack", repr(attack), split
    fitting = [one for one in record.bounds if (one.kind, one.bound, one.split) == wanted]
    return max(fitting, key=lambda one: one.n) if fitting else None


def _counted(attacked: Sequence[Evaluation], measured: Sequence[Bounded]) -> list[str]:
    """Return how many examples were attacked, and of how many the distance was searched where that differs."""
    if {one.n for one in attacked} == {one.n for one in measured} and len({one.n for one in attacked}) == 1:
        return [counted(attacked)]
    return [f"Accuracies: {counted(attacked)}", f"Distances: {counted(measured)}"]


def _networks(model: str) -> str:
    return model.split("(")[0]


def _described(data: str) -> str:
    """Return the name of the data and its classes."""
    parts = data.split(";")[0].split(", ")
    return ", ".join([data.split(":")[0], *(part for part in parts if "class" in part)])


@dataclass(frozen=True, kw_only=True)
class Guo2(RobustnessAgainstWeight):
    """Robustness against the weight of the cross-Lipschitz and the Jacobian regulariser: two classes of MNIST.

    The paper shows that both do nearly the same at the same weight, on LeNet-300-100 and on LeNet-5.
    Runs: `CrossLipschitz` and `Jacobian` at weights 1e-4 to 1.6, several seeds, `--data.classes '[7, 1]'`; the models
    `LeNet300100` and `LeNet5`, fine-tuned (`start_from`) from plainly trained ones.

    Source: Guo et al. 2020, figure 2, appendix F. Differs: whiskers show the spread over the seeds, where the paper
    has the mean of ten alone. By its appendix F two of the attacks are l-infinity based and two l2 based, and C&W's
    figure is the magnitude required in average; it does not say whether misclassified examples count: here as 0. FGSM
    and PGD from our own attacks, PGD with 40 steps.
    """


@dataclass(frozen=True, kw_only=True)
class Guo4(RobustnessAgainstWeight):
    """Robustness against the weight of all four regularisers: two classes of MNIST.

    `Guo2` with `InputGradient(power=2)` and `Curvature` as well. The paper shows the latter above all others at large
    weights.

    Source: Guo et al. 2020, figure 4; differs as `Guo2` does.
    """


@dataclass(frozen=True, kw_only=True)
class Guo5(RobustnessAgainstWeight):
    """Robustness against the weight of regularisers: all ten classes of MNIST.

    The paper leaves the curvature out, which it could only approximate for more than two classes; `Curvature` is exact
    for any number, so its runs may be given too.

    Source: Guo et al. 2020, figure 5; differs as `Guo2` does.
    """


@dataclass(frozen=True, kw_only=True)
class Guo6(RobustnessAgainstWeight):
    """Robustness against the weight of all four regularisers: two classes of CIFAR-10.

    Runs: weights 1e-6 to 0.1, the models `LeNet5` with `norm: batch`, `VggLike` and `ResNet31`, a row of panels each.

    Source: Guo et al. 2020, figure 6; differs as `Guo2` does.
    """

    eps: float = 0.05


@dataclass(frozen=True, kw_only=True)
class Guo7(RobustnessAgainstWeight):
    """Robustness against the weight of regularisers: all ten classes of CIFAR-10.

    Runs: weights 1e-6 to 0.1, `LeNet5` with `norm: batch` and `VggLike`. Jacobian and cross-Lipschitz regularisation
    at 0.1 gave NaN in the paper.

    Source: Guo et al. 2020, figure 7; differs as `Guo2` does.
    """

    eps: float = 0.05
