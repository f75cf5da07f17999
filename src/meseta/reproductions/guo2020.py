"""Guo et al. 2020: connections between four regularisers, against their weight and in theory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from meseta.data import DataConfig
from meseta.models import Architecture, LeNet5, LeNet300100, ResNet31, VggLike
from meseta.objectives import CrossLipschitz, Curvature, InputGradient, Jacobian, Objective
from meseta.papers import Guo2, Guo4, Guo5, Guo6, Guo7
from meseta.papers.guo2020 import RobustnessAgainstWeight
from meseta.report.reproduced import Part
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import Lab, has_diverged
from meseta.schedules import InverseDecay, StepDecay
from meseta.training import RunConfig, Sgd
from meseta.workflow import CertifyConfig

REGULARISERS = ("cross-Lipschitz", "Jacobian", "input gradient", "curvature")
REFERENCE = ("reference", 0.0)
MATCHED = "cross-Lipschitz at λK/2"
"""Not in the paper: the weight at which it is, for any number of classes K, what the Jacobian at λ is."""
SHORT = dict(zip((*REGULARISERS, MATCHED), ("cl", "jac", "ig", "curv", "matched"), strict=True))
"""What their runs are called."""
MNIST_GRID = (1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.4, 0.8, 1.6)
CIFAR_GRID = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What is spent on one network and data set.

    Args:
        iterations: of the training of a reference model.
        tuning: iterations of each fine-tuning.
        seeds: reference models, each fine-tuned in all ways.
        weights: the grid.
        n: test examples attacked; None for all.
        judged: examples of the standard suite and the masking checks.
    """

    iterations: int
    tuning: int
    seeds: int = 10
    weights: tuple[float, ...]
    n: int | None = None
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


Trained = dict[tuple[str, float], list[Path]]
"""The runs of each regulariser and weight, one for each seed; under ("reference", 0) the reference models."""


def _mnist() -> Effort:
    return Effort(iterations=50_000, tuning=50_000, weights=MNIST_GRID)


def _cifar() -> Effort:
    return Effort(iterations=100_000, tuning=100_000, weights=CIFAR_GRID)


