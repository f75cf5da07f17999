"""Guo et al. 2020: connections between four regularisers, against their weight and in theory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations
from math import inf, isnan, nan
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal, Self

import torch

from meseta.attacks import MinimumNormAttack
from meseta.data import DataConfig
from meseta.errors import UserError, unknown_name
from meseta.evaluation.record import read_record
from meseta.models import Architecture, LeNet5, LeNet300100, ResNet31, VggLike
from meseta.objectives import CrossLipschitz, Cure, Curvature, Erm, InputGradient, Jacobian, Objective
from meseta.papers import Guo1, Guo2, Guo3, Guo4, Guo5, Guo6, Guo7
from meseta.papers.guo2020 import RobustnessAgainstWeight, distances_of
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row, spelled
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.guo2020_propositions import WEIGHTS, examine, propositions
from meseta.reproductions.lab import Lab, accuracies, alike, all_hold, exceeds, has_diverged, judged, judged_at, mean
from meseta.schedules import InverseDecay, StepDecay
from meseta.training import RunConfig, Sgd
from meseta.training.cost import step_flops
from meseta.workflow import CertifyConfig

REGULARISERS = ("cross-Lipschitz", "Jacobian", "input gradient", "curvature")
REFERENCE = ("reference", 0.0)
MATCHED = "cross-Lipschitz at λK/2"
"""Not in the paper: the weight at which it is, for any number of classes K, what the Jacobian at λ is."""
CURE = "CURE"
"""Not in the paper by name: what the authors of curvature regularisation themselves penalise."""
SHORT = dict(zip((*REGULARISERS, MATCHED, CURE), ("cl", "jac", "ig", "curv", "matched", "cure"), strict=True))
"""What their runs are called."""
MNIST_GRID = (1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.4, 0.8, 1.6)
CIFAR_GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What is spent on one network and data set.

    Args:
        iterations: of the training of a reference model.
        tuning: iterations of each fine-tuning, and `tuning_lr` its learning rate.
        seeds: reference models, each fine-tuned in all ways.
        weights: the grid.
        n: test examples attacked with FGSM and PGD; None for all. Clean accuracy is of all.
        near: test examples whose distance is searched; None for as many as `n`.
        judged: examples of the standard suite and the masking checks.
    """

    iterations: int
    tuning: int
    tuning_lr: float
    seeds: int = 10
    weights: tuple[float, ...]
    n: int | None = None
    near: int | None = None
    judged: int | None = 1000


@dataclass(frozen=True)
class Task:
    """One network on one data set: a row of panels of the paper's figures."""

    key: str
    """The start of its runs' names."""
    title: str
    data: DataConfig
    model: Architecture
    effort: Effort
    eps: float
    """The L∞ radius of FGSM and PGD."""

    @property
    def classes(self) -> int:
        """How many the networks tell apart."""
        return len(self.data.classes or range(10))

    @property
    def n(self) -> int:
        """How many test examples FGSM and PGD attack."""
        return min(self.effort.n or _tests(self.data), _tests(self.data))

    @property
    def near(self) -> int:
        """Of how many test examples the distance is searched."""
        return min(self.effort.near or self.n, _tests(self.data))


Key = tuple[str, float]
"""A regulariser and its weight."""
Trained = dict[Key, list[Path]]
"""The runs of each regulariser and weight, one for each seed; under REFERENCE the reference models."""
Rows = Mapping[Key, Row]
COLUMNS = ["clean (%)", "FGSM (%)", "PGD (%)", "DeepFool (L2)", "C&W (L2)"]
CLEAN, FGSM, PGD, DEEPFOOL, CW = range(5)
PUBLISHED: dict[str, dict[Key, tuple[tuple[float, float | None] | None, ...]]] = {
    "mlp": {REFERENCE: ((99.57, 0.05), (34.91, 0.81), (7.84, 0.50))},
    "lenet": {REFERENCE: ((99.86, 0.03), (86.32, 4.86), (35.10, 1.97))},
    "mlp_ten": {REFERENCE: ((98.08, 0.08),)},
    "lenet_ten": {REFERENCE: ((99.10, 0.05),)},
}
"""What appendix F prints, in the order of the columns, with what it prints after ±."""
SAID_BEYOND = 2.0
"""The distance of C&W at the weight beyond the grid, "nearly 2.0"; the network is not said."""
POINTS, SHARE = 5.0, 0.1
"""Two regularisers do the same at a weight: accuracies within so many points, distances within this share. Neither
distance is called larger within it; and more than so many points is far more."""
COLLAPSED = 10.0
"""A network whose clean accuracy is within so many points of chance tells nothing of its regulariser."""
RATE = "at 0.01 curvature regularisation of LeNet-300-100 met NaN from λ = 0.4 in 400 iterations"
"""Why fine-tuning on MNIST starts below the rate of the policy."""
FIGURES: dict[int, type[RobustnessAgainstWeight]] = {2: Guo2, 4: Guo4, 5: Guo5, 6: Guo6, 7: Guo7}


def _mnist() -> Effort:
    return Effort(iterations=50_000, tuning=50_000, tuning_lr=1e-3, weights=MNIST_GRID)


def _cifar() -> Effort:
    return Effort(iterations=100_000, tuning=100_000, tuning_lr=1e-2, weights=CIFAR_GRID)


NETWORKS = ("mlp", "lenet", "mlp_ten", "lenet_ten", "cifar_lenet", "vgg", "resnet", "cifar_lenet_ten", "vgg_ten")


