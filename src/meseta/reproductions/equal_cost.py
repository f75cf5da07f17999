"""The question that the papers leave: which method keeps the most at equal training cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import ceil, prod
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch

from meseta import attacks
from meseta.attacks import FGSM, PGD, FrankWolfe
from meseta.autodiff import Decision
from meseta.data import DataConfig, ImageData
from meseta.evaluation.record import Evaluation, read_record
from meseta.models import Architecture, SiluCnn
from meseta.objectives import (
    AdversarialTraining,
    CrossHolder,
    CrossLipschitz,
    Cure,
    Curvature,
    CurvatureBound,
    DecisionGradient,
    Erm,
    GradAlign,
    Haat,
    InputGradient,
    Jacobian,
    Llr,
    Objective,
    Scheduled,
    Scorpio,
    Soar,
    Sum,
    Trades,
)
from meseta.report.comparison import eps_text, wilson
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import Lab, accuracies, best, judged, judged_at
from meseta.schedules import Cosine, LinearWarmup
from meseta.threat import Threat
from meseta.training import Adam, RunConfig
from meseta.training.cost import step_flops

PLAIN = "erm"
WITHIN = 2.0
"""Points of clean accuracy on the held-out split that a method may lose against plain training."""
ATTACK = PGD(steps=20, loss=Decision())
"""What settings are chosen by, and what stands beside the worst case."""
DataSet = Literal["mnist", "fashion", "cifar"]


@dataclass(frozen=True)
class Method:
    """One setting of a method, and what its training costs.

    Attributes:
        step: the cost of a step, in plain steps.
        epochs: passes over the training examples.
        examples: how many those are.
    """

    name: str
    strength: float
    objective: Objective
    step: float
    epochs: int
    examples: int


def methods(strength: float, threat: Threat, inputs: int) -> dict[str, Objective]:
    """Return every method of the library but plain training, by name, at a strength: 1 is what fits the threat.

    Weights grow with eps, as the pull of the adversarial loss to first order does, so that one strength asks for about
    the same at every threat; for attacks the strength is the share of eps that is trained against.

    Args:
        strength: of the penalty or the attack.
        threat: that all are compared at.
        inputs: d, how many values an input has.
    """
    trained = replace(threat, eps=strength * threat.eps)
    weight = trained.eps
    pgd = AdversarialTraining(attack=PGD(threat=trained, steps=7, drop_broken=False))
    return {
        "input-gradient": InputGradient(weight=20 * weight),
        "jacobian": Jacobian(weight=0.4 * weight),
        "cross-lipschitz": CrossLipschitz(weight=2 * weight),
        "decision-gradient": DecisionGradient(weight=4 * weight),
        "curvature": Curvature(weight=20 * weight),
        "curvature-trace": Curvature(weight=20 * weight, norm="trace"),
        "curvature-bound": CurvatureBound(weight=1e-3 * weight),
        "cross-holder": CrossHolder(weight=0.3 * weight, curvature=3 * threat.eps),
        "cure": Scheduled(
            objective=Cure(weight=20 * weight, radius=inputs**0.5 * threat.eps / 2),
            schedules={"radius": LinearWarmup(start=0.1)},
        ),
        "soar": Scheduled(objective=Soar(weight=0.1 * strength, threat=threat), schedules={"weight": LinearWarmup()}),
        "scorpio": Scorpio(attack=FrankWolfe(threat=trained, steps=3)),
        "n-fgsm": AdversarialTraining(attack=FGSM(threat=trained), noise=1.0),
        "grad-align": GradAlign(attack=FGSM(threat=trained)),
        "llr": Llr(threat=trained, steps=5),
        "trades": Trades(threat=trained, steps=5, weight=3.0),
        "pgd": pgd,
        "haat": Haat(attack=attacks.Haat(threat=trained, steps=2)),
        "pgd+decision-gradient": Sum(parts=(pgd, DecisionGradient(weight=weight))),
    }


@dataclass(frozen=True, kw_only=True)
class EqualCost(Reproduction):
    """Every objective of the library at the same training cost, on MNIST, Fashion-MNIST and CIFAR-10.

    A plain training takes `budget` epochs; a method whose step costs c plain steps takes budget / c of them, rounded up,
    over as many fewer examples as make the cost the same. Costs are counted operations of
    convolutions and matrix products. Each method's strength is chosen on the held-out split: among those within 2
    points of plain training's clean accuracy the most robust one. Then all are judged on test examples.

    Args:
        mnist, fashion, cifar: the data sets; None leaves one out.
        eps: the Linf radius on each.
        model: the network, which must be smooth for the methods of second order.
        train_limit: training examples; None for all.
        budget: epochs of plain training.
        batch_size, lr: of every training, with Adam.
        strengths: that each method is tried at.
        seeds: trainings of the chosen setting.
        n_val, n_test: examples that a PGD attacks to choose, and beside the worst case.
        n_judged: test examples of the standard suite; `checked` of them are examined for masking.
    """

    paper: ClassVar[str] = "equal-cost"
    title: ClassVar[str] = "Robustness at equal training cost"
    citation: ClassVar[str] = "No paper asks this: all objectives of meseta, each with the same number of operations."
    choices: ClassVar[tuple[str, ...]] = (
        "Cost is counted in operations of convolutions and matrix products, which no machine's load changes; seconds "
        "stand beside it. What is not counted, such as activations and their second derivatives, makes methods with "
        "double backward dearer in seconds than in operations.",
        "Steps are counted on the untrained network; iterations that stop early may take more or fewer later.",
        "Each method has one dial, its strength: the weight of a penalty, in proportion to eps, or the share of eps "
        "of an attack. The weights at strength 1 are plain choices.",
        "Adam, a cosine schedule and no augmentation for all. One seed: the intervals are those of the test examples, "
        "and a second training may move a method by more.",
        "The clean accuracy of the choice is that on the whole held-out split, the robust one that of its first "
        "examples under PGD-20 on the margin.",
        "On Fashion-MNIST eps is 0.05: at 0.1 nothing robust stays within 2 points of plain training.",
    )

    mnist: str | None = "ylecun/mnist"
    fashion: str | None = "zalando-datasets/fashion_mnist"
    cifar: str | None = "uoft-cs/cifar10"
    eps: tuple[float, float, float] = (0.1, 0.05, 4 / 255)
    model: Architecture = SiluCnn()
    train_limit: int | None = None
    budget: int = 60
    batch_size: int = 128
    lr: float = 2e-3
    strengths: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    n_val: int | None = None
    n_test: int | None = None
    n_judged: int | None = 1000
    checked: int = 200

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        narrow = SiluCnn(maps=(8, 16, 16, 32), hidden=(64,))
        if scale == "smoke":
            return cls(
                mnist="digits",
                fashion=None,
                cifar=None,
                model=SiluCnn(maps=(4, 4, 8, 8), hidden=(16,)),
                train_limit=128,
                budget=1,
                batch_size=32,
                strengths=(1.0,),
                n_val=16,
                n_test=16,
                n_judged=16,
                checked=8,
            )
        if scale == "short":
            return cls(
                model=narrow,
                train_limit=6000,
                budget=8,
                batch_size=64,
                strengths=(0.35, 1.0),
                n_val=500,
                n_test=500,
                n_judged=200,
                checked=60,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the data sets."""
        names: tuple[DataSet, ...] = ("mnist", "fashion", "cifar")
        return {name: partial(self._data_set, name) for name in names if getattr(self, name) is not None}

    def _data_set(self, name: DataSet, lab: Lab) -> Part:
        """Train every method at every strength, choose on the held-out split and judge what was chosen."""
        threat, plan = self._threat(name), self._plan(name)
        tried = {method: lab.train(*(self._run(name, one) for one in settings)) for method, settings in plan.items()}
        every = [run for runs in tried.values() for run in runs]
        lab.attack(every, [ATTACK], [threat], n=self.n_val, split="val")
        chosen = {method: chosen_by(runs, tried[PLAIN][0], threat) for method, runs in tried.items()}
        lab.attack(list(chosen.values()), [ATTACK], [threat], n=self.n_test)
        lab.judge(list(chosen.values()), threat, n=self.n_judged, checked=self.checked)
        return Part(title=name)

    def _plan(self, name: DataSet) -> dict[str, list[Method]]:
        """Return every setting of every method, plain training first, with the epochs that its cost leaves."""
        data = self._data(name).load()
        x, y = data.train[: self.batch_size]
        network = self.model.build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
        plain = step_flops(Erm(), network, x, y)
        grid: dict[str, dict[float, Objective]] = {PLAIN: {0.0: Erm()}}
        for strength in self.strengths:
            for method, objective in methods(strength, self._threat(name), prod(data.input_shape)).items():
                grid.setdefault(method, {})[strength] = objective
        plan = {}
        for method, settings in grid.items():
            step = step_flops(next(iter(settings.values())), network, x, y) / plain
            epochs, examples = share_out(self.budget, step, len(data.train))
            plan[method] = [Method(method, *setting, step, epochs, examples) for setting in settings.items()]
        return plan

    def _run(self, name: DataSet, one: Method) -> RunConfig:
        return RunConfig(
            name=f"{name}-{one.name}-{one.strength:g}",
            data=replace(self._data(name), train_limit=one.examples),
            model=self.model,
            objective=one.objective,
            optimizer=Adam(lr=self.lr),
            schedule=Cosine(),
            epochs=one.epochs,
            batch_size=self.batch_size,
        )

    def _data(self, name: DataSet) -> DataConfig:
        return DataConfig(source=getattr(self, name), train_limit=self.train_limit)

    def _threat(self, name: DataSet) -> Threat:
        return Threat("Linf", dict(zip(("mnist", "fashion", "cifar"), self.eps, strict=True))[name])


def share_out(budget: int, step: float, examples: int) -> tuple[int, int]:
    """Return epochs and training examples that together cost `budget` plain epochs, for a step of so many plain ones.

    The fewest epochs that can, and as many examples as are then left: nearly all where the epochs are many.
    """
    epochs = ceil(budget / step)
    return epochs, max(1, round(examples * budget / (step * epochs)))


def held_out(run: Path) -> float:
    """Return the clean accuracy in % on the whole held-out split, as training saw it last."""
    return 100 * (read_record(run).training.metrics["val/accuracy"] or 0)


def chosen_by(runs: Sequence[Path], plain: Path, threat: Threat) -> Path:
    """Return the most robust of the runs that are within 2 points of plain training, else the cleanest.

    Both on the held-out split.
    """
    near = [run for run in runs if is_near(run, plain)]
    robust = {run: accuracies([run], ATTACK, threat, split="val")[0] for run in near}
    return best(near, robust.get) or max(runs, key=held_out)


def is_near(run: Path, plain: Path) -> bool:
    """Return whether a run is within 2 points of plain training on the held-out split."""
    return held_out(run) >= held_out(plain) - WITHIN
