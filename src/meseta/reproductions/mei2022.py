"""Mei et al. 2022, HAAT: adversarial training along the gradient and the most curved direction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from meseta import attacks
from meseta.attacks import PGD, AutoAttack
from meseta.data import DataConfig
from meseta.evaluation.suites import Suite
from meseta.geometry import PowerConvergence
from meseta.linalg import PowerIteration
from meseta.models import Architecture, Cnn4, ResNet18
from meseta.objectives import AdversarialTraining, Haat, Objective
from meseta.report.reproduced import Part
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import Lab
from meseta.schedules import Cyclic
from meseta.threat import Threat
from meseta.training import RunConfig, Sgd, Watch
from meseta.training.config import Augmentation
from meseta.workflow import EvaluateConfig, MeasureConfig

BASELINE = (5, 1e-6)
"""k and ξ of the paper's baseline (section 4.1)."""
TUNED = (5, 5e-6)
"""What the paper finds best (section 4.2)."""
ATTACK = PGD(steps=10)
RESOLVED = 1e-2
"""A step of differences that float32 resolves."""


@dataclass(frozen=True, kw_only=True)
class Mei2022(Reproduction):
    """HAAT against PGD training on CIFAR-10, its tuning, and why its iteration does not converge.

    Training takes adversarial examples from moves along the sign of the gradient and along the direction u that k power
    iterations on differences of gradients, ξ apart, find from a random start. Three runs of ours test what the paper
    makes of it: k = 0, where u stays random; ξ = 1e-2, which float32 resolves; and exact Hessian products.

    Args:
        data: the data set.
        train_limit: training examples; None for all.
        model: the network.
        augment: of the training images.
        epochs, batch_size, lr: of every training.
        eps: Linf, of training and attacks.
        moves: of HAAT's inner attack, and steps of PGD's.
        ks: power iterations tried at ξ = 1e-6.
        radii: ξ tried at k = 5.
        watched_every, n_watched: epochs between two looks at training, and examples of each split.
        watch_steps, watch_queries: of AutoAttack while watching.
        suite: what settings are chosen by and runs are judged with.
        n_val, n_test: examples attacked; None for all.
        n_measured: examples of the convergence.
        n_counted: examples in the step whose operations are counted.
    """

    paper: ClassVar[str] = "mei2022"
    title: ClassVar[str] = "HAAT: Hessian approximation for adversarial training"
    citation: ClassVar[str] = "Mei, Yang & Wu 2022, HAAT: Improve Adversarial Robustness via Hessian Approximation."
    choices: ClassVar[tuple[str, ...]] = (
        "The paper prints curves without figures: what is compared are its claims and the settings that it selected.",
        "Algorithm 1 as its text describes it: all k iterations first, then one move by eps/4 along the sign of the "
        "gradient and by eps/4 along u / max|u|, with the sign of u along which the loss rises. Printed, it moves "
        "inside the iteration by the gradient itself, mixes u with an undefined d, and stretches by the root of d, which "
        "saturates every pixel.",
        "PGD takes as many steps as HAAT moves, of 2.5 eps / steps; the paper gives neither.",
        "Momentum 0.9, weight decay 2e-4, batch size 128 and one triangle of the learning rate with its peak at 40 % "
        "of training; crops and flips at paper scale. The paper gives none of these.",
        "The grids of k and ξ are not printed but for the k of figure 5: ours are k = 1, 5, 10 and ξ = 1e-6, 5e-6, "
        "1e-5.",
        "Settings are compared on the held-out split; the paper does not say on which.",
    )

    data: str = "uoft-cs/cifar10"
    train_limit: int | None = None
    model: Architecture = ResNet18()
    augment: Augmentation = "crop_flip"
    epochs: int = 200
    batch_size: int = 128
    lr: float = 0.1
    eps: float = 8 / 255
    moves: int = 10
    ks: tuple[int, ...] = (0, 1, 5, 10)
    radii: tuple[float, ...] = (1e-6, 5e-6, 1e-5, RESOLVED)
    watched_every: int = 20
    n_watched: int | None = 256
    watch_steps: int = 100
    watch_queries: int = 5000
    suite: Suite = "autoattack"
    n_val: int | None = 1000
    n_test: int | None = 1000
    n_measured: int = 500
    n_counted: int = 16

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        if scale == "smoke":
            return cls(
                data="digits",
                train_limit=128,
                model=Cnn4(maps=(4, 4, 8, 8), hidden=(16,), norm="batch", downsample="stride"),
                augment="none",
                epochs=2,
                batch_size=32,
                moves=1,
                ks=(0, 1, 5),
                radii=(1e-6, 5e-6, RESOLVED),
                watched_every=1,
                n_watched=8,
                watch_steps=2,
                watch_queries=4,
                suite="quick",
                n_val=16,
                n_test=16,
                n_measured=16,
                n_counted=4,
            )
        if scale == "short":
            return cls(
                train_limit=4000,
                model=Cnn4(maps=(8, 16, 16, 32), hidden=(64,), norm="batch", downsample="stride"),
                augment="none",
                epochs=8,
                batch_size=64,
                moves=3,
                radii=(1e-6, 5e-6, RESOLVED),
                watched_every=2,
                n_watched=64,
                watch_steps=20,
                watch_queries=100,
                n_val=200,
                n_test=100,
                n_measured=100,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the comparison with PGD, the tuning, and the convergence."""
        return {"comparison": self._comparison, "tuning": self._tuning, "convergence": self._convergence}

    def _comparison(self, lab: Lab) -> Part:
        """Return figures 1 and 4: PGD training against HAAT, and against what HAAT would be with exact products."""
        runs = self._train(lab)
        lab.attack(list(runs.values()), [ATTACK], [self._threat()], n=self.n_test)
        lab.judge(list(runs.values()), self._threat(), n=self.n_test, suite=self.suite)
        return Part(title="Figures 1 and 4: PGD training and HAAT")

    def _tuning(self, lab: Lab) -> Part:
        """Return figures 2 and 3: accuracy against k and ξ on the held-out split."""
        runs = self._train(lab)
        lab.evaluate(list(runs.values()), self._on_held_out(), beside=True)
        return Part(title="Figures 2 and 3: tuning")

    def _convergence(self, lab: Lab) -> Part:
        """Return figure 5, and the same iteration where its products are exact or resolved."""
        runs = self._train(lab)
        lab.measure(list(runs.values()), MeasureConfig(measures=self._measures(), n=self.n_measured))
        return Part(title="Figure 5: convergence of the power iteration")

    def _train(self, lab: Lab) -> dict[str, Path]:
        """Train everything and return the runs by name; PGD and the paper's tuned HAAT are watched."""
        configs = self._runs()
        return dict(zip(configs, lab.train(*configs.values()), strict=True))

    def _runs(self) -> dict[str, RunConfig]:
        settings = dict.fromkeys([*((k, BASELINE[1]) for k in self.ks), *((BASELINE[0], xi) for xi in self.radii)])
        objectives: dict[str, Objective] = {
            "pgd": AdversarialTraining(attack=PGD(threat=self._threat(), steps=self.moves, drop_broken=False)),
            **{name_of(k, radius): self._haat(k, radius) for k, radius in settings},
            "exact": self._haat(BASELINE[0], None),
        }
        watched = {"pgd", name_of(*TUNED)}
        return {name: self._run(name, one, name in watched) for name, one in objectives.items()}

    def _run(self, name: str, objective: Objective, watched: bool) -> RunConfig:
        autoattack = AutoAttack(threat=self._threat(), steps=self.watch_steps, queries=self.watch_queries)
        watch = Watch(
            every=self.watched_every,
            n=self.n_watched,
            splits=("train", "val", "test"),
            attacks=(replace(ATTACK, threat=self._threat()), autoattack),
        )
        return RunConfig(
            name=name,
            data=DataConfig(source=self.data, train_limit=self.train_limit),
            model=self.model,
            augment=self.augment,
            objective=objective,
            optimizer=Sgd(lr=self.lr),
            schedule=Cyclic(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            watch=watch if watched else None,
        )

    def _haat(self, k: int, radius: float | None) -> Haat:
        """Return HAAT with k power iterations; the solver's last product is its estimate of the eigenvalue."""
        attack = attacks.Haat(
            threat=self._threat(),
            steps=self.moves,
            solver=PowerIteration(steps=k + 1),
            radius=radius,
            guarded=radius is None,
        )
        return Haat(attack=attack)

    def _threat(self) -> Threat:
        return Threat("Linf", self.eps)

    def _on_held_out(self) -> EvaluateConfig:
        return EvaluateConfig(
            threats={"Linf": (self.eps,)}, suite=self.suite, checks=(), split="val", n=self.n_val, pictured=0
        )

    def _measures(self) -> tuple[PowerConvergence, ...]:
        return tuple(PowerConvergence(radius=radius) for radius in (BASELINE[1], TUNED[1], RESOLVED))


def name_of(k: int, radius: float) -> str:
    """Return the name of the run with these settings."""
    return f"haat-k{k}-xi{radius:g}"
