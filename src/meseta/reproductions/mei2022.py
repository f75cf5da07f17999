"""Mei et al. 2022, HAAT: adversarial training along the gradient and the most curved direction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan, prod, sqrt
from pathlib import Path
from typing import ClassVar, Self

import torch

from meseta import attacks
from meseta.attacks import PGD, AutoAttack
from meseta.data import DataConfig
from meseta.evaluation.record import Measured, read_record
from meseta.evaluation.suites import Suite
from meseta.geometry import PowerConvergence
from meseta.linalg import PowerIteration
from meseta.models import Architecture, Cnn4, ResNet18
from meseta.objectives import AdversarialTraining, Erm, Haat, Objective
from meseta.papers import Haat1, Haat2, Haat3, Haat4, Haat5
from meseta.report.comparison import newcombe, wilson
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import Lab, accuracies, judged, judged_at
from meseta.schedules import Cyclic
from meseta.threat import Threat
from meseta.training import RunConfig, Sgd, Watch
from meseta.training.config import Augmentation
from meseta.training.cost import step_flops
from meseta.training.watch import attack_name
from meseta.workflow import EvaluateConfig, MeasureConfig, load_run

SIMILAR = 10.0
"""Points by which similar worst cases differ at most."""
EXACT = "exact products"
SETTLED = 0.1
"""A unit vector that moves by less has settled."""
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
        "inside the iteration by the gradient itself, mixes u with an undefined d, and stretches by the root of d, "
        "which saturates every pixel.",
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
                epochs=6,
                batch_size=64,
                moves=3,
                radii=(1e-6, 5e-6, RESOLVED),
                watched_every=2,
                n_watched=64,
                watch_steps=20,
                watch_queries=100,
                n_val=100,
                n_test=100,
                n_measured=100,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return figures 1 and 4, figures 2 and 3, and figure 5."""
        return {"figure-1": self._comparison, "figure-2": self._tuning, "figure-5": self._convergence}

    def _comparison(self, lab: Lab) -> Part:
        """Return figures 1 and 4: PGD training against HAAT, and against what HAAT would be with exact products."""
        runs, threat = self._train(lab), self._threat()
        every = list(runs.values())
        lab.attack(every, [ATTACK], [threat], n=self.n_test)
        lab.judge(every, threat, n=self.n_test, suite=self.suite)
        costs = self._costs()
        watched = [runs["pgd"], runs[name_of(*TUNED)]]
        return Part(
            title="Figures 1 and 4: PGD training and HAAT",
            tables=[self._accuracy_table(runs, costs)],
            claims=self._comparison_claims(runs, costs),
            figures=[lab.draw(Haat1(), watched[1:]), lab.draw(Haat4(), watched)],
            notes=["The curves are of the first examples of each split, and have as many epochs as this scale."],
        )

    def _tuning(self, lab: Lab) -> Part:
        """Return figures 2 and 3: accuracy against k and ξ on the held-out split."""
        runs = self._train(lab)
        lab.evaluate(list(runs.values()), self._on_held_out(), beside=True)
        by_k = {k: runs[name_of(k, BASELINE[1])] for k in self.ks}
        by_radius = {radius: runs[name_of(BASELINE[0], radius)] for radius in self.radii}
        figures = [
            Haat2(eps=self.eps, suite=self.suite, n=self.n_val, split="val"),
            Haat3(eps=self.eps, suite=self.suite, n=self.n_val, split="val"),
        ]
        swept = [[*by_radius.values(), runs["exact"]], list(by_k.values())]
        return Part(
            title="Figures 2 and 3: tuning",
            tables=[self._tuning_table(runs)],
            claims=self._tuning_claims(by_k, by_radius, runs["exact"]),
            figures=[lab.draw(figure, some) for figure, some in zip(figures, swept, strict=True)],
            notes=["k = 0 takes one product, which only estimates an eigenvalue: its direction stays random."],
        )

    def _convergence(self, lab: Lab) -> Part:
        """Return figure 5, and the same iteration where its products are exact or resolved."""
        runs = {name: run for name, run in self._train(lab).items() if name in self._measured()}
        lab.measure(list(runs.values()), MeasureConfig(measures=tuple(self._measures().values()), n=self.n_measured))
        found = {name: self._movements(run) for name, run in runs.items()}
        haat = name_of(*BASELINE)
        return Part(
            title="Figure 5: convergence of the power iteration",
            tables=[self._movement_table(found)],
            claims=self._movement_claims(found[haat]),
            figures=[lab.draw(Haat5(n=self.n_measured), [runs[haat]])],
        )

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

    def _score(self, run: Path) -> tuple[float, int]:
        """Return the worst case on the held-out split, and of how many examples."""
        records = read_record(run).other_evaluations
        found = next(one for one in records if (one.split, one.suite) == ("val", self.suite))
        return found.robust[0].worst_case, found.n

    def _interval(self, run: Path) -> tuple[float, float]:
        low, high = wilson(*self._score(run))
        return 100 * low, 100 * high

    def _costs(self) -> dict[str, float]:
        """Return the counted cost of a step of each run, in plain steps."""
        data = DataConfig(source=self.data).load()
        x, y = data.train[: self.n_counted]
        network = self.model.build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
        plain = step_flops(Erm(), network, x, y)
        # A radius changes no cost.
        runs = {label(name): run.objective for name, run in self._runs().items()}
        return {name: step_flops(objective, network, x, y) / plain for name, objective in runs.items()}

    def _accuracy_table(self, runs: Mapping[str, Path], costs: Mapping[str, float]) -> ReproducedTable:
        threat, data = self._threat(), read_record(runs["pgd"]).data
        plain = seconds(runs["pgd"])
        rows = [
            judged(
                label(name),
                [
                    Entry(ours=accuracies([run], None)),
                    Entry(ours=accuracies([run], ATTACK, threat)),
                    Entry(ours=[costs[label(name)]]),
                    Entry(ours=[costs[label(name)] / costs[label("pgd")]]),
                    Entry(ours=[seconds(run) / plain]),
                ],
                [run],
                threat,
            )
            for name, run in runs.items()
        ]
        return ReproducedTable(
            key="figure-4",
            title="PGD training, HAAT as published, and HAAT with a random, a resolved and an exact direction",
            columns=[
                "clean (%)",
                f"{ATTACK.name} (%)",
                "step (plain steps)",
                "step (PGD = 1)",
                "training time (PGD = 1)",
            ],
            rows=rows,
            unit="",
            judged_at=judged_at(list(runs.values()), threat),
            notes=[
                f"{data}.",
                f"Steps are counted operations, with {self.moves} moves. Time is measured on a machine that may "
                "have had other work.",
                "The paper gives curves without figures. One seed for each training.",
            ],
        )

    def _comparison_claims(self, runs: Mapping[str, Path], costs: Mapping[str, float]) -> list[Claim]:
        pgd, haat, exact, noise = (
            Attacked.of(name, runs[name]) for name in ("pgd", name_of(*TUNED), "exact", name_of(0, BASELINE[1]))
        )
        ratio = costs[label(name_of(*TUNED))] / costs[label("pgd")]
        gain = difference(haat, pgd)
        peak = self._peak(runs[name_of(*TUNED)])
        return [
            Claim(
                text="HAAT presents very similar results to PGD training under AutoAttack (here: within "
                f"{SIMILAR:g} points).",
                holds=similar(haat, pgd),
                evidence=f"{haat} against {pgd}.",
            ),
            Claim(
                text="It provides a small improvement over PGD training.",
                holds=True if gain[0] > 0 else False if gain[1] < 0 else None,
                evidence=f"{100 * (haat.share - pgd.share):+.1f} points on {haat.n} examples, 95 % interval "
                f"{gain[0]:+.1f} to {gain[1]:+.1f}.",
            ),
            Claim(
                text="HAAT takes longer to train.",
                holds=ratio > 1,
                evidence=f"A step takes {ratio:.1f} times the operations of one of PGD training with as many moves.",
            ),
            Claim(
                text="The validation accuracy is best before half of training is over (epoch 89 of 200), and HAAT "
                "overfits after.",
                holds=peak < 0.5,
                evidence=f"Under {ATTACK.name} it is best after {100 * peak:.0f} % of {self.epochs} epochs; with "
                "a learning rate that falls to zero by the end.",
            ),
            Claim(
                text="The second direction might as well be random: HAAT with k = 0 is similar (within "
                f"{SIMILAR:g} points).",
                holds=similar(haat, noise),
                evidence=f"{haat} against {noise}.",
                by="meseta",
            ),
            Claim(
                text="Nor does the right direction matter: HAAT with exact products is similar to PGD training (within "
                f"{SIMILAR:g} points).",
                holds=similar(exact, pgd),
                evidence=f"{exact} against {pgd}.",
                by="meseta",
            ),
        ]

    def _peak(self, run: Path) -> float:
        """Return after which share of training the watched validation accuracy under PGD is best."""
        training = read_record(run).training
        assert training is not None
        logged = training.history[f"watch/val/accuracy {attack_name(replace(ATTACK, threat=self._threat()))}"]
        epochs = [epoch for epoch, value in enumerate(logged, 1) if value is not None]
        return max(epochs, key=lambda epoch: logged[epoch - 1] or 0) / len(logged)

    def _tuning_table(self, runs: Mapping[str, Path]) -> ReproducedTable:
        rows = []
        for name, run in runs.items():
            low, high = self._interval(run)
            clean = accuracies([run], None, split="val")
            entries = [Entry(ours=clean), *(Entry(ours=[v]) for v in (100 * self._score(run)[0], low, high))]
            rows.append(Row(name=label(name), entries=entries))
        return ReproducedTable(
            key="tuning",
            title=f"Accuracy on the held-out split, suite {self.suite} at eps {self.eps * 255:.0f}/255",
            columns=["clean", "under attack", "from", "to"],
            rows=rows,
            notes=[
                f"{read_record(runs['pgd']).data}.",
                f"From, to: 95 % Wilson interval of the {self._score(runs['pgd'])[1]} examples. One seed.",
            ],
        )

    def _tuning_claims(self, by_k: Mapping[int, Path], by_radius: Mapping[float, Path], exact: Path) -> list[Claim]:
        k = max((k for k in by_k if k), key=lambda k: self._score(by_k[k]))
        radii = [radius for radius in by_radius if radius != RESOLVED]
        radius = max(radii, key=lambda radius: self._score(by_radius[radius]))
        intervals = [self._interval(run) for run in (*by_k.values(), *by_radius.values(), exact)]
        spread = max(low for low, _ in intervals) - min(high for _, high in intervals)

        def said(values: Mapping[str, Path]) -> str:
            return ", ".join(f"{name}: {100 * self._score(run)[0]:.1f} %" for name, run in values.items())

        return [
            Claim(
                text=f"k = {TUNED[0]} is the best number of steps.",
                holds=k == TUNED[0],
                evidence=said({f"k = {k}": run for k, run in by_k.items()}) + ".",
            ),
            Claim(
                text=f"ξ = {TUNED[1]:g} is the best step size.",
                holds=radius == TUNED[1],
                evidence=said({f"ξ = {radius:g}": run for radius, run in by_radius.items()}) + ".",
            ),
            Claim(
                text="No setting is told from another, nor from random directions or exact products: the intervals of "
                "all have a point in common.",
                holds=spread <= 0,
                evidence=f"The highest lower end lies {abs(spread):.1f} points {'above' if spread > 0 else 'below'} "
                "the lowest upper end.",
                by="meseta",
            ),
        ]

    def _measured(self) -> list[str]:
        """Return the runs whose convergence is looked at."""
        return ["pgd", name_of(*BASELINE), "exact"]

    def _measures(self) -> dict[float, PowerConvergence]:
        return {radius: PowerConvergence(radius=radius) for radius in (BASELINE[1], TUNED[1], RESOLVED)}

    def _movements(self, run: Path) -> dict[str, "Movement"]:
        """Return how far the iteration moves in each step: on differences, resolved in several ways, and exactly."""
        record = read_record(run)
        measured = {
            radius: next(found for found in record.measures if found.measure == repr(measure))
            for radius, measure in self._measures().items()
        }
        found = {f"differences, ξ = {radius:g}": Movement.of(one, "difference") for radius, one in measured.items()}
        fine = f"differences, ξ = {BASELINE[1]:g}, in float64"
        return found | {fine: self._in_float64(run), EXACT: Movement.of(measured[BASELINE[1]], "exact")}

    def _in_float64(self, run: Path) -> "Movement":
        """Return the published iteration on the same network and examples, in double precision."""
        loaded = load_run(run)
        model = loaded.model.double()
        batches = [
            self._measures()[BASELINE[1]](model, x.to(loaded.device).double(), y.to(loaded.device))
            for x, y in loaded.batches("test", self.n_measured, None)
        ]
        columns = (torch.cat([one.parts[f"difference{ending}"] for one in batches]) for ending in ("", "_as_published"))
        settled, published = (column[column.isfinite().all(1)].median(0).values.tolist() for column in columns)
        return Movement(settled, published)

    def _movement_table(self, found: Mapping[str, Mapping[str, "Movement"]]) -> ReproducedTable:
        steps = [step for step in (1, 5, 10) if step <= 10]
        rows = [
            Row(
                name=f"{label(name)}: {how}",
                entries=[
                    Entry(published=sqrt(2), ours=[one.published[0]]),
                    *(Entry(ours=[one.published[step - 1]]) for step in steps[1:]),
                    *(Entry(ours=[one.settled[step - 1]]) for step in steps),
                ],
            )
            for name, movements in found.items()
            for how, one in movements.items()
        ]
        return ReproducedTable(
            key="figure-5",
            title="Movement of the unit vector in a step of the iteration, median",
            columns=[
                *(f"‖r_i − r_(i−1)‖, i = {step}" for step in steps),
                *(f"up to sign, i = {step}" for step in steps),
            ],
            rows=rows,
            unit="",
            digits=3,
            notes=[
                "The paper reads √2 off its figure for the first step. Up to sign, because a vector whose eigenvalue "
                "is negative turns round in every step, and so moves by 2 where it has settled.",
            ],
        )

    def _movement_claims(self, found: Mapping[str, "Movement"]) -> list[Claim]:
        coarse, exact = found[f"differences, ξ = {BASELINE[1]:g}"], found[EXACT]
        resolved, fine = (
            found[f"differences, ξ = {RESOLVED:g}"],
            found[f"differences, ξ = {BASELINE[1]:g}, in float64"],
        )
        step = BASELINE[1] / sqrt(prod(DataConfig(source=self.data).load().input_shape))
        return [
            Claim(
                text="After one step the movement is around √2.",
                holds=abs(coarse.published[0] - sqrt(2)) < 0.1,
                evidence=f"The median is {coarse.published[0]:.2f}.",
            ),
            Claim(
                text="It often fails to converge.",
                holds=coarse.published[-1] > SETTLED,
                evidence=f"After 10 steps half of the examples still move by {coarse.published[-1]:.2f} or more.",
            ),
            Claim(
                text="10 steps converge with a higher probability than 5.",
                holds=coarse.published[9] < coarse.published[4],
                evidence=f"Medians: {coarse.published[4]:.3f} after 5 steps, {coarse.published[9]:.3f} after 10.",
            ),
            Claim(
                text="The cause is the difference, not the dimension: the same iteration with exact products converges "
                f"(moves less than {SETTLED:g} after 10 steps).",
                holds=exact.settled[-1] < SETTLED,
                evidence=f"Medians after 10 steps, up to sign: {exact.settled[-1]:.3f} with exact products, "
                f"{coarse.settled[-1]:.3f} with differences.",
                by="meseta",
            ),
            Claim(
                text=f"ξ = {BASELINE[1]:g} is below what float32 resolves: the same differences converge in float64, "
                f"and in float32 at ξ = {RESOLVED:g}.",
                holds=max(fine.settled[-1], resolved.settled[-1]) < SETTLED < coarse.settled[-1],
                evidence=f"Medians after 10 steps: {coarse.settled[-1]:.3f} in float32, {fine.settled[-1]:.3f} in "
                f"float64, {resolved.settled[-1]:.3f} at ξ = {RESOLVED:g}. A step of ξ moves a pixel by about "
                f"{step:.0e}, and numbers between 0.5 and 1 lie 6e-8 apart.",
                by="meseta",
            ),
        ]