@dataclass(frozen=True, kw_only=True)
class Guo2020(Reproduction):
    """Cross-Lipschitz, Jacobian, input-gradient and curvature regularisation: figures 1 to 7, propositions.

    Reference models are trained plainly, then fine-tuned with every regulariser at every weight, and attacked with
    FGSM, PGD, DeepFool and C&W.

    Args:
        mnist, cifar: the data sets.
        cifar_classes: the two of the binary CIFAR-10 task.
        train_limit: training examples; None for all.
        lr: of the reference models. momentum, weight_decay: of all trainings.
        networks: which of the following there are.
        mlp, lenet: LeNet-300-100 and LeNet-5, MNIST 7 against 1.
        mlp_ten, lenet_ten: the same, all ten classes.
        beyond: the largest weight, of single runs that the text speaks of.
        cifar_lenet, vgg, resnet: CIFAR-10, two classes.
        cifar_lenet_ten, vgg_ten: CIFAR-10, ten classes.
        vgg_width, resnet_width: maps of their first stages.
        padding: of LeNet-5.
        exact: the penalties of ten classes from all ten logit gradients; else by one random combination, which is
            unbiased, and the curvature by one power step.
        eps, cifar_eps: L∞ radii of FGSM and PGD.
        steps: of PGD.
        searches: of C&W, values of its constant. cw_steps: of each.
        n_val: held-out examples of the choice of weights; None for all.
        n_theory: test examples on which the propositions are checked. theory_weights: of Proposition 3.4.
        figures: which of 2 and 4 to 7 are drawn; 1 and 3 stand beside the propositions.
    """

    paper: ClassVar[str] = "guo2020"
    title: ClassVar[str] = "Connections between regularisations for robustness"
    citation: ClassVar[str] = (
        "Guo, Chen, Chen & Zhang 2020, On Connections between Regularizations for Improving DNN Robustness."
    )

    choices: ClassVar[tuple[str, ...]] = (
        "The figures are curves without numbers: of them only their claims are compared; appendix F prints numbers of "
        "the reference models of MNIST alone.",
        'Caffe\'s policy for LeNet: SGD at 0.01 with momentum 0.9, weight decay 5e-4, and its decay "inv"; the paper '
        "does not say at which rate fine-tuning starts. On MNIST ours starts at a tenth: at 0.01 and 400 iterations "
        "curvature and input-gradient regularisation of LeNet-300-100 met NaN, from λ = 0.4 and 0.8. On CIFAR-10 "
        "neither rate is given: 0.01.",
        "Caffe's LeNet-5 has no activation after its convolutions; the paper speaks of ReLU networks, so ours has. "
        "Inputs are normalised inside the networks; all gradients are with respect to pixels in [0, 1].",
        "The penalties are those of equation 11: λν²/2, λμ², λ‖∇ℓ‖² and λ‖H‖₂. The paper took the codes of their "
        "authors; that of curvature regularisation is a finite difference, which is a line of its own here (CURE).",
        "The cross-Lipschitz penalty of ten classes is λ/K² Σ‖v_i − v_j‖², as section 4 defines it.",
        "PGD takes 40 steps, and C&W is clipped to the pixels' range; the paper does not give their settings. Whether "
        "misclassified examples count in its mean distances is not said; here they do, with 0.",
        "The two classes of CIFAR-10 are not named: airplane and automobile. Nor are the layouts of the VGG-like "
        "network and of the ResNet given; the former has batch normalisation here.",
    )

    mnist: str = "ylecun/mnist"
    cifar: str = "uoft-cs/cifar10"
    cifar_classes: tuple[int, int] = (0, 1)
    train_limit: int | None = None
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    networks: tuple[str, ...] = NETWORKS
    mlp: Effort = field(default_factory=_mnist)
    lenet: Effort = field(default_factory=_mnist)
    mlp_ten: Effort = field(default_factory=_mnist)
    lenet_ten: Effort = field(default_factory=_mnist)
    beyond: float = 6.4
    cifar_lenet: Effort = field(default_factory=_cifar)
    vgg: Effort = field(default_factory=_cifar)
    resnet: Effort = field(default_factory=_cifar)
    cifar_lenet_ten: Effort = field(default_factory=_cifar)
    vgg_ten: Effort = field(default_factory=_cifar)
    vgg_width: int = 64
    resnet_width: int = 16
    padding: int = 0
    exact: bool = True
    eps: float = 0.1
    cifar_eps: float = 0.05
    steps: int = 40
    searches: int = 9
    cw_steps: int = 100
    n_val: int | None = None
    n_theory: int = 1000
    theory_weights: tuple[float, ...] = WEIGHTS
    figures: tuple[int, ...] = (2, 4, 5, 6, 7)

    def __post_init__(self) -> None:
        for name in self.networks:
            if name not in NETWORKS:
                raise unknown_name("networks", name, NETWORKS)

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        if scale == "smoke":
            least = Effort(iterations=20, tuning=2, tuning_lr=1e-3, seeds=1, weights=(0.1,), n=4, near=2, judged=4)
            return cls(
                mnist="digits",
                cifar="digits",
                train_limit=128,
                networks=("mlp", "mlp_ten", "cifar_lenet", "cifar_lenet_ten"),
                mlp=least,
                lenet=least,
                mlp_ten=least,
                lenet_ten=least,
                cifar_lenet=least,
                vgg=least,
                resnet=least,
                cifar_lenet_ten=least,
                vgg_ten=least,
                vgg_width=4,
                resnet_width=4,
                padding=2,
                exact=False,
                steps=2,
                searches=1,
                cw_steps=5,
                n_val=4,
                n_theory=60,
                theory_weights=(0.01,),
                figures=(4,),
            )
        if scale == "short":
            grid = (0.01, 0.1, 0.4, 1.6)
            ten = Effort(
                iterations=2000, tuning=800, tuning_lr=1e-3, seeds=1, weights=grid, n=1000, near=100, judged=100
            )
            cifar = Effort(
                iterations=300, tuning=100, tuning_lr=1e-2, seeds=1, weights=(1e-3, 0.1), n=200, near=40, judged=50
            )
            return cls(
                networks=("mlp", "lenet", "mlp_ten", "cifar_lenet", "vgg", "cifar_lenet_ten"),
                train_limit=12_800,
                mlp=replace(ten, seeds=2, weights=MNIST_GRID),
                lenet=replace(ten, iterations=600, tuning=300, n=300),
                mlp_ten=ten,
                lenet_ten=replace(ten, iterations=800, tuning=150, n=300, near=50),
                cifar_lenet=cifar,
                vgg=cifar,
                resnet=replace(cifar, iterations=200, tuning=60, near=20),
                cifar_lenet_ten=replace(cifar, iterations=600),
                vgg_ten=replace(cifar, iterations=600),
                vgg_width=8,
                resnet_width=4,
                exact=False,
                searches=2,
                n_val=200,
                n_theory=500,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the reference models, the figures, and the propositions."""
        return {
            "references": self._references,
            "figures-2-4": self._mnist_two,
            "figure-5": self._mnist_ten,
            "figure-6": self._cifar_two,
            "figure-7": self._cifar_ten,
            "propositions": self._propositions,
        }

    def _references(self, lab: Lab) -> Part:
        """Return the reference models of MNIST beside appendix F's."""
        tasks, rows, first, notes = self._tasks("mlp", "lenet", "mlp_ten", "lenet_ten"), [], [], []
        drawn = self._figure(Guo4, tasks[0])
        for task in tasks:
            runs = lab.train(*(self._reference(task, seed) for seed in range(task.effort.seeds)))
            self._attack(lab, task, runs, drawn)
            lab.judge(runs[:1], drawn.threat(), n=task.effort.judged)
            first += runs[:1]
            entries = _entries(task, REFERENCE, runs, drawn)[: PGD + 1]
            rows.append(judged(_named(task), entries, runs[:1], drawn.threat()))
            notes.append(f"{_named(task)}: {_numbers(task)}.")
        return Part(
            title="The reference models of MNIST, appendix F",
            tables=[
                ReproducedTable(
                    key="references",
                    title=f"Accuracy at L∞ {self.eps:g}",
                    columns=["clean", "FGSM", "PGD"],
                    rows=rows,
                    digits=2,
                    judged_at=judged_at(first, drawn.threat()),
                    notes=[*notes, "Judged: the model of the first seed. The worst case is over fewer examples."],
                )
            ],
            claims=[_finds_more(tasks, rows)],
        )

    def _mnist_two(self, lab: Lab) -> Part:
        tasks, trained, rows, tables = self._carried_out(lab, Guo4, "mlp", "lenet")
        grids = [_without(one, (MATCHED, CURE), self.beyond) for one in trained]
        pair = [_without(one, ("input gradient", "curvature")) for one in grids]
        return Part(
            title="Figures 2 and 4: MNIST, 7 against 1",
            tables=tables,
            claims=[
                claim
                for task, one, of in zip(tasks, rows, trained, strict=True)
                for claim in (
                    self._similar(task, one),
                    self._closest(task, one),
                    self._curvature_best(task, one),
                    self._chosen(task, one, of),
                    self._cure_best(task, one),
                    self._stable(task, of),
                    self._beyond(task, one),
                )
            ],
            figures=[*self._drawn(lab, 2, pair, tasks), *self._drawn(lab, 4, grids, tasks)],
        )

    def _mnist_ten(self, lab: Lab) -> Part:
        tasks, trained, rows, tables = self._carried_out(lab, Guo5, "mlp_ten", "lenet_ten")
        grids = [_without(one, (MATCHED, CURE), self.beyond) for one in trained]
        return Part(
            title="Figure 5: MNIST, ten classes",
            tables=tables,
            claims=[
                *(
                    claim
                    for task, one, of in zip(tasks, rows, trained, strict=True)
                    for claim in (
                        self._similar(task, one),
                        *([self._matched(task, one)] if task.key == "mlp_ten" else []),
                        self._exact_curvature(task, of),
                        self._curvature_best(task, one, by="meseta"),
                        self._chosen(task, one, of),
                    )
                ),
                *(
                    self._gave_nan(task, of, ["Jacobian"], self.beyond, f"beyond λ = {task.effort.weights[-1]:g}")
                    for task, of in zip(tasks, trained, strict=True)
                    if task.key == "lenet_ten"
                ),
            ],
            figures=self._drawn(lab, 5, grids, tasks),
        )

    def _cifar_two(self, lab: Lab) -> Part:
        tasks, trained, rows, tables = self._carried_out(lab, Guo6, "cifar_lenet", "vgg", "resnet")
        return Part(
            title="Figure 6: CIFAR-10, two classes",
            tables=tables,
            claims=[
                claim
                for task, one, of in zip(tasks, rows, trained, strict=True)
                for claim in (
                    self._similar(task, one),
                    self._curvature_best(task, one),
                    self._chosen(task, one, of),
                )
            ],
            figures=self._drawn(lab, 6, trained, tasks),
        )

    def _cifar_ten(self, lab: Lab) -> Part:
        tasks, trained, rows, tables = self._carried_out(lab, Guo7, "cifar_lenet_ten", "vgg_ten")
        return Part(
            title="Figure 7: CIFAR-10, ten classes",
            tables=tables,
            claims=[
                *(
                    claim
                    for task, one, of in zip(tasks, rows, trained, strict=True)
                    for claim in (
                        self._similar(task, one),
                        self._exact_curvature(task, of),
                        self._curvature_best(task, one, by="meseta"),
                    )
                ),
                *(
                    self._gave_nan(task, of, ["Jacobian", "cross-Lipschitz"], task.effort.weights[-1])
                    for task, of in zip(tasks, trained, strict=True)
                    if task.key == "vgg_ten"
                ),
            ],
            figures=self._drawn(lab, 7, trained, tasks),
        )

    def _propositions(self, lab: Lab) -> Part:
        """Return what the propositions say on the reference models of MNIST, as printed and as they hold.

        Figures 1 and 3, which need no run, are drawn with them.
        """
        tasks = self._tasks("mlp", "lenet", "mlp_ten", "lenet_ten")
        runs = [lab.train(self._reference(task, 0))[0] for task in tasks]
        for task, run in zip(tasks, runs, strict=True):
            self._search(lab, task, [run], self._figure(Guo4, task))
        attacks = self._figure(Guo4, tasks[0]).nearest()
        found = [
            examine(run, eps=task.eps, n=self.n_theory, attacks=attacks, weights=self.theory_weights)
            for task, run in zip(tasks, runs, strict=True)
        ]
        names = [f"{task.title}, K = {task.classes}" for task in tasks]
        figures = [lab.draw(Guo1(), []), lab.draw(Guo3(), [])]
        return propositions(dict(zip(names, found, strict=True))).model_copy(update={"figures": figures})

    def _carried_out(
        self, lab: Lab, figure: type[RobustnessAgainstWeight], *keys: str
    ) -> tuple[list[Task], list[Trained], list[Rows], list[ReproducedTable]]:
        """Return the networks of a figure with their runs, trained and attacked, their rows and their tables."""
        tasks = self._tasks(*keys)
        trained = [self._attacked(lab, task, figure) for task in tasks]
        rows = [self._rows(task, one, figure) for task, one in zip(tasks, trained, strict=True)]
        tables = [self._table(*each, figure) for each in zip(tasks, trained, rows, strict=True)]
        return tasks, trained, rows, tables

    def _attacked(self, lab: Lab, task: Task, figure: type[RobustnessAgainstWeight]) -> Trained:
        """Train all runs of a task, attack them, and judge the reference and the heaviest of each regulariser."""
        trained = self._trained(lab, task)
        every = [run for runs in trained.values() for run in runs]
        drawn = self._figure(figure, task)
        self._attack(lab, task, every, drawn)
        lab.attack(every, drawn.attacks()[1:], [drawn.threat()], n=self.n_val, split="val")
        self._search(lab, task, every, drawn)
        judged = [
            trained[REFERENCE][0],
            *(runs[0] for runs in _heaviest(_without(trained, (MATCHED,), self.beyond)).values()),
        ]
        lab.judge(judged, drawn.threat(), n=task.effort.judged)
        return trained

    def _attack(self, lab: Lab, task: Task, runs: Sequence[Path], drawn: RobustnessAgainstWeight) -> None:
        """Attack runs with FGSM and PGD, and take their clean accuracy on the whole test split."""
        lab.look(runs, drawn.threat())
        lab.attack(runs, drawn.attacks(), [drawn.threat()], n=task.effort.n)

    def _search(self, lab: Lab, task: Task, runs: Sequence[Path], drawn: RobustnessAgainstWeight) -> None:
        """Search the distances of runs."""
        for attack in drawn.nearest():
            lab.certify(runs, CertifyConfig(bounds=(), attacks=(attack,), n=task.near))

    def _trained(self, lab: Lab, task: Task) -> Trained:
        seeds = range(task.effort.seeds)
        trained = {REFERENCE: lab.train(*(self._reference(task, seed) for seed in seeds))}
        grid = [(name, weight) for name in REGULARISERS for weight in task.effort.weights]
        grid += [(MATCHED, weight) for weight in task.effort.weights if task.key == "mlp_ten"]
        if task.key in ("mlp", "lenet"):
            grid += [("curvature", self.beyond), *((CURE, weight) for weight in task.effort.weights[-2:])]
        grid += [("Jacobian", self.beyond)] if task.key == "lenet_ten" else []
        for name, weight in grid:
            runs = [self._tuned(lab, task, name, weight, seed) for seed in seeds]
            trained[name, weight] = lab.train(*runs, may_diverge=True)
        return trained

    def _rows(self, task: Task, trained: Trained, figure: type[RobustnessAgainstWeight]) -> Rows:
        """Return a row for each regulariser and weight."""
        drawn = self._figure(figure, task)
        rows = {}
        for key, runs in trained.items():
            lost = sum(map(has_diverged, runs))
            name = key[0] if key == REFERENCE else f"{key[0]}, λ = {key[1]:g}"
            note = f"{lost} of {len(runs)} trainings met a loss that is not finite" if lost else ""
            rows[key] = judged(name, _entries(task, key, runs, drawn), runs[:1], drawn.threat(), note=note)
        return rows

    def _table(
        self, task: Task, trained: Trained, rows: Rows, figure: type[RobustnessAgainstWeight]
    ) -> ReproducedTable:
        drawn, first = self._figure(figure, task), trained[REFERENCE][0]
        notes = [
            f"Data: {read_record(first).data}",
            f"FGSM and PGD at L∞ {task.eps:g}. {_numbers(task)}.",
            f"Distances are means over the first {task.near} test examples, 0 for misclassified ones, missing where "
            "an attack found none for some example. Judged: of the first seed the reference and the largest weight of "
            "each regulariser.",
        ]
        if any(key[0] == MATCHED for key in rows):
            notes.append(f"{MATCHED}: its weight is K/2 times λ; not in the paper.")
        if any(key[0] == CURE for key in rows):
            notes.append(f"CURE: λ ‖∇ℓ(x + hz) − ∇ℓ(x)‖² with h = {Cure().radius:g}; not in the paper by name.")
        return ReproducedTable(
            key=f"{task.key.replace('_', '-')}-weights",
            title=f"{task.title}, {'two' if task.classes == 2 else 'ten'} classes",
            columns=COLUMNS,
            rows=list(rows.values()),
            unit="",
            digits=2,
            judged_at=judged_at([first], drawn.threat()),
            notes=notes,
        )

    def _similar(self, task: Task, rows: Rows) -> Claim:
        pairs = _pairs(rows, task, "cross-Lipschitz", "Jacobian")
        points = {weight: max(abs(a[k] - b[k]) for k in (FGSM, PGD)) for weight, (a, b) in pairs.items()}
        both = {weight: (a[CW], b[CW]) for weight, (a, b) in pairs.items() if not isnan(a[CW] + b[CW])}
        shares = {weight: abs(a - b) / max(a, b, 1e-9) for weight, (a, b) in both.items()}
        text = (
            f"{task.title}: cross-Lipschitz and Jacobian regularisation do similarly at equal λ (here: within "
            f"{POINTS:g} points under FGSM and PGD, and {100 * SHARE:g} % of C&W's distance)."
        )
        if not pairs:
            return Claim(text=text, holds=None, evidence="At no weight both trainings left a network above chance.")
        answers = [alike(a[k], b[k], task.n, within=POINTS) for a, b in pairs.values() for k in (FGSM, PGD)]
        answers += [share <= SHARE for share in shares.values()] if shares else [None]
        far, wide = _largest(points), _largest(shares)
        distances = (
            f"C&W's distances {100 * shares[wide]:.0f} % (λ = {wide:g}; both known at {len(shares)} of {len(pairs)})"
            if shares
            else "C&W's distances are known for both at no weight"
        )
        return Claim(
            text=text,
            holds=all_hold(answers),
            evidence=f"At most {points[far]:.1f} points (λ = {far:g}, n = {task.n}); {distances}; both networks are "
            f"above chance at {len(pairs)} of {len(task.effort.weights)} weights.",
        )

    def _closest(self, task: Task, rows: Rows) -> Claim:
        weights = _common(rows, task, REGULARISERS)
        apart = {pair: _apart(rows, task, *pair, weights) for pair in combinations(REGULARISERS, 2) if weights}
        mine = apart.pop(("cross-Lipschitz", "Jacobian"), None)
        nearest = min(apart, key=lambda pair: apart[pair], default=None)
        return Claim(
            text=f"{task.title}: of all pairs of regularisers at equal λ these two are the most alike.",
            holds=_by_more_than_chance(apart[nearest], mine, task) if nearest and mine is not None else None,
            evidence=f"Under FGSM and PGD they are {mine:.1f} points apart in the mean over {len(weights)} weights; "
            f"the next pair, {' and '.join(nearest)}, {apart[nearest]:.1f} (n = {task.n})."
            if nearest
            else "At no weight all four left a network above chance.",
            by="meseta",
        )

    def _curvature_best(self, task: Task, rows: Rows, by: Literal["paper", "meseta"] = "paper") -> Claim:
        """Return whether the curvature leaves all others behind at the two largest weights."""
        holds: list[bool | None] = []
        said = []
        for weight in task.effort.weights[-2:]:
            mine = _means(task, rows, "curvature", weight)
            others = [_means(task, rows, name, weight) for name in REGULARISERS[:3]]
            known = [one for one in others if one]
            if mine is None or not known:
                holds.append(None)
                continue
            holds += [exceeds(mine[PGD], one[PGD] if one else None, task.n) for one in others]
            holds += [_farther(mine[CW], one[CW] if one else nan) for one in others]
            far = [one[CW] for one in known if not isnan(one[CW])]
            said.append(
                f"λ = {weight:g}: PGD {mine[PGD]:.1f} % against {max(one[PGD] for one in known):.1f} % of the best of "
                f"{len(known)} others, C&W {_spelled(mine[CW])} against {_spelled(max(far, default=nan))} of "
                f"{len(far)}, {mine[CLEAN]:.1f} % clean"
            )
        return Claim(
            text=f"{task.title}: curvature regularisation surpasses all others at large λ, under PGD and C&W.",
            holds=all_hold(holds),
            evidence=f"{'; '.join(said)} (n = {task.n} under PGD)." if said else "No networks to compare there.",
            by=by,
        )

    def _chosen(self, task: Task, rows: Rows, trained: Trained) -> Claim:
        """Return whether the curvature is ahead where each regulariser has the weight that held-out examples choose."""
        pgd = self._figure(Guo4, task).attacks()[1]
        best = {}
        for name in REGULARISERS:
            scores = {
                weight: mean(accuracies(trained[name, weight], pgd, split="val"))
                for weight in task.effort.weights
                if _means(task, rows, name, weight)
            }
            known = {weight: score for weight, score in scores.items() if score is not None}
            if known:
                best[name] = max(known, key=lambda weight: known[weight])
        return self._ahead_at(task, rows, best)

    def _ahead_at(self, task: Task, rows: Rows, weights: Mapping[str, float]) -> Claim:
        """Return whether the curvature is ahead of all others, each at a weight of its own."""
        test = {name: _means(task, rows, name, weight) for name, weight in weights.items()}
        accuracy = {name: found[PGD] for name, found in test.items() if found}
        mine = accuracy.get("curvature")
        said = (f"{name} {accuracy[name]:.1f} % (λ = {weights[name]:g})" for name in accuracy)
        return Claim(
            text=f"{task.title}: curvature regularisation is also ahead where each regulariser has the weight that "
            "is best under PGD on held-out examples.",
            holds=all_hold(exceeds(mine, accuracy.get(name), task.n) for name in REGULARISERS[:3]),
            evidence=f"PGD leaves {', '.join(said)}; n = {task.n}." if accuracy else "No networks to compare.",
            by="meseta",
        )

    def _cure_best(self, task: Task, rows: Rows) -> Claim:
        """Return whether the finite difference of the curvature's authors explains what the paper found."""
        holds: list[bool | None] = []
        said = []
        for weight in task.effort.weights[-2:]:
            found = {name: _means(task, rows, name, weight) for name in (CURE, *REGULARISERS)}
            left = {name: one[PGD] for name, one in found.items() if one}
            holds += [exceeds(left.get(CURE), left.get(name), task.n) for name in REGULARISERS]
            said.append(f"λ = {weight:g}: {', '.join(f'{name} {value:.1f} %' for name, value in left.items())}")
        return Claim(
            text=f"{task.title}: at large λ the finite difference of CURE, whose code the paper took, is ahead of all "
            "others under PGD, and so of the spectral norm of the Hessian that the paper analyses.",
            holds=all_hold(holds),
            evidence=f"PGD leaves at {'; at '.join(said)}; n = {task.n}.",
            by="meseta",
        )

    def _matched(self, task: Task, rows: Rows) -> Claim:
        """Return whether the weights that Proposition 3.4 makes equal for K classes bring the two together."""
        weights = _common(rows, task, ("cross-Lipschitz", "Jacobian", MATCHED))
        equal = _apart(rows, task, "cross-Lipschitz", "Jacobian", weights) if weights else None
        matched = _apart(rows, task, MATCHED, "Jacobian", weights) if weights else None
        return Claim(
            text=f"{task.title}: what the Jacobian at λ is like is the cross-Lipschitz penalty at λK/2, not at λ.",
            holds=None if equal is None or matched is None else _by_more_than_chance(equal, matched, task),
            evidence=f"Under FGSM and PGD they are {spelled(matched)} points apart in the mean over {len(weights)} "
            f"weights, and {spelled(equal)} at equal λ (n = {task.n}).",
            by="meseta",
        )

    def _exact_curvature(self, task: Task, trained: Trained) -> Claim:
        """Return whether the curvature of more than two classes can be regularised, and without approximating it."""
        runs = [run for weight in task.effort.weights for run in trained["curvature", weight]]
        lost, costs = sum(map(has_diverged, runs)), self._costs(task)
        how = (
            "needs no approximation of the Hessian, and"
            if self.exact
            else "by one power step, which gives a lower bound of ‖H‖₂,"
        )
        return Claim(
            text=f"{task.title}: curvature regularisation of ten classes {how} is stable over the grid.",
            holds=lost == 0,
            evidence=f"{lost} of {len(runs)} trainings diverged{self._at_rate(task)}. A step takes the operations of "
            f"so many plain ones: {', '.join(f'{name} {value:.1f}' for name, value in costs.items())}.",
            by="meseta",
        )

    def _costs(self, task: Task) -> dict[str, float]:
        """Return the counted cost of a step of the Jacobian's and of the curvature's training, in plain steps."""
        data = task.data.load()
        x, y = data.train[:BATCH]
        network = task.model.build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
        plain = step_flops(Erm(), network, x, y)
        # A weight changes no cost.
        objectives = {name: self._objective(name, 1.0, task.classes) for name in ("Jacobian", "curvature")}
        return {name: step_flops(one, network, x, y) / plain for name, one in objectives.items()}

    def _stable(self, task: Task, trained: Trained) -> Claim:
        grid = _without(trained, (), self.beyond)
        lost = [name for (name, _), runs in grid.items() for run in runs if has_diverged(run)]
        mine = lost.count("curvature")
        return Claim(
            text=f"{task.title}: curvature regularisation is stable over the whole grid.",
            holds=None if self._is_slower(task) else mine == 0,
            evidence=f"{mine} of its trainings diverged, and {len(lost) - mine} of the others{self._at_rate(task)}.",
        )

    def _gave_nan(self, task: Task, trained: Trained, names: Sequence[str], weight: float, where: str = "") -> Claim:
        """Return whether regularisers diverge at a weight at which they did in the paper."""
        lost = {name: all(map(has_diverged, trained[name, weight])) for name in names}
        said = (f"{name} {'diverged' if bad else 'went through'}" for name, bad in lost.items())
        where = f"{where} (here: at {weight:g})" if where else f"at λ = {weight:g}"
        return Claim(
            text=f"{task.title}: {where} the training meets NaN with the {' and the '.join(names)} penalty.",
            holds=all(lost.values()) or (None if self._is_slower(task) else False),
            evidence=f"{', '.join(said)}{self._at_rate(task)}.",
        )

    def _is_slower(self, task: Task) -> bool:
        """Return whether fine-tuning starts below the rate of the policy."""
        return task.effort.tuning_lr < self.lr

    def _at_rate(self, task: Task) -> str:
        """Return the rate at which fine-tuning starts and, where it is below the policy's, why."""
        why = f" ({RATE})" if self._is_slower(task) else ""
        return f", fine-tuned from a rate of {task.effort.tuning_lr:g}{why}"

    def _beyond(self, task: Task, rows: Rows) -> Claim:
        found, above = _values(rows, "curvature", self.beyond), _means(task, rows, "curvature", self.beyond)
        return Claim(
            text=f"{task.title}: at λ = {self.beyond:g} curvature regularisation takes C&W's distance to nearly "
            f"{SAID_BEYOND:g} (here: within {100 * SHARE:g} %).",
            holds=None if above is None or isnan(above[CW]) else abs(above[CW] - SAID_BEYOND) <= SHARE * SAID_BEYOND,
            evidence="The training diverged."
            if found is None
            else f"The network is within {COLLAPSED:g} points of chance, {found[CLEAN]:.1f} % clean."
            if above is None
            else f"{found[CLEAN]:.1f} % clean, and C&W found nothing for some examples."
            if isnan(found[CW])
            else f"It is {found[CW]:.2f}, at {found[CLEAN]:.1f} % clean.",
        )

    def _drawn(self, lab: Lab, number: int, trained: Sequence[Trained], tasks: Sequence[Task]) -> list[str]:
        """Draw a figure of as many examples as all its networks have."""
        if number not in self.figures:
            return []
        every = [run for one in trained for runs in one.values() for run in runs]
        n, near = min(task.n for task in tasks), min(task.near for task in tasks)
        return [lab.draw(replace(self._figure(FIGURES[number], tasks[0]), n=n, near=near), every)]

    def _figure(self, figure: type[RobustnessAgainstWeight], task: Task) -> RobustnessAgainstWeight:
        return figure(
            eps=task.eps,
            steps=self.steps,
            searches=self.searches,
            cw_steps=self.cw_steps,
            n=task.effort.n,
            near=task.effort.near,
        )

    def _tasks(self, *keys: str) -> list[Task]:
        """Return those of the tasks whose networks there are."""
        chosen = [key for key in keys if key in self.networks]
        if not chosen:
            raise UserError(f"`networks` must hold one of {', '.join(keys)} for this part, got {self.networks}.")
        return [self._task(key) for key in chosen]

    def _task(self, key: str) -> Task:
        batch: Literal["none", "batch"] = "batch" if key.startswith("cifar_lenet") else "none"
        mlp, lenet = LeNet300100(), LeNet5(padding=self.padding, norm=batch)
        vgg, resnet = VggLike(width=self.vgg_width, norm="batch"), ResNet31(width=self.resnet_width)
        networks: dict[str, tuple[str, Architecture]] = {
            "mlp": ("LeNet-300-100", mlp),
            "lenet": ("LeNet-5", lenet),
            "cifar_lenet": ("LeNet-5 with batch normalisation", lenet),
            "vgg": ("VGG-like", vgg),
            "resnet": ("ResNet-31", resnet),
        }
        title, model = networks[key.removesuffix("_ten")]
        on_mnist = key.removesuffix("_ten") in ("mlp", "lenet")
        two = (7, 1) if on_mnist else self.cifar_classes
        data = DataConfig(
            source=self.mnist if on_mnist else self.cifar,
            classes=None if key.endswith("_ten") else two,
            train_limit=self.train_limit,
        )
        return Task(key, title, data, model, getattr(self, key), self.eps if on_mnist else self.cifar_eps)

    def _reference(self, task: Task, seed: int) -> RunConfig:
        return self._run(task, f"reference-s{seed}", task.effort.iterations, self.lr, model=task.model, seed=seed)

    def _tuned(self, lab: Lab, task: Task, name: str, weight: float, seed: int) -> RunConfig:
        return self._run(
            task,
            f"{SHORT[name]}-{weight:g}-s{seed}",
            task.effort.tuning,
            task.effort.tuning_lr,
            start_from=str(lab.folder / "runs" / self._reference(task, seed).run_name),
            objective=self._objective(name, weight, task.classes),
            seed=seed,
        )

    def _run(self, task: Task, label: str, iterations: int, lr: float, **options: Any) -> RunConfig:
        """Return a run with the policy of Caffe's LeNet on MNIST, and the paper's milestones on CIFAR-10."""
        on_mnist = task.key.removesuffix("_ten") in ("mlp", "lenet")
        return RunConfig(
            name=f"{task.key}-{label}",
            data=task.data,
            optimizer=Sgd(lr=lr, momentum=self.momentum, weight_decay=self.weight_decay),
            schedule=InverseDecay(growth=1e-4 * iterations) if on_mnist else StepDecay(milestones=(0.6, 0.8)),
            epochs=max(1, round(iterations / _steps(task.data))),
            batch_size=BATCH,
            **options,
        )

    def _objective(self, name: str, weight: float, classes: int) -> Objective:
        """Return the regulariser, exact for two classes at any scale."""
        exact = self.exact or classes == 2
        estimator: Literal["exact", "sampled"] = "exact" if exact else "sampled"
        if name == "Jacobian":
            return Jacobian(weight=weight, estimator=estimator)
        if name == "input gradient":
            return InputGradient(weight=weight, power=2)
        if name == "curvature":
            return Curvature(weight=weight, estimator="gram" if exact and classes > 2 else "krylov")
        if name == CURE:
            return Cure(weight=weight)
        times = classes / 2 if name == MATCHED else 1
        return CrossLipschitz(weight=times * weight, estimator="sampled" if classes == 2 else estimator)


@cache
def _tests(data: DataConfig) -> int:
    """Return the number of test examples."""
    return len(data.load().test)


@cache
def _steps(data: DataConfig) -> int:
    """Return the steps of an epoch."""
    return -(-len(data.load().train) // BATCH)


def _without(trained: Trained, names: Sequence[str], beyond: float = inf) -> Trained:
    """Return the runs but for some regularisers, and those of the weight beyond the grid."""
    return {key: runs for key, runs in trained.items() if key[0] not in names and key[1] != beyond}


def _heaviest(trained: Trained) -> Trained:
    """Return the runs of each regulariser at the largest weight at which none of them diverged."""
    stable = {key: runs for key, runs in trained.items() if not any(map(has_diverged, runs)) and key != REFERENCE}
    return {key: stable[key] for key in {name: (name, weight) for name, weight in sorted(stable)}.values()}


def _entries(task: Task, key: Key, runs: Sequence[Path], drawn: RobustnessAgainstWeight) -> list[Entry]:
    """Return the entries of a row: three accuracies, and distances where they were measured."""
    under = (accuracies(runs, attack, drawn.threat(), most=task.effort.n) for attack in drawn.attacks())
    ours = [accuracies(runs, None), *under]
    ours += [_distances(runs, attack) for attack in drawn.nearest()]
    printed = [*PUBLISHED.get(task.key, {}).get(key, ())]
    printed += [None] * (len(ours) - len(printed))
    if task.key in ("mlp", "lenet") and key == ("curvature", 6.4):
        printed[CW] = SAID_BEYOND, None
    both = zip(ours, printed, strict=True)
    return [
        Entry(ours=list(values), published=said and said[0], published_spread=said and said[1]) for values, said in both
    ]


def _distances(runs: Sequence[Path], attack: MinimumNormAttack) -> list[float | None]:
    """Return the mean distance of each run; None of diverged ones, and where an example has none."""
    records = [None if has_diverged(run) else read_record(run) for run in runs]
    found = [record and distances_of(record, attack, "test") for record in records]
    return [mean(one.values) if one else None for one in found]


def _values(rows: Rows, name: str, weight: float) -> list[float] | None:
    """Return the values of a row in the order of the columns, NaN for a missing distance; None of diverged runs."""
    row = rows.get((name, weight))
    values = [nan if entry.mean is None else entry.mean for entry in row.entries] if row else [nan]
    return None if isnan(values[0]) else values


def _means(task: Task, rows: Rows, name: str, weight: float) -> list[float] | None:
    """Return `_values`; None of networks that are no better than chance as well."""
    values = _values(rows, name, weight)
    return values if values and values[CLEAN] > 100 / task.classes + COLLAPSED else None


def _common(rows: Rows, task: Task, names: Sequence[str]) -> list[float]:
    """Return the weights at which all of some regularisers left networks above chance."""
    return [weight for weight in task.effort.weights if all(_means(task, rows, name, weight) for name in names)]


def _pairs(rows: Rows, task: Task, one: str, other: str) -> dict[float, tuple[list[float], list[float]]]:
    """Return the values of two regularisers at the weights at which both have them."""
    both = {
        weight: (_means(task, rows, one, weight), _means(task, rows, other, weight)) for weight in task.effort.weights
    }
    return {weight: (a, b) for weight, (a, b) in both.items() if a and b}


def _apart(rows: Rows, task: Task, one: str, other: str, weights: Sequence[float]) -> float:
    """Return by how many points two regularisers differ under FGSM and PGD, in the mean over weights of both."""
    pairs = _pairs(rows, task, one, other)
    return fmean(abs(pairs[weight][0][k] - pairs[weight][1][k]) for weight in weights for k in (FGSM, PGD))


def _by_more_than_chance(larger: float, smaller: float, task: Task) -> bool | None:
    """Return whether one difference in points is above another by more than chance is at accuracies of one half."""
    half = (larger - smaller) / 2
    return exceeds(50 + half, 50 - half, task.n)


def _farther(mine: float, other: float) -> bool | None:
    """Return whether a mean distance is larger than another; None where one is missing, or both are alike."""
    if isnan(mine + other) or abs(mine - other) <= SHARE * max(mine, other):
        return None
    return mine > other


def _largest(values: Mapping[float, float]) -> float:
    """Return the weight of the largest value; NaN where there is none."""
    return max(values, key=lambda weight: values[weight], default=nan)


def _spelled(distance: float) -> str:
    return "missing" if isnan(distance) else f"{distance:.2f}"


def _named(task: Task) -> str:
    return f"{task.title}, {'7 against 1' if task.classes == 2 else 'ten classes'}"


def _numbers(task: Task) -> str:
    """Return of how many test examples the accuracies are."""
    return f"Clean accuracy is of all {_tests(task.data)} test examples, FGSM's and PGD's of the first {task.n}"


def _finds_more(tasks: Sequence[Task], rows: Sequence[Row]) -> Claim:
    """Return whether PGD finds far more than FGSM on the networks for which the paper prints both."""
    printed = [(task, row) for task, row in zip(tasks, rows, strict=True) if row.entries[PGD].published is not None]
    left = [(task, row.entries[FGSM].mean, row.entries[PGD].mean) for task, row in printed]
    said = (f"{_named(task)}: {spelled(pgd)} % against {spelled(fgsm)} %, n = {task.n}" for task, fgsm, pgd in left)
    return Claim(
        text="PGD finds far more adversarial examples of the reference models than FGSM (here: clearly more than "
        f"{POINTS:g} points).",
        holds=all_hold(exceeds(fgsm, pgd, task.n, by=POINTS) for task, fgsm, pgd in left) if left else None,
        evidence=f"{'; '.join(said)}." if left else "No network for which the paper prints both.",
    )
