"""Yu et al. 2018: training with the slope of the decision function, and the surfaces that it flattens."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import isclose, prod
from pathlib import Path
from statistics import median
from typing import ClassVar, Self, TypeVar

import torch

from meseta.attacks import FGSM, PGD, Attack
from meseta.autodiff import CrossEntropy, Decision, Hessian, value_and_gradient
from meseta.checks import positive, usable_device, whole
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.record import Evaluation, Surface, read_record
from meseta.geometry import GradientNorm, GradientSparsity, HessianSpectrum, Measure
from meseta.geometry.second_order import dense
from meseta.linalg import norm
from meseta.looking import SurfaceConfig
from meseta.models import Architecture, ConvNetGap, LeNet5
from meseta.objectives import AdversarialTraining, DecisionGradient, Erm, InputGradient, Objective, Sum
from meseta.papers import PaperFigure, Yu2, Yu3, Yu4, Yu6, Yu7, Yu8, Yu9, Yu10
from meseta.papers.attacked import alone, evaluations, needed
from meseta.papers.estimates import measured
from meseta.papers.yu_surfaces import ADVERSARIAL, RANDOM, SurfacePanels
from meseta.report.comparison import eps_text
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import (
    CHANCE,
    COLLAPSED,
    Lab,
    accuracies,
    best,
    grown,
    has_diverged,
    held_out,
    judged,
    judged_at,
    mean,
)
from meseta.reproductions.yu2018_claims import (
    ATTACKS,
    CIFAR_EPS,
    CLEAN,
    COST,
    METHODS,
    MNIST_EPS,
    PRINTED_WEIGHT,
    RANGES,
    RATIOS,
    STATISTICS,
    Cell,
    Cells,
    Sample,
    Statistics,
    adversarial_claim,
    cifar_claims,
    cost_claims,
    hessian_claims,
    missed_claim,
    mnist_claims,
    printed,
    slope_claim,
    statistics_claims,
    surface_claims,
    weight_claims,
)
from meseta.schedules import Cosine
from meseta.threat import Threat
from meseta.training import Adam, RunConfig, step_flops, step_seconds
from meseta.training.config import Augmentation
from meseta.workflow import MeasureConfig, Run, SplitName, load_run

Figures = tuple[float, ...]
Columns = Mapping[Cell, list[float | None]]
"""A row of tables 1 and 2, a value for each seed."""
F = TypeVar("F", bound=SurfacePanels)
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}
TUNED = ("CrossEntropy", "Ours")
SHOWN = ("Natural", "Ours", "MinMax")
"""The methods whose Jacobian and Hessian are compared."""
EIGENVALUE_ZERO = 1e-9
"""Printed as 10e-10 (footnote 3)."""
SLOPE, LOSS_SLOPE = GradientNorm(field=Decision(), q=1), GradientNorm(q=1)
SPARSITY = GradientSparsity()
SPECTRUM, LOSS_SPECTRUM = HessianSpectrum(field=Decision()), HessianSpectrum()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A data set with all that is set for it.

    Args:
        name: the start of its runs' names.
        data, model: what is trained on, and what.
        eps: radii of the table, Linf; `step` of the iterative attacks; `train_eps` of those in training.
        epochs: of natural and adversarial training, of those with a slope penalty, and of min-max training.
        weights: the grid of c. loss_weights: of the cross-entropy gradient.
        drop: points of clean accuracy that a weight may cost.
        warmup: share of min-max training over which its radius and step grow.
        seeds: trainings of each method.
    """

    name: str
    data: DataConfig
    model: Architecture
    augment: Augmentation
    eps: Figures
    step: float
    train_eps: float
    epochs: tuple[int, int, int]
    weights: Figures
    loss_weights: Figures
    drop: float
    warmup: float
    seeds: int

    def spelled(self, value: float) -> str:
        """Write a radius as the paper does."""
        return f"{value:g}" if self.name == "mnist" else eps_text("Linf", value)

    @property
    def threats(self) -> list[Threat]:
        """The threats of the table."""
        return [Threat("Linf", eps) for eps in self.eps]

    def attacks(self, steps: int) -> dict[str, Attack]:
        """Return the paper's attacks; the iterative ones return their last point, as they were published."""
        bim, cw = (
            PGD(steps=steps, alpha=self.step, random_start=False, drop_broken=False, loss=loss)
            for loss in (CrossEntropy(), Decision())
        )
        return {"FGSM": FGSM(), "BIM": bim, "C&W": cw}

    def objective(self, method: str, steps: int, weight: float = 0.0) -> Objective:
        """Return what a method minimises; `weight` of its penalty, if it has one."""
        threat = Threat("Linf", self.train_eps)
        one_step = AdversarialTraining(attack=FGSM(threat=threat), clean=0.5)
        ours = DecisionGradient(weight=weight, q=1)
        inner = PGD(threat=threat, steps=steps, alpha=self.step, drop_broken=False, loss=Decision())
        return {
            "Natural": Erm(),
            "AdvTrain": one_step,
            "CrossEntropy": InputGradient(weight=weight),
            "Ours": ours,
            "Ours+AdvTrain": Sum(parts=(one_step, ours)),
            "MinMax": grown(AdversarialTraining(attack=inner), self.warmup),
        }[method]

    def epochs_of(self, method: str) -> int:
        """Return how long a method is trained."""
        plain, flat, minmax = self.epochs
        return {"Natural": plain, "AdvTrain": plain, "MinMax": minmax}.get(method, flat)

    def grid(self, method: str) -> Figures:
        """Return the weights that are tried."""
        return self.weights if method == "Ours" else self.loss_weights