@dataclass(frozen=True)
class Attacked:
    """A run's worst case on test examples."""

    name: str
    share: float
    n: int

    @classmethod
    def of(cls, name: str, run: Path) -> Self:
        """Read it from the record."""
        evaluation = read_record(run).evaluation
        assert evaluation is not None
        return cls(label(name), evaluation.robust[0].worst_case, evaluation.n)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval, in [0, 1]."""
        return wilson(self.share, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.name} {100 * self.share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class Movement:
    """The median movement of each step of a power iteration: up to sign, and as published."""

    settled: list[float]
    published: list[float]

    @classmethod
    def of(cls, measured: Measured, what: str) -> Self:
        """Read it from the curves of a measure."""
        columns = (measured.curves[f"{what}{ending}"].median for ending in ("", "_as_published"))
        return cls(*([nan if value is None else value for value in column] for column in columns))


def similar(one: Attacked, other: Attacked) -> bool | None:
    """Return whether two worst cases differ by at most 10 points, with 95 % confidence; None where nobody can tell."""
    low, high = difference(one, other)
    return True if low > -SIMILAR and high < SIMILAR else None if low <= 0 <= high else False


def difference(one: Attacked, other: Attacked) -> tuple[float, float]:
    """Return the 95 % interval of by how many points a worst case is above another."""
    low, high = newcombe(one.share, one.n, other.share, other.n)
    return 100 * low, 100 * high


def seconds(run: Path) -> float:
    """Return the seconds of all training steps of a run."""
    training = read_record(run).training
    assert training is not None
    return training.seconds_per_epoch * training.epochs


def label(name: str) -> str:
    """Return a run's name in words."""
    if name in ("pgd", "exact"):
        return {"pgd": "PGD", "exact": f"HAAT, k = {BASELINE[0]}, exact products"}[name]
    k, radius = name.removeprefix("haat-k").split("-xi")
    return f"HAAT, k = {k}{' (random direction)' if k == '0' else ''}, ξ = {radius}"


def name_of(k: int, radius: float) -> str:
    """Return the name of the run with these settings."""
    return f"haat-k{k}-xi{radius:g}"