@dataclass(frozen=True, kw_only=True)
class Guo2020(Reproduction):
    """Cross-Lipschitz, Jacobian, input-gradient and curvature regularisation: figures 2 and 4 to 7, propositions.

    Reference models are trained plainly, then fine-tuned with every regulariser at every weight, and attacked with
    FGSM, PGD, DeepFool and C&W.

    Args:
        mnist, cifar: the data sets.
        cifar_classes: the two of the binary CIFAR-10 task.
        train_limit: training examples; None for all.
        lr, momentum, weight_decay: of all trainings.
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
        searches: of C&W.
        n_val: held-out examples of the choice of weights; None for all.
        n_theory: test examples on which the propositions are checked.
    """

    paper: ClassVar[str] = "guo2020"
    title: ClassVar[str] = "Connections between regularisations for robustness"
    citation: ClassVar[str] = (
        "Guo, Chen, Chen & Zhang 2020, On Connections between Regularizations for Improving DNN Robustness."
    )

    mnist: str = "ylecun/mnist"
    cifar: str = "uoft-cs/cifar10"
    cifar_classes: tuple[int, int] = (0, 1)
    train_limit: int | None = None
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
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
    n_val: int | None = None
    n_theory: int = 1000

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        if scale == "smoke":
            least = Effort(iterations=3, tuning=2, seeds=1, weights=(0.1,), n=8, judged=8)
            return cls(
                mnist="digits",
                cifar="digits",
                train_limit=128,
                mlp=replace(least, iterations=20),
                lenet=least,
                mlp_ten=replace(least, iterations=20),
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
                n_val=8,
                n_theory=8,
            )
        if scale == "short":
            ten = Effort(iterations=2000, tuning=600, seeds=1, weights=(0.01, 0.1, 0.4, 1.6), n=100, judged=50)
            cifar = Effort(iterations=300, tuning=100, seeds=1, weights=(1e-4, 1e-2, 0.1), n=50, judged=30)
            return cls(
                train_limit=12_800,
                mlp=Effort(iterations=2000, tuning=400, seeds=2, weights=MNIST_GRID, n=100, judged=50),
                lenet=Effort(iterations=600, tuning=200, seeds=2, weights=(0.01, 0.1, 0.4, 1.6), n=100, judged=30),
                mlp_ten=ten,
                lenet_ten=replace(ten, iterations=800, tuning=100, n=50, judged=30),
                cifar_lenet=cifar,
                vgg=cifar,
                resnet=replace(cifar, iterations=200, tuning=60, weights=(1e-3, 0.1), n=30, judged=20),
                cifar_lenet_ten=replace(cifar, iterations=600),
                vgg_ten=replace(cifar, iterations=600),
                vgg_width=8,
                resnet_width=4,
                exact=False,
                searches=2,
                n_val=100,
                n_theory=500,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the reference models, the figures, and the propositions."""
        return {
            "figures-2-4": self._mnist_two,
            "figure-5": self._mnist_ten,
            "figure-6": self._cifar_two,
            "figure-7": self._cifar_ten,
        }

    def _mnist_two(self, lab: Lab) -> Part:
        tasks = self._tasks("mlp", "lenet")
        trained = [self._attacked(lab, task, Guo4) for task in tasks]
        flat = [_without(one, (MATCHED,), self.beyond) for one in trained]
        figures = [self._drawn(lab, Guo2, [_without(one, ("input gradient", "curvature")) for one in flat], tasks)]
        figures += [self._drawn(lab, Guo4, flat, tasks)]
        return Part(title="Figures 2 and 4: MNIST, 7 against 1", figures=figures)

    def _mnist_ten(self, lab: Lab) -> Part:
        tasks = self._tasks("mlp_ten", "lenet_ten")
        trained = [self._attacked(lab, task, Guo5) for task in tasks]
        flat = [_without(one, (MATCHED,), self.beyond) for one in trained]
        return Part(title="Figure 5: MNIST, ten classes", figures=[self._drawn(lab, Guo5, flat, tasks)])

    def _cifar_two(self, lab: Lab) -> Part:
        tasks = self._tasks("cifar_lenet", "vgg", "resnet")
        trained = [self._attacked(lab, task, Guo6) for task in tasks]
        return Part(title="Figure 6: CIFAR-10, two classes", figures=[self._drawn(lab, Guo6, trained, tasks)])

    def _cifar_ten(self, lab: Lab) -> Part:
        tasks = self._tasks("cifar_lenet_ten", "vgg_ten")
        trained = [self._attacked(lab, task, Guo7) for task in tasks]
        return Part(title="Figure 7: CIFAR-10, ten classes", figures=[self._drawn(lab, Guo7, trained, tasks)])

    def _attacked(self, lab: Lab, task: Task, figure: type[RobustnessAgainstWeight]) -> Trained:
        """Train all runs of a task, attack them, and judge the reference and the heaviest of each regulariser."""
        trained = self._trained(lab, task)
        every = [run for runs in trained.values() for run in runs]
        drawn = self._figure(figure, task)
        lab.attack(every, drawn.attacks(), [drawn.threat()], n=task.effort.n)
        lab.attack(every, drawn.attacks()[1:], [drawn.threat()], n=self.n_val, split="val")
        for attack in drawn.nearest():
            lab.certify(every, CertifyConfig(bounds=(), attacks=(attack,), n=task.effort.n))
        judged = [
            trained[REFERENCE][0],
            *(runs[0] for runs in _heaviest(_without(trained, (MATCHED,), self.beyond)).values()),
        ]
        lab.judge(judged, drawn.threat(), n=task.effort.judged)
        return trained

    def _trained(self, lab: Lab, task: Task) -> Trained:
        seeds = range(task.effort.seeds)
        trained = {REFERENCE: lab.train(*(self._reference(task, seed) for seed in seeds))}
        grid = [(name, weight) for name in REGULARISERS for weight in task.effort.weights]
        grid += [(MATCHED, weight) for weight in task.effort.weights if task.key in ("mlp_ten", "lenet_ten")]
        grid += [("curvature", self.beyond)] if task.key in ("mlp", "lenet") else []
        grid += [("Jacobian", self.beyond)] if task.key == "lenet_ten" else []
        for name, weight in grid:
            runs = [self._tuned(lab, task, name, weight, seed) for seed in seeds]
            trained[name, weight] = lab.train(*runs, may_diverge=True)
        return trained

    def _drawn(
        self, lab: Lab, figure: type[RobustnessAgainstWeight], trained: Sequence[Trained], tasks: Sequence[Task]
    ) -> str:
        every = [run for one in trained for runs in one.values() for run in runs]
        return lab.draw(self._figure(figure, min(tasks, key=lambda task: task.effort.n or 10**9)), every)

    def _figure(self, figure: type[RobustnessAgainstWeight], task: Task) -> RobustnessAgainstWeight:
        return figure(eps=task.eps, steps=self.steps, searches=self.searches, n=task.effort.n)

    def _tasks(self, *keys: str) -> list[Task]:
        return [self._task(key) for key in keys]

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
        return self._run(task, f"reference-s{seed}", task.effort.iterations, model=task.model, seed=seed)

    def _tuned(self, lab: Lab, task: Task, name: str, weight: float, seed: int) -> RunConfig:
        return self._run(
            task,
            f"{SHORT[name]}-{weight:g}-s{seed}",
            task.effort.tuning,
            start_from=str(lab.folder / "runs" / self._reference(task, seed).run_name),
            objective=self._objective(name, weight, task.classes),
            seed=seed,
        )

    def _run(self, task: Task, label: str, iterations: int, **options: Any) -> RunConfig:
        """Return a run with the policy of Caffe's LeNet on MNIST, and the paper's milestones on CIFAR-10."""
        on_mnist = task.key.removesuffix("_ten") in ("mlp", "lenet")
        return RunConfig(
            name=f"{task.key}-{label}",
            data=task.data,
            optimizer=Sgd(lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay),
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
        times = classes / 2 if name == MATCHED else 1
        return CrossLipschitz(weight=times * weight, estimator="sampled" if classes == 2 else estimator)


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