@dataclass(frozen=True)
class Choice:
    """The weight of a penalty, and how it was chosen."""

    weight: float
    affordable: bool
    """Whether it costs no more clean accuracy than it may. Else it is the cleanest; the first, where all diverged."""
    remark: str = ""
    """What the choice lacks, in words."""


@dataclass(frozen=True)
class Trained:
    """The runs of a data set: of each method one for each seed, and of each weight tried the run of the first seed."""

    runs: Mapping[str, list[Path]]
    tried: Mapping[str, dict[float, Path]]
    choices: Mapping[str, Choice]

    @cached_property
    def natural(self) -> Run:
        """Natural training of the first seed."""
        return load_run(self.runs["Natural"][0])

    @property
    def data(self) -> str:
        """The data set in words."""
        return self.natural.record.data

    @property
    def unaffordable(self) -> list[str]:
        """The tuned methods that have no weight which costs little enough; they cannot be compared with each other."""
        return [method for method in TUNED if not self.choices[method].affordable]

    def size(self, split: SplitName, n: int | None) -> int:
        """Return how many the first n examples of a split are, all of them where n is None."""
        return len(self.natural.examples(split, n))

    def every(self) -> list[Path]:
        """Return the runs of the tables, each once."""
        return [run for runs in self.runs.values() for run in runs]

    def firsts(self, *methods: str) -> list[Path]:
        """Return the run of the first seed of each of these methods."""
        return [self.runs[method][0] for method in methods]


@dataclass(frozen=True, kw_only=True)
class Yu2018(Reproduction):
    """Decision-gradient regularisation, MNIST and CIFAR-10: tables 1 and 2, cost, Jacobian and Hessian, surfaces.

    The weights of both slope penalties are chosen on the 5 % held out: of those that cost at most `drops` points of
    natural training's clean accuracy there, the one of highest mean accuracy under BIM over the radii of the table;
    without such a weight the cleanest, and no claim compares the two then.

    Args:
        mnist, cifar10: the data sets.
        train_limits: training examples of both; None for all.
        padding: of the convolutions of the MNIST network. width: maps of the CIFAR-10 network's first convolutions.
        augment: of CIFAR-10.
        mnist_epochs, cifar_epochs: of natural and adversarial training, of the slope penalties, of min-max training.
        batch_size, lr: of every training.
        seeds: trainings of each method on both; weights are chosen with the first.
        steps: of the iterative attacks, also in training.
        mnist_weights, cifar_weights: the grids of c.
        mnist_loss_weights, cifar_loss_weights: the grids of the cross-entropy gradient's weight.
        drops: points of clean accuracy that a weight may cost.
        warmup: share of min-max training over which its radius and step grow from zero.
        n_test, n_val: examples attacked; None for all.
        finer_steps: of the two attacks that the paper's are compared with.
        n_judged: examples of the standard suite; `checked` of them are examined for masking.
        n_hessian: examples whose Jacobian and Hessian are taken. n_double: of these, how many in float64 too.
        rounds: how often a training step is timed.
        resolution, parameter_resolution, n_surface: points along an axis of inputs and of parameters, and examples of
            the loss over parameters.
        figures: which are drawn beside 2, 3 and 6, of 4, 7, 8, 9 and 10.
    """

    paper: ClassVar[str] = "yu2018"
    title: ClassVar[str] = "Decision surfaces in input space"
    citation: ClassVar[str] = (
        "Yu et al. 2018, Interpreting Adversarial Robustness: A View from Decision Surface in Input Space."
    )
    choices: ClassVar[tuple[str, ...]] = (
        "The appendix trains adversarially on C&W examples of 10 iterations, which is min-max training, while the "
        "tables hold AdvTrain (Kurakin et al.) and MinMax (Madry et al.) as two rows. Here AdvTrain is half clean "
        "loss, half that at one-step FGSM examples, and MinMax has the appendix's attack: C&W loss, 10 iterations, "
        "Linf 0.3 with step 0.1 on MNIST, 8/255 with step 1/255 on CIFAR-10, and the random start of Madry et al. The "
        "radius of AdvTrain is ours: these two, in one full step.",
        "Ours+AdvTrain adds our penalty at the clean input, with the weight chosen for Ours, to that AdvTrain.",
        "The norm of the penalty is left open (l1, l2 or l∞): l1, the dual of the attacks' Linf.",
        "c = 500 comes without a reduction. Here c is per example and per unit of ‖∇L‖₁ by inputs in [0, 1]; 500 times "
        "a mean over the d entries is c = 500/d, 0.64 on MNIST and 0.16 on CIFAR-10. The settings of CIFAR-10 are on "
        "pixel range 0 to 255 (appendix 8.3): by such inputs the gradient is 255 times smaller, and the same is "
        "500/(255 d) = 6.4e-4. The grids hold all three; taken of the gradient of a batch mean c is smaller by the "
        "batch size too.",
        "c and the weight of the cross-entropy gradient (squared l2 norm, as Ross & Doshi-Velez have it) are chosen "
        "by one rule on the held-out split; the paper's Ours costs 0.7 and 3.0 points of clean accuracy, from where "
        "the rule has its 1 and 3.",
        "At every scale 5 % of the training set are held out for that, so that training is on 95 %.",
        "C&W is the margin loss raised by BIM's steps in the ball, since the paper gives it steps and radii.",
        "Each radius is attacked in a call of its own, so that an entry counts what was broken at its radius alone.",
        "The attacks that the paper's are compared with differ in three ways: finer steps, a random start, and every "
        "iterate counts, while BIM and C&W start at the input and count their last point.",
        "MNIST: LeNet-5 of two convolutions and two linear layers. CIFAR-10: five convolutions, whose widths are not "
        "given, pooled, and a linear layer.",
        "Optimiser, batch size and augmentation are not given: Adam at 1e-3 with a cosine schedule, 128, crops and "
        "flips on CIFAR-10. Epochs are given for CIFAR-10 alone: about 30, 100 and over 400.",
        "At short scale the radius of min-max training grows over its first half: in a few hundred steps at 0.3 a "
        "network may never leave the constant answer.",
        "Figures 2, 3, 6 and 7 and the statistics of section 4.3 are of released networks in the paper (MNIST and "
        "CIFAR-10 challenges, ResNets on CIFAR-10); ours are of the networks of tables 1 and 2.",
        "The l1 norm of the Hessian is read as Σ|λ_i|, which equation 9 has; the paper may mean that of its entries.",
    )

    mnist: str = "ylecun/mnist"
    cifar10: str = "uoft-cs/cifar10"
    train_limits: tuple[int | None, int | None] = (None, None)
    padding: int = 0
    width: int = 64
    augment: Augmentation = "crop_flip"
    mnist_epochs: tuple[int, int, int] = (30, 30, 30)
    cifar_epochs: tuple[int, int, int] = (30, 100, 400)
    batch_size: int = 128
    lr: float = 1e-3
    seeds: tuple[int, int] = (3, 3)
    steps: int = 10
    mnist_weights: Figures = (0.003, 0.01, 0.03, 0.1, 0.3, 0.64)
    cifar_weights: Figures = (0.00064, 0.001, 0.003, 0.01, 0.03, 0.1, 0.16)
    mnist_loss_weights: Figures = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    cifar_loss_weights: Figures = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    drops: tuple[float, float] = (1.0, 3.0)
    warmup: float = 0.0
    n_test: int | None = None
    n_val: int | None = None
    finer_steps: int = 100
    n_judged: int | None = 1000
    checked: int = 100
    n_hessian: int = 100
    n_double: int = 20
    rounds: int = 21
    resolution: int = 101
    parameter_resolution: int = 31
    n_surface: int = 256
    figures: tuple[int, ...] = (4, 7, 8, 9, 10)

    def __post_init__(self) -> None:
        for count in self.seeds:
            whole("seeds", count, 1)
        for name in ("mnist_weights", "cifar_weights", "mnist_loss_weights", "cifar_loss_weights"):
            if not getattr(self, name):
                raise UserError(f"`{name}` must hold at least one weight, got none.")
            for weight in getattr(self, name):
                positive(name, weight)
        if unknown := set(self.figures) - {4, 7, 8, 9, 10}:
            raise UserError(
                f"`figures` must be among 4, 7, 8, 9 and 10, got {min(unknown)}. 2, 3 and 6 are drawn anyway."
            )

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        if scale == "smoke":
            return cls(
                mnist="digits",
                cifar10="digits",
                train_limits=(120, 120),
                padding=2,
                width=8,
                augment="none",
                mnist_epochs=(1, 1, 1),
                cifar_epochs=(1, 1, 1),
                batch_size=60,
                seeds=(1, 1),
                steps=2,
                mnist_weights=(0.01,),
                cifar_weights=(0.01,),
                mnist_loss_weights=(0.1,),
                cifar_loss_weights=(0.1,),
                n_test=8,
                n_val=8,
                finer_steps=2,
                n_judged=8,
                n_hessian=4,
                n_double=2,
                rounds=1,
                resolution=5,
                parameter_resolution=3,
                n_surface=8,
                figures=(),
            )
        if scale == "short":
            return cls(
                train_limits=(6000, 5000),
                width=16,
                augment="none",
                mnist_epochs=(6, 6, 10),
                cifar_epochs=(8, 8, 8),
                batch_size=64,
                lr=2e-3,
                seeds=(2, 1),
                mnist_weights=(0.01, 0.03, 0.1, 0.64),
                cifar_weights=(0.00064, 0.001, 0.003, 0.01, 0.03, 0.16),
                mnist_loss_weights=(0.3, 1.0, 3.0, 10.0),
                cifar_loss_weights=(0.03, 0.1, 0.3, 1.0, 3.0),
                warmup=0.5,
                n_test=500,
                n_val=300,
                finer_steps=20,
                n_judged=100,
                checked=30,
                n_hessian=40,
                n_double=5,
                rounds=5,
                resolution=41,
                parameter_resolution=11,
                n_surface=128,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the two tables, cost, statistics and surfaces."""
        return {
            "table-1": partial(self._accuracy, "mnist"),
            "table-2": partial(self._accuracy, "cifar10"),
            "cost": self._cost,
            "statistics": self._statistics,
            "surfaces": self._surfaces,
        }

    def _bench(self, name: str) -> Bench:
        """Return what is set for a data set."""
        k = 0 if name == "mnist" else 1
        model: Architecture = ConvNetGap(width=self.width) if k else LeNet5(padding=self.padding)
        return Bench(
            name=name,
            data=DataConfig(source=self.cifar10 if k else self.mnist, train_limit=self.train_limits[k]),
            model=model,
            augment=self.augment if k else "none",
            eps=CIFAR_EPS if k else MNIST_EPS,
            step=1 / 255 if k else 0.1,
            train_eps=8 / 255 if k else 0.3,
            epochs=self.cifar_epochs if k else self.mnist_epochs,
            weights=self.cifar_weights if k else self.mnist_weights,
            loss_weights=self.cifar_loss_weights if k else self.mnist_loss_weights,
            drop=self.drops[k],
            warmup=self.warmup,
            seeds=self.seeds[k],
        )

    def _run(self, bench: Bench, method: str, seed: int, weight: float = 0.0) -> RunConfig:
        label = method.lower().replace("+", "-") + (f"-{weight:g}" if weight else "")
        return RunConfig(
            name=f"{bench.name}-{label}-s{seed}",
            data=bench.data,
            augment=bench.augment,
            model=bench.model,
            objective=bench.objective(method, self.steps, weight),
            optimizer=Adam(lr=self.lr),
            schedule=Cosine(),
            epochs=bench.epochs_of(method),
            batch_size=self.batch_size,
            seed=seed,
        )

    def _trained(self, bench: Bench, lab: Lab) -> Trained:
        """Train natural, choose the weights of both penalties, and train every method with every seed.

        Whatever has a penalty or an attack may diverge.
        """
        (natural,) = lab.train(self._run(bench, "Natural", 0))
        tried = {}
        for method in TUNED:
            grid = bench.grid(method)
            runs = lab.train(*(self._run(bench, method, 0, weight) for weight in grid), may_diverge=True)
            tried[method] = dict(zip(grid, runs, strict=True))
        every_tried = [natural, *(run for runs in tried.values() for run in runs.values())]
        self._attack(lab, every_tried, [bench.attacks(self.steps)["BIM"]], bench, n=self.n_val, split="val")
        choices = {method: self._chosen(bench, natural, tried[method]) for method in TUNED}
        choices["Ours+AdvTrain"] = choices["Ours"]
        every = {}
        for method in METHODS:
            weight = choices[method].weight if method in choices else 0.0
            configs = [self._run(bench, method, seed, weight) for seed in range(bench.seeds)]
            every[method] = lab.train(*configs, may_diverge=method != "Natural")
        return Trained(every, tried, choices)

    def _attack(
        self,
        lab: Lab,
        runs: Sequence[Path],
        attacks: Sequence[Attack],
        bench: Bench,
        *,
        n: int | None,
        split: SplitName = "test",
    ) -> None:
        """Attack runs at each radius by itself: in one evaluation what is broken at a radius counts at larger ones."""
        for threat in bench.threats:
            lab.attack(runs, attacks, [threat], n=n, split=split)

    def _chosen(self, bench: Bench, natural: Path, tried: Mapping[float, Path]) -> Choice:
        """Return the weight of highest score among those that cost little clean accuracy, else the cleanest."""
        weights = {run: weight for weight, run in tried.items()}
        floor = (held_out(natural) or 0.0) - bench.drop
        affordable = [run for run in weights if (clean := held_out(run)) is not None and clean >= floor]
        found = best(affordable, partial(self._score, bench))
        if found is not None:
            return Choice(weights[found], True, _edge(weights[found], list(tried)))
        cleanest = best(list(weights), held_out)
        if cleanest is None:
            return Choice(next(iter(tried)), False, "every weight of the grid diverged")
        remark = f"no weight is at most {bench.drop:g} points below natural training, this is the cleanest"
        return Choice(weights[cleanest], False, remark)

    def _score(self, bench: Bench, run: Path) -> float | None:
        """Return the mean accuracy under BIM on the held-out split over the radii of the table."""
        bim = bench.attacks(self.steps)["BIM"]
        return mean([_left(run, bim, threat, "val") for threat in bench.threats])

    def _finer(self) -> list[Attack]:
        """Return the attacks that the paper's are compared with: finer steps, a random start, every point counts."""
        return [PGD(steps=self.finer_steps, loss=loss) for loss in (CrossEntropy(), Decision())]

    def _accuracy(self, name: str, lab: Lab) -> Part:
        """Return table 1 or 2, the choice of weights, and what the paper's attacks miss."""
        bench = self._bench(name)
        trained = self._trained(bench, lab)
        every = trained.every()
        self._attack(lab, every, list(bench.attacks(self.steps).values()), bench, n=self.n_test)
        self._attack(lab, every, self._finer(), bench, n=self.n_test)
        lab.judge(every, bench.threats[0], n=self.n_judged, checked=self.checked)
        rows = {method: self._cells(bench, runs) for method, runs in trained.runs.items()}
        cells = _known(rows, trained)
        sample = Sample(trained.size("test", self.n_test), bench.seeds)
        claims = mnist_claims if name == "mnist" else cifar_claims
        return Part(
            title=f"Table {1 if name == 'mnist' else 2}: {TITLES[name]}",
            tables=[
                self._accuracy_table(bench, trained, rows),
                self._missed_table(bench, trained),
                self._choice_table(bench, trained),
            ],
            claims=[
                *claims(cells, sample, trained.unaffordable),
                adversarial_claim(name, cells, sample, self.steps),
                self._missed_claim(bench, trained, sample),
                *self._weight_claims(bench, trained),
            ],
        )

    def _cells(self, bench: Bench, runs: Sequence[Path]) -> Columns:
        """Return the accuracies of a row: clean, and under each attack at the k-th radius."""
        attacks = bench.attacks(self.steps)
        left: dict[Cell, list[float | None]] = {
            (name, k): [_left(run, attacks[name], threat) for run in runs]
            for name in ATTACKS
            for k, threat in enumerate(bench.threats)
        }
        return {CLEAN: accuracies(runs, None, most=self.n_test), **left}

    def _accuracy_table(self, bench: Bench, trained: Trained, found: Mapping[str, Columns]) -> ReproducedTable:
        rows = []
        for method, columns in found.items():
            published, runs = printed(bench.name, method), trained.runs[method]
            entries = [Entry(published=published.get(cell), ours=ours) for cell, ours in columns.items()]
            rows.append(judged(method, entries, runs, bench.threats[0], note=_note(runs, trained.choices.get(method))))
        smallest = bench.spelled(bench.eps[0])
        return ReproducedTable(
            key=f"{bench.name}-accuracy",
            title=f"{TITLES[bench.name]}: test accuracy",
            columns=["Natural", *(f"{name}, ε = {bench.spelled(eps)}" for name in ATTACKS for eps in bench.eps)],
            rows=rows,
            judged_at=judged_at(trained.every(), bench.threats[0]),
            notes=[
                trained.data,
                f"The paper's attacks on n = {trained.size('test', self.n_test)} test examples, each radius by itself.",
                f"Worst case and masking are at ε = {smallest} alone, of n = {trained.size('test', self.n_judged)}.",
                *(["The paper's table 1 has no rows Ours+AdvTrain and MinMax."] if bench.name == "mnist" else []),
            ],
        )

    def _missed_table(self, bench: Bench, trained: Trained) -> ReproducedTable:
        """Return what the paper's three attacks leave together, beside what finer ones do."""
        rows = []
        for method, runs in trained.runs.items():
            pairs = [self._coarse_and_fine(bench, runs, threat) for threat in bench.threats]
            entries = [Entry(ours=values) for pair in pairs for values in pair]
            rows.append(Row(name=method, entries=entries, note=_note(runs)))
        columns = [f"{whose}, ε = {bench.spelled(eps)}" for eps in bench.eps for whose in ("the paper's", "finer")]
        return ReproducedTable(
            key=f"{bench.name}-missed",
            title="What FGSM, BIM and C&W of the paper leave together, and what finer steps leave",
            columns=columns,
            rows=rows,
            notes=[
                trained.data,
                f"Finer: PGD of {self.finer_steps} steps of 2.5 ε/{self.finer_steps} on both losses from a random "
                f"start, on the same n = {trained.size('test', self.n_test)} examples; each of its points counts, of "
                f"BIM and C&W ({self.steps} steps of {bench.spelled(bench.step)}) the last one.",
            ],
        )

    def _coarse_and_fine(
        self, bench: Bench, runs: Sequence[Path], threat: Threat
    ) -> tuple[list[float | None], list[float | None]]:
        coarse, fine = (
            [_left_together(run, attacks, threat) for run in runs]
            for attacks in (list(bench.attacks(self.steps).values()), self._finer())
        )
        return coarse, fine

    def _choice_table(self, bench: Bench, trained: Trained) -> ReproducedTable:
        natural = trained.runs["Natural"][0]
        shown = [("Natural", natural)] + [
            (f"{method}, {weight:g}{' (chosen)' if weight == trained.choices[method].weight else ''}", run)
            for method in TUNED
            for weight, run in trained.tried[method].items()
        ]
        rows = [
            Row(
                name=name,
                entries=[Entry(ours=[held_out(run)]), Entry(ours=[self._score(bench, run)])],
                note="diverged" if has_diverged(run) else "",
            )
            for name, run in shown
        ]
        remarks = [f"{method}: {remark}." for method in TUNED if (remark := trained.choices[method].remark)]
        readings = (f"{weight:.2g} with inputs {span}" for span, weight in _readings(bench, trained).items())
        return ReproducedTable(
            key=f"{bench.name}-choice",
            title="The choice of weights, on the held-out split",
            columns=["clean", "mean under BIM over the radii"],
            rows=rows,
            notes=[
                trained.data,
                f"Chosen: the highest mean under BIM among those at most {bench.drop:g} points below natural training, "
                "else the cleanest.",
                *remarks,
                f"Clean accuracy of all n = {trained.size('val', None)} held-out examples, BIM on "
                f"n = {trained.size('val', self.n_val)} of them.",
                f"c = {PRINTED_WEIGHT} as a mean over entries is {', '.join(readings)} here.",
            ],
        )

    def _missed_claim(self, bench: Bench, trained: Trained, sample: Sample) -> Claim:
        """Return whether finer steps find more against Ours than the paper's attacks."""
        runs = trained.runs["Ours"]
        pairs = [self._coarse_and_fine(bench, runs, threat) for threat in bench.threats]
        known = all(map(_sound, runs))
        left = [(mean(coarse), mean(fine)) if known else (None, None) for coarse, fine in pairs]
        steps = f"{self.steps} steps of {bench.spelled(bench.step)}"
        return missed_claim(left, [bench.spelled(eps) for eps in bench.eps], steps, sample)

    def _weight_claims(self, bench: Bench, trained: Trained) -> list[Claim]:
        """Return what the paper's weight costs as a mean over entries, where that is among the weights tried."""
        tried = trained.tried["Ours"]
        near = {
            span: next((one for one in tried if isclose(one, weight, rel_tol=0.05)), None)  # else of other images
            for span, weight in _readings(bench, trained).items()
        }
        lowered = {span: (weight, held_out(tried[weight])) for span, weight in near.items() if weight is not None}
        natural = trained.runs["Natural"][0]
        clean = held_out(natural) if _sound(natural) else None
        return weight_claims(bench.name, lowered, clean, trained.choices["Ours"].weight, trained.size("val", None))

    def _cost(self, lab: Lab) -> Part:
        """Return what a training step of every method costs beside a natural one."""
        seconds: dict[str, dict[str, float]] = {}
        operations: dict[str, dict[str, float]] = {}
        described = []
        for name in TITLES:
            bench = self._bench(name)
            data = bench.data.load()
            described.append(data.describe())
            device = usable_device(None)
            x, y = (part.to(device) for part in data.train[: self.batch_size])
            model = bench.model.build(data.input_shape, data.num_classes, mean=data.mean, std=data.std).to(device)
            objectives = {method: bench.objective(method, self.steps, 0.01) for method in METHODS}
            times = step_seconds(objectives, model, x, y, rounds=self.rounds)
            flops = {method: step_flops(objective, model, x, y) for method, objective in objectives.items()}
            seconds[name] = {
                method: median(own / plain for own, plain in zip(times[method], times["Natural"], strict=True))
                for method in METHODS
            }
            operations[name] = {method: flops[method] / flops["Natural"] for method in METHODS}
        columns = [f"{title}, {what}" for title in TITLES.values() for what in ("seconds", "operations")]
        rows = [
            Row(
                name=method,
                entries=[
                    entry
                    for name in TITLES
                    for entry in (
                        Entry(published=COST if method == "Ours" else None, ours=[seconds[name][method]]),
                        Entry(ours=[operations[name][method]]),
                    )
                ],
            )
            for method in METHODS
        ]
        table = ReproducedTable(
            key="cost",
            title="A training step over a natural one",
            columns=columns,
            rows=rows,
            unit="",
            digits=2,
            notes=[
                *dict.fromkeys(described),
                f"Seconds: the median of {self.rounds} rounds of ratios, each round with a step of every method in an "
                f"order drawn anew, batches of {self.batch_size}, without the optimiser's update. Operations: of "
                "convolutions and matrix products, forward and backward.",
                f"The attack of MinMax takes {self.steps} steps.",
                "The paper's 2.1 is the average of both data sets, of time per epoch; of MinMax it says over 10 times.",
            ],
        )
        return Part(title="Time per epoch", tables=[table], claims=cost_claims(seconds, operations, self.steps))

    def _statistics(self, lab: Lab) -> Part:
        """Return the statistics of section 4.3 and 5.3, and which Hessian they can be of."""
        bench = self._bench("mnist")
        trained = self._trained(bench, lab)
        runs = dict(zip(SHOWN, trained.firsts(*SHOWN), strict=True))
        both = {**runs, "CrossEntropy": trained.runs["CrossEntropy"][0]}
        lab.measure(list(both.values()), MeasureConfig(measures=(SLOPE, LOSS_SLOPE, SPARSITY), n=self.n_hessian))
        lab.measure(list(runs.values()), MeasureConfig(measures=(LOSS_SPECTRUM,), n=self.n_hessian))
        twins = self._twins(bench, trained, lab)
        lab.measure(list(twins.values()), MeasureConfig(measures=(SLOPE, SPECTRUM), n=self.n_hessian))
        zeros = {name: self._zero_shares(load_run(run)) for name, run in runs.items() if not has_diverged(run)}
        statistics = {name: _summary(run, zeros.get(name, (None, None))[0]) for name, run in runs.items()}
        reaches = {name: None if has_diverged(run) else self._reach(load_run(run)) for name, run in runs.items()}
        smooth = {name: [_mean_of(run, SLOPE), _mean_of(run, SPECTRUM, "nuclear")] for name, run in twins.items()}
        slopes = {name: (_mean_of(run, SLOPE), _mean_of(run, LOSS_SLOPE)) for name, run in both.items()}
        relative = {name: _percent(_mean_of(run, SPARSITY)) for name, run in runs.items()}
        sound = {name for name, run in both.items() if _sound(run)}
        sound_twins = all(map(_sound, twins.values()))
        return Part(
            title="Sections 4.3 and 5.3: Jacobian and Hessian on MNIST",
            tables=[
                self._statistics_table(trained, statistics, reaches),
                _ratio_table(statistics, smooth),
            ],
            claims=[
                *statistics_claims(
                    {name: values if name in sound else [None] * 4 for name, values in statistics.items()},
                    _only(sound, relative),
                    _only(sound, reaches),
                    self.n_hessian,
                ),
                *hessian_claims(
                    {name: pair for name, pair in zeros.items() if name in sound},
                    prod(trained.natural.data.input_shape),
                    self._flat(trained.natural) if "Natural" in sound else None,
                    {name: values if sound_twins else [None, None] for name, values in smooth.items()},
                ),
                slope_claim(
                    {name: pair if name in sound else (None, None) for name, pair in slopes.items()},
                    trained.unaffordable,
                ),
            ],
            figures=self._drawn(lab, {8: (Yu8(field=CrossEntropy(), n=self.n_hessian), list(runs.values()))}),
        )

    def _statistics_table(
        self, trained: Trained, statistics: Statistics, reaches: Mapping[str, float | None]
    ) -> ReproducedTable:
        rows = []
        for name, values in statistics.items():
            reach = reaches[name]
            ours = [*values, None if reach is None else 255 * reach]
            published = (*STATISTICS.get(name, (None,) * 4), None)
            entries = [Entry(published=said, ours=[value]) for said, value in zip(published, ours, strict=True)]
            rows.append(Row(name=name, entries=entries, note=_note(trained.runs[name][:1])))
        return ReproducedTable(
            key="statistics",
            title="Jacobian of the decision function and Hessian of the loss",
            columns=["‖J‖₁", "|J_i| < 0.01 (%)", "Σ|λ_i|", "|λ_i| < 1e-9, in float32 (%)", "L / ‖J‖₁, median (1/255)"],
            rows=rows,
            unit="",
            digits=2,
            notes=[
                trained.data,
                f"Means of {self.n_hessian} test examples, of the zeros among the eigenvalues of {self.n_double}; the "
                "published ones are of 100, on released networks. Nonzero Hessians of ReLU networks can be those of "
                "the loss alone.",
                "L / ‖J‖₁ is the Linf distance to the boundary, to first order.",
            ],
        )

    def _twins(self, bench: Bench, trained: Trained, lab: Lab) -> dict[str, Path]:
        """Train natural and Ours with SiLU in place of ReLU, so that the decision function has a Hessian."""
        smooth = replace(bench, name=f"{bench.name}-silu", model=replace(bench.model, activation="silu"))
        configs = [self._run(smooth, "Natural", 0), self._run(smooth, "Ours", 0, trained.choices["Ours"].weight)]
        return dict(zip(("Natural", "Ours"), lab.train(*configs, may_diverge=True), strict=True))

    def _zero_shares(self, run: Run) -> tuple[float, float]:
        """Return the share in % of eigenvalues of the loss's Hessian below the paper's zero, in float32 and float64."""
        x, y = run.chosen("test", range(self.n_double))
        shares = []
        for dtype in (torch.float32, torch.float64):
            model, point = run.model.to(dtype), x.to(dtype)
            matrices = dense(Hessian(CrossEntropy().bind(model, point, y), point), point)
            eigenvalues = torch.linalg.eigvalsh((matrices + matrices.mT) / 2)
            shares.append(100 * (eigenvalues.abs() < EIGENVALUE_ZERO).double().mean().item())
        return shares[0], shares[1]

    def _reach(self, run: Run) -> float:
        """Return the median first-order distance to the boundary, L / ‖∇L‖₁ in Linf; misclassified ones have none."""
        x, y = run.chosen("test", range(self.n_hessian))
        value, gradient = value_and_gradient(Decision().bind(run.model, x, y), x)
        return (value.clamp_min(0) / norm(gradient, 1)).median().item()

    def _flat(self, run: Run) -> float:
        """Return the largest entry of products of the decision function's Hessian with random vectors."""
        x, y = run.chosen("test", range(self.n_hessian))
        v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        return Hessian(Decision().bind(run.model, x, y), x)(v).abs().max().item()

    def _drawn(self, lab: Lab, figures: Mapping[int, tuple[PaperFigure, list[Path]]]) -> list[str]:
        """Draw those that are asked for, and 2, 3 and 6, where enough runs did not diverge."""
        return [
            lab.draw(figure, runs)
            for number, (figure, runs) in figures.items()
            if number in (*self.figures, 2, 3, 6) and len(runs) - sum(map(has_diverged, runs)) >= figure.least_runs
        ]

    def _sized(self, figure: F) -> F:
        """Return a figure of surfaces as fine as the scale has it."""
        return replace(
            figure, resolution=self.resolution, parameter_resolution=self.parameter_resolution, n=self.n_surface
        )

    def _surfaces(self, lab: Lab) -> Part:
        """Return the figures of surfaces, and what they show in numbers."""
        benches = {name: self._bench(name) for name in TITLES}
        trained = {name: self._trained(bench, lab) for name, bench in benches.items()}
        mnist, cifar = trained["mnist"], trained["cifar10"]
        pair, ours = cifar.firsts("Natural", "MinMax"), mnist.firsts("Natural", "Ours")
        far, eps = benches["mnist"].eps[-1], benches["cifar10"].train_eps
        over_parameters, over_inputs = self._sized(Yu2(eps=eps)), self._sized(Yu3(eps=eps))
        plateau, digits = self._sized(Yu6(clipped=True)), mnist.firsts("Natural", "MinMax")
        figures = self._drawn(
            lab,
            {
                2: (over_parameters, pair),
                3: (over_inputs, pair),
                6: (plateau, digits),
                4: (self._sized(Yu4(eps=eps)), pair[:1]),
                7: (self._sized(Yu7()), pair),
                9: (self._sized(Yu9(eps=far)), ours),
                10: (Yu10(), [*mnist.firsts(*SHOWN), *cifar.firsts(*SHOWN)]),
            },
        )
        rises = [
            [_rise(_surface(run, config), reach) for run in pair]
            for config, reach in (
                (over_parameters.over_parameters(), 0.5),
                (over_inputs.at(0, *ADVERSARIAL), eps),
            )
        ]
        stands = [
            [_plateau(_surface(run, plateau.at(0, *axes)), 0.3) for axes in (RANDOM, ADVERSARIAL)] for run in digits
        ]
        return Part(
            title="Surfaces",
            claims=surface_claims(rises, stands),
            figures=figures,
            notes=[
                *dict.fromkeys(one.data for one in trained.values()),
                "All of test example 0; figure 10 of six examples of either data set.",
            ],
        )


def _sound(run: Path) -> bool:
    """Return whether a claim can be about a run: it did not diverge, and is better than chance when held out."""
    clean = held_out(run)
    return clean is not None and clean >= CHANCE


def _known(rows: Mapping[str, Columns], trained: Trained) -> Cells:
    """Return what claims are decided by: the means over the seeds; None of a method that any seed did not learn."""
    sound = {method: all(map(_sound, trained.runs[method])) for method in rows}
    return {
        (method, cell): mean(values) if sound[method] else None
        for method, columns in rows.items()
        for cell, values in columns.items()
    }


def _note(runs: Sequence[Path], choice: Choice | None = None) -> str:
    """Return what is said of a row: the weight that was chosen, and what happened in training."""
    weight = [f"weight {choice.weight:g}" + (f" ({choice.remark})" if choice.remark else "")] if choice else []
    diverged = sum(map(has_diverged, runs))
    lost = [f"diverged: {diverged} of {len(runs)} trainings met a loss that is not finite"] if diverged else []
    fell = not all(_sound(run) for run in runs if not has_diverged(run))
    return "; ".join([*weight, *lost, *([COLLAPSED] if fell else [])])


def _edge(weight: float, grid: Sequence[float]) -> str:
    """Return in words which end of its grid a weight is; empty where it is none, or the only one."""
    ends = {min(grid): "lowest", max(grid): "highest"}
    return f"the {ends[weight]} weight of the grid" if len(grid) > 1 and weight in ends else ""


def _readings(bench: Bench, trained: Trained) -> dict[str, float]:
    """Return the paper's weight per unit of the l1 norm, if it is of a mean over entries, by range of inputs."""
    size = prod(trained.natural.data.input_shape)
    return {span: PRINTED_WEIGHT / (size * top) for span, top in RANGES[bench.name].items()}


def _left(run: Path, attack: Attack, threat: Threat, split: str = "test") -> float | None:
    """Return the accuracy in % that an attack left of a run; None where it diverged."""
    return None if has_diverged(run) else 100 * alone(_at(run, [attack], threat, split), attack).robust[0].worst_case


def _left_together(run: Path, attacks: Sequence[Attack], threat: Threat) -> float | None:
    """Return the accuracy in % that attacks left of a run together, example by example; None where it diverged."""
    return None if has_diverged(run) else 100 * _at(run, attacks, threat, "test").robust[0].worst_case


def _at(run: Path, attacks: Sequence[Attack], threat: Threat, split: str) -> Evaluation:
    """Return the evaluation at a radius by itself: one at several counts at the larger what the smaller broke."""
    record = read_record(run)
    single = [one for one in evaluations(record) if len(one.robust) == 1]
    record = record.model_copy(update={"evaluation": None, "other_evaluations": single})
    return needed(record, attacks, [threat], split=split, others=True)


def _mean_of(run: Path, measure: Measure, part: str = "") -> float | None:
    """Return the mean of a measure, or of one of its parts; None of a run that diverged."""
    if has_diverged(run):
        return None
    found = measured(read_record(run), measure, "test")
    return found.parts[part].mean if part else found.mean


def _only(names: Container[str], values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return the values of these names, None for the others."""
    return {name: value if name in names else None for name, value in values.items()}


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _summary(run: Path, zeros: float | None) -> list[float | None]:
    """Return what section 4.3 tells of a network: l1 norms of Jacobian and Hessian, each with its zeros in %."""
    return [
        _mean_of(run, SLOPE),
        _percent(_mean_of(run, SPARSITY, "below_zero")),
        _mean_of(run, LOSS_SPECTRUM, "nuclear"),
        zeros,
    ]


def _ratio_table(statistics: Statistics, smooth: Statistics) -> ReproducedTable:
    """Return how many times less the norms of trained networks are than the natural one's."""

    def row(name: str, natural: Sequence[float | None], other: Sequence[float | None], published: Figures) -> Row:
        pairs = zip(natural, other, published or (None, None), strict=True)
        return Row(
            name=name,
            entries=[Entry(published=said, ours=[a / b if a is not None and b else None]) for a, b, said in pairs],
        )

    natural, ours, minmax = (statistics[name][::2] for name in SHOWN)
    printed_ratios = tuple(STATISTICS["Natural"][k] / STATISTICS["MinMax"][k] for k in (0, 2))
    return ReproducedTable(
        key="statistics-ratios",
        title="How many times less than natural",
        columns=["‖J‖₁", "Σ|λ_i|"],
        rows=[
            row("Ours", natural, ours, RATIOS),
            row("MinMax", natural, minmax, printed_ratios),
            row("Ours, with SiLU", smooth["Natural"], smooth["Ours"], ()),
        ],
        unit="",
        digits=1,
        notes=["Hessians are of the loss; with SiLU of the decision function, which bends there."],
    )


def _surface(run: Path, config: SurfaceConfig) -> Surface | None:
    """Return the surface that a figure has looked at; None where the run has learnt nothing, or no figure was drawn."""
    if not _sound(run):
        return None
    return next((one for one in read_record(run).surfaces if one.settings == repr(config)), None)


def _around(surface: Surface | None, field: str, reach: float) -> list[float | None]:
    """Return the values at |i| + |j| <= reach, which in the norm of the axes is within the ball; the nearest first."""
    if surface is None:
        return []
    rows = zip(surface.y, surface.fields[field], strict=True)
    points = [(abs(i) + abs(j), value) for j, row in rows for i, value in zip(surface.x, row, strict=True)]
    near = sorted((point for point in points if point[0] <= reach + 1e-9), key=lambda point: point[0])
    return [value for _, value in near]


def _rise(surface: Surface | None, reach: float) -> float | None:
    """Return by how much the loss lies above that at the centre, in the mean around it."""
    values = _around(surface, "CrossEntropy", reach)
    around = mean(values)
    return None if around is None or values[0] is None else around - values[0]


def _plateau(surface: Surface | None, reach: float) -> float | None:
    """Return the share in % of the points around the centre at which the decision stands; None where it is wrong."""
    values = _around(surface, "Decision", reach)
    if not values or values[0] is None or values[0] <= 0:
        return None
    return mean([None if value is None else 100.0 * (value > 0) for value in values])
