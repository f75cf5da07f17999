"""Mei et al. 2022, HAAT: adversarial training along the gradient and the most curved direction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor

from meseta import attacks
from meseta.attacks import PGD, Attack, AutoAttack
from meseta.data import DataConfig
from meseta.evaluation.record import read_record
from meseta.evaluation.suites import Suite
from meseta.geometry import PowerConvergence
from meseta.linalg import PowerIteration
from meseta.models import Architecture, Cnn4, ResNet18
from meseta.objectives import AdversarialTraining, Erm, Haat, Objective
from meseta.papers import Haat1, Haat2, Haat3, Haat4, Haat5
from meseta.report.comparison import MISSING, wilson
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import (
    Lab,
    accuracies,
    alike,
    all_hold,
    exceeds,
    held_out,
    judged,
    judged_at,
    training_seconds,
)
from meseta.schedules import Cyclic
from meseta.threat import Threat
from meseta.training import RunConfig, Sgd, Watch
from meseta.training.config import Augmentation
from meseta.training.cost import step_flops
from meseta.training.watch import attack_name
from meseta.workflow import EvaluateConfig, load_run

SIMILAR = 10.0
"""Points by which similar worst cases differ at most."""
EXACT = "exact products"
COLLAPSED = "hardly better than guessing: no claim is about it"
SETTLED = 0.1
"""A unit vector that moves by less has settled."""
BASELINE = (5, 1e-6)
"""k and ξ of the paper's baseline (section 4.1)."""
TUNED = (5, 5e-6)
"""What the paper finds best (section 4.2)."""
ATTACK = PGD(steps=10)
RESOLVED = 1e-2
"""A step of differences that float32 resolves."""
SHOWN = (1, 5, 10)
"""Steps of the iteration that the paper shows."""


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
        checked: examples that are examined for gradient masking.
        n_measured: examples of the convergence.
        n_counted: examples in the step whose operations are counted.
    """

    paper: ClassVar[str] = "mei2022"
    title: ClassVar[str] = "HAAT: Hessian approximation for adversarial training"
    citation: ClassVar[str] = "Mei, Yang & Wu 2022, HAAT: Improve Adversarial Robustness via Hessian Approximation."
    choices: ClassVar[tuple[str, ...]] = (
        "The paper prints curves without figures: what is compared are its claims and the settings that it selected.",
        "Algorithm 1 as its text describes it: all k iterations first, then one move by w1 eps along the sign of the "
        "gradient and by w2 eps along u / max|u|, with the sign of u along which the loss rises. w1 = 1/4 is the "
        "paper's; w2 = 1/4 is ours, for Algorithm 1 has none. Printed, it moves inside the iteration by the gradient "
        "itself, mixes u with an undefined d, and stretches by the root of d, which saturates every pixel.",
        "PGD takes as many steps as HAAT moves, of 2.5 eps / steps; the paper gives neither.",
        "Momentum 0.9, weight decay 2e-4, batch size 128 and one triangle of the learning rate with its peak at 40 % "
        "of training; crops and flips at paper scale. The paper gives none of these.",
        "The grids of k and ξ are not printed but for the k of figure 5: ours are k = 1, 5, 10 and ξ = 1e-6, 5e-6, "
        "1e-5.",
        "Settings are compared on the held-out split; the paper does not say on which.",
        "Figure 4 is of the tuned HAAT by the paper's text and of the baseline by its caption: both are drawn.",
        "The convergence is that at test examples, with one start for all; the paper looks at 10 batches of the last "
        "attack step in training.",
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
    n_watched: int = 256
    watch_steps: int = 100
    watch_queries: int = 5000
    suite: Suite = "autoattack"
    n_val: int | None = 1000
    n_test: int | None = 1000
    checked: int = 100
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
                ks=(0, 5),
                radii=(1e-6, 5e-6, RESOLVED),
                watched_every=1,
                n_watched=4,
                watch_steps=2,
                watch_queries=4,
                suite="quick",
                n_val=16,
                n_test=16,
                checked=16,
                n_measured=16,
                n_counted=4,
            )
        if scale == "short":
            return cls(
                train_limit=2500,
                model=Cnn4(maps=(8, 16, 16, 32), hidden=(64,), norm="batch", downsample="stride"),
                augment="none",
                epochs=5,
                batch_size=64,
                moves=3,
                ks=(0, 1, 5),
                radii=(1e-6, 5e-6, RESOLVED),
                watched_every=1,
                n_watched=64,
                watch_steps=10,
                watch_queries=50,
                n_val=150,
                n_test=150,
                checked=30,
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
        lab.judge(every, threat, n=self.n_test, suite=self.suite, checked=self.checked)
        costs = self._costs()
        baseline = runs[name_of(*BASELINE)]
        watched = [runs["pgd"], baseline, runs[name_of(*TUNED)]]
        return Part(
            title="Figures 1 and 4: PGD training and HAAT",
            tables=[self._accuracy_table(runs, costs)],
            claims=[*self._comparison_claims(runs, costs), *self._course_claims(baseline)],
            figures=[lab.draw(Haat1(), [baseline]), lab.draw(Haat4(), watched)],
            notes=[
                f"Figure 1 is of the baseline, HAAT with k = {BASELINE[0]} and ξ = {BASELINE[1]:g} (section 4.1). "
                f"Figure 4 has PGD training, this baseline and the tuned HAAT, ξ = {TUNED[1]:g}.",
                f"The curves are of the first {self.n_watched} examples of each split, and have as many epochs as "
                "this scale.",
            ],
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
        runs = self._train(lab)
        baseline = runs[name_of(*BASELINE)]
        found = {name: {COARSE: self._moved(runs[name], BASELINE[1])["difference"]} for name in self._published()}
        found |= {name: self._movements(runs[name]) for name in (name_of(*BASELINE), "exact", "pgd")}
        lost = [label(name) for name in self._published() if is_collapsed(held_out(runs[name]), self._guess())]
        return Part(
            title="Figure 5: convergence of the power iteration",
            tables=[self._movement_table(found)],
            claims=undecided(self._movement_claims(found), lost),
            figures=[lab.draw(Haat5(n=self.n_measured), [baseline])],
            notes=[f"The figure is of the network trained with k = {BASELINE[0]} and ξ = {BASELINE[1]:g}."],
        )

    def _train(self, lab: Lab) -> dict[str, Path]:
        """Train everything and return the runs by name; PGD and the paper's two settings of HAAT are watched."""
        configs = self._runs()
        return dict(zip(configs, lab.train(*configs.values()), strict=True))

    def _runs(self) -> dict[str, RunConfig]:
        settings = dict.fromkeys([*((k, BASELINE[1]) for k in self.ks), *((BASELINE[0], xi) for xi in self.radii)])
        objectives: dict[str, Objective] = {
            "pgd": AdversarialTraining(attack=PGD(threat=self._threat(), steps=self.moves, drop_broken=False)),
            **{name_of(k, radius): self._haat(k, radius) for k, radius in settings},
            "exact": self._haat(BASELINE[0], None),
        }
        watched = {"pgd", name_of(*BASELINE), name_of(*TUNED)}
        return {name: self._run(name, one, name in watched) for name, one in objectives.items()}

    def _run(self, name: str, objective: Objective, watched: bool) -> RunConfig:
        watch = Watch(
            every=self.watched_every,
            n=self.n_watched,
            splits=("train", "val", "test"),
            attacks=self._watch_attacks(),
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

    def _watch_attacks(self) -> tuple[PGD, AutoAttack]:
        autoattack = AutoAttack(threat=self._threat(), steps=self.watch_steps, queries=self.watch_queries)
        return replace(ATTACK, threat=self._threat()), autoattack

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
        """Return the worst case on the held-out split in %, and of how many examples."""
        records = read_record(run).other_evaluations
        fitting = [one for one in records if (one.split, one.suite) == ("val", self.suite)]
        found = max((one for one in fitting if self.n_val is None or one.n <= self.n_val), key=lambda one: one.n)
        return 100 * found.robust[0].worst_case, found.n

    def _guess(self) -> float:
        """Return the accuracy in % of guessing."""
        return 100 / DataConfig(source=self.data).load().num_classes

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
        threat, guess, data = self._threat(), self._guess(), read_record(runs["pgd"]).data
        plain = training_seconds(runs["pgd"])
        rows = [
            judged(
                label(name),
                [
                    Entry(ours=[held_out(run)]),
                    Entry(ours=accuracies([run], None, most=self.n_test)),
                    Entry(ours=accuracies([run], ATTACK, threat, most=self.n_test)),
                    Entry(ours=[costs[label(name)]]),
                    Entry(ours=[costs[label(name)] / costs[label("pgd")]]),
                    Entry(ours=[training_seconds(run) / plain]),
                ],
                [run],
                threat,
                note=COLLAPSED if is_collapsed(held_out(run), guess) else "",
            )
            for name, run in runs.items()
        ]
        return ReproducedTable(
            key="figure-4",
            title="PGD training, HAAT as published, and HAAT with a random, a resolved and an exact direction",
            columns=[
                "clean, held out (%)",
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
                "Clean, held out: on the whole held-out split. The accuracies after it are of the same n test examples "
                "as the worst case.",
                f"Steps are counted operations, with {self.moves} moves. Time is measured on a machine that may "
                "have had other work.",
                "The paper gives curves without figures. One seed for each training.",
            ],
        )

    def _comparison_claims(self, runs: Mapping[str, Path], costs: Mapping[str, float]) -> list[Claim]:
        guess = self._guess()
        pgd, haat, exact, noise = (
            Attacked.of(name, runs[name], guess) for name in ("pgd", name_of(*TUNED), "exact", name_of(0, BASELINE[1]))
        )
        ratio = costs[label(name_of(*TUNED))] / costs[label("pgd")]
        return [
            Claim(
                text="Tuned HAAT presents very similar results to PGD training under AutoAttack (here: within "
                f"{SIMILAR:g} points).",
                holds=similar(haat, pgd),
                evidence=f"{haat} against {pgd}, n = {haat.n}.",
            ),
            Claim(
                text=f"It provides a small improvement over PGD training (here: above it, by at most {SIMILAR:g} "
                "points).",
                holds=all_hold([exceeds(haat.worst, pgd.worst, haat.n), similar(haat, pgd)]),
                evidence=f"{haat} against {pgd}, n = {haat.n}.",
            ),
            Claim(
                text="HAAT takes longer to train.",
                holds=ratio > 1,
                evidence=f"A step takes {ratio:.1f} times the operations of one of PGD training with as many moves.",
            ),
            Claim(
                text="The second direction might as well be random: HAAT with k = 0 is similar (within "
                f"{SIMILAR:g} points).",
                holds=similar(haat, noise),
                evidence=f"{haat} against {noise}, n = {haat.n}.",
                by="meseta",
            ),
            Claim(
                text="Nor does the right direction matter: HAAT with exact products is similar to PGD training (within "
                f"{SIMILAR:g} points).",
                holds=similar(exact, pgd),
                evidence=f"{exact} against {pgd}, n = {exact.n}.",
                by="meseta",
            ),
        ]

    def _course_claims(self, run: Path) -> list[Claim]:
        """Return what the paper says of the epochs of a run."""
        pgd, autoattack = self._watch_attacks()
        seen = self._watched(run, "val", pgd)
        early, late = ({e: v for e, v in seen.items() if (e <= self.epochs / 2) == half} for half in (True, False))
        tops = [max(some, key=some.__getitem__, default=0) for some in (early, late)]
        best = [seen.get(top) for top in tops]
        middle = max(early, default=0)
        val, train = (self._watched(run, split, autoattack) for split in ("val", "train"))
        falls = exceeds(val.get(middle), val.get(self.epochs), self.n_watched)
        rises = exceeds(train.get(self.epochs), train.get(middle), self.n_watched)
        of = f"{label(name_of(*BASELINE))}, n = {self.n_watched}"
        claims = [
            Claim(
                text="The validation accuracy of the baseline is best before half of training is over (epoch 89 of "
                "200).",
                holds=exceeds(best[0], best[1], self.n_watched),
                evidence=f"{of}: under {ATTACK.name} at best {percent(best[0])} in the first half (epoch {tops[0]} of "
                f"{self.epochs}), {percent(best[1])} in the second (epoch {tops[1]}), with a learning rate that falls "
                "to zero by the end.",
            ),
            Claim(
                text="It overfits in the second half: under AutoAttack the validation accuracy falls, while that of "
                "training examples rises.",
                holds=all_hold([falls, rises]),
                evidence=f"{of}: from epoch {middle} to {self.epochs} validation goes from {percent(val.get(middle))} "
                f"to {percent(val.get(self.epochs))}, training from {percent(train.get(middle))} to "
                f"{percent(train.get(self.epochs))}.",
            ),
        ]
        lost = [label(name_of(*BASELINE))] if is_collapsed(held_out(run), self._guess()) else []
        return undecided(claims, lost)

    def _watched(self, run: Path, split: str, attack: Attack) -> dict[int, float]:
        """Return the accuracy in % under a watched attack, by epoch."""
        training = read_record(run).training
        assert training is not None
        logged = training.history[f"watch/{split}/accuracy {attack_name(attack)}"]
        return {epoch: 100 * value for epoch, value in enumerate(logged, 1) if value is not None}

    def _tuning_table(self, runs: Mapping[str, Path]) -> ReproducedTable:
        rows = []
        for name, run in runs.items():
            worst, n = self._score(run)
            low, high = (100 * end for end in wilson(worst / 100, n))
            values = (held_out(run), *accuracies([run], None, split="val", most=self.n_val), worst, low, high)
            rows.append(Row(name=label(name), entries=[Entry(ours=[value]) for value in values]))
        return ReproducedTable(
            key="tuning",
            title=f"Accuracy on the held-out split, suite {self.suite} at eps {self.eps * 255:.0f}/255",
            columns=["clean, all", "clean", "under attack", "from", "to"],
            rows=rows,
            notes=[
                f"{read_record(runs['pgd']).data}.",
                f"Clean, all: of the whole split. The others: of its first {self._score(runs['pgd'])[1]} examples; "
                "from, to: their 95 % Wilson interval. One seed.",
            ],
        )

    def _tuning_claims(self, by_k: Mapping[int, Path], by_radius: Mapping[float, Path], exact: Path) -> list[Claim]:
        ks = {f"k = {k}": run for k, run in by_k.items()}
        radii = {f"ξ = {radius:g}": run for radius, run in by_radius.items()}
        n = self._score(exact)[1]
        tried = {**ks, **radii, EXACT: exact}
        worst = {name: self._score(run)[0] for name, run in tried.items()}
        ours = {"k = 0", f"ξ = {RESOLVED:g}"}
        least, most = min(worst, key=worst.__getitem__), max(worst, key=worst.__getitem__)
        lost = [name for name, run in tried.items() if is_collapsed(held_out(run), self._guess())]

        def is_best(name: str, among: Iterable[str]) -> bool | None:
            return all_hold(exceeds(worst[name], worst[one], n) for one in among if one not in {name, *ours})

        def said(names: Iterable[str]) -> str:
            return ", ".join(f"{name}: {worst[name]:.1f} %" for name in names) + f"; n = {n}."

        claims = [
            Claim(
                text=f"k = {TUNED[0]} is the best number of steps.",
                holds=is_best(f"k = {TUNED[0]}", ks),
                evidence=said(ks),
            ),
            Claim(
                text=f"ξ = {TUNED[1]:g} is the best step size.",
                holds=is_best(f"ξ = {TUNED[1]:g}", radii),
                evidence=said(radii),
            ),
            Claim(
                text=f"No setting matters, nor a random direction or exact products: all are within {SIMILAR:g} points "
                "of one another.",
                holds=alike(worst[most], worst[least], n, within=SIMILAR),
                evidence=f"From {least}: {worst[least]:.1f} % to {most}: {worst[most]:.1f} %; n = {n}.",
                by="meseta",
            ),
        ]
        return undecided(claims, lost)

    def _published(self) -> list[str]:
        """Return the runs whose iteration the paper shows: HAAT at ξ = 1e-6 with each k."""
        return [name_of(k, BASELINE[1]) for k in self.ks if k]

    def _movements(self, run: Path) -> dict[str, "Movement"]:
        """Return how far the iteration moves in each step: on differences, resolved in several ways, and exactly."""
        moved = {radius: self._moved(run, radius) for radius in (BASELINE[1], TUNED[1], RESOLVED)}
        found = {differences(radius): both["difference"] for radius, both in moved.items()}
        return found | {
            FINE: self._moved(run, BASELINE[1], torch.float64)["difference"],
            EXACT: moved[BASELINE[1]]["exact"],
        }

    def _moved(self, run: Path, radius: float, dtype: torch.dtype = torch.float32) -> dict[str, "Movement"]:
        """Return how far the iteration moves on differences and on exact products, in some precision.

        It is taken anew and not from the record, which has no steps of single examples.
        """
        loaded, measure = load_run(run), PowerConvergence(steps=SHOWN[-1], radius=radius)
        model = loaded.model.to(dtype)
        batches = [
            measure(model, x.to(loaded.device, dtype), y.to(loaded.device)).parts
            for x, y in loaded.batches("test", self.n_measured, None)
        ]
        steps = {name: Steps.of(torch.cat([one[name] for one in batches])) for name in batches[0]}
        return {what: Movement(steps[what], steps[f"{what}_as_published"]) for what in ("difference", "exact")}

    def _movement_table(self, found: Mapping[str, Mapping[str, "Movement"]]) -> ReproducedTable:
        rows = [
            Row(
                name=f"{label(name)}: {how}",
                entries=[
                    Entry(
                        published=sqrt(2) if name in self._published() and how == COARSE else None,
                        ours=[one.published.median[0]],
                    ),
                    *(Entry(ours=[one.published.median[step - 1]]) for step in SHOWN[1:]),
                    *(Entry(ours=[one.published.share[step - 1] / 100]) for step in SHOWN),
                    *(Entry(ours=[one.settled.median[step - 1]]) for step in SHOWN),
                    Entry(ours=[one.settled.share[-1] / 100]),
                ],
            )
            for name, movements in found.items()
            for how, one in movements.items()
        ]
        return ReproducedTable(
            key="figure-5",
            title="Movement of the unit vector in a step of the iteration",
            columns=[
                *(f"‖r_i − r_(i−1)‖, i = {step}" for step in SHOWN),
                *(f"share below {SETTLED:g}, i = {step}" for step in SHOWN),
                *(f"up to sign, i = {step}" for step in SHOWN),
                f"up to sign, share below {SETTLED:g}, i = {SHOWN[-1]}",
            ],
            rows=rows,
            unit="",
            digits=3,
            notes=[
                f"Medians and shares of {next(iter(found.values()))[COARSE].published.n} test examples; where "
                "a product is zero the iteration has not settled.",
                "The paper reads √2 off its figure for the first step of HAAT. Up to sign, because a vector whose "
                "eigenvalue is negative turns round in every step, and so moves by 2 where it has settled.",
            ],
        )

    def _movement_claims(self, found: Mapping[str, Mapping[str, "Movement"]]) -> list[Claim]:
        shown = {label(name): found[name][COARSE].published for name in self._published()}
        baseline = found[name_of(*BASELINE)]
        last = {how: one.settled.share[-1] for how, one in baseline.items()}
        n = baseline[COARSE].settled.n
        fails = more_than_half(100 - last[COARSE], n)

        def converge(*hows: str) -> bool | None:
            """Return whether the iteration converges so, where it does not on the paper's differences."""
            told = [
                answer for how in hows for answer in (more_than_half(last[how], n), exceeds(last[how], last[COARSE], n))
            ]
            return all_hold(told) if fails else None

        step = BASELINE[1] / sqrt(prod(DataConfig(source=self.data).load().input_shape))
        where = f"on the network of {label(name_of(*BASELINE))}, n = {n}"
        return [
            Claim(
                text="After one step the movement is around √2 (within 0.1, in the median).",
                holds=all(abs(one.median[0] - sqrt(2)) < 0.1 for one in shown.values()),
                evidence=f"{'; '.join(f'{name}: {one.median[0]:.2f}' for name, one in shown.items())}; n = {n}.",
            ),
            Claim(
                text=f"It does not converge most of the time (moves by {SETTLED:g} or more after {SHOWN[-1]} steps).",
                holds=all_hold(more_than_half(100 - one.share[-1], n) for one in shown.values()),
                evidence="Examples that move by less: "
                f"{'; '.join(f'{name}: {one.share[-1]:.0f} %' for name, one in shown.items())}; n = {n}.",
            ),
            Claim(
                text=f"10 steps converge (move by less than {SETTLED:g}) with a higher probability than 5 or 1.",
                holds=all_hold(
                    exceeds(one.share[9], one.share[step - 1], n) for one in shown.values() for step in SHOWN[:2]
                ),
                evidence="Examples after 1, 5 and 10 steps: "
                + "; ".join(
                    f"{name}: {', '.join(f'{one.share[step - 1]:.0f}' for step in SHOWN)} %"
                    for name, one in shown.items()
                )
                + f"; n = {n}.",
            ),
            Claim(
                text="The cause is the difference, not the dimension: the same iteration with exact products converges "
                f"(moves less than {SETTLED:g} after {SHOWN[-1]} steps).",
                holds=converge(EXACT),
                evidence=f"Examples that move by less, up to sign: {last[EXACT]:.0f} % with exact products, "
                f"{last[COARSE]:.0f} % with differences, {where}.",
                by="meseta",
            ),
            Claim(
                text=f"ξ = {BASELINE[1]:g} is below what float32 resolves: the same differences converge in float64, "
                f"and in float32 at ξ = {RESOLVED:g}.",
                holds=converge(FINE, differences(RESOLVED)),
                evidence=f"Examples that move by less than {SETTLED:g}, up to sign: {last[COARSE]:.0f} % in float32, "
                f"{last[FINE]:.0f} % in float64, {last[differences(RESOLVED)]:.0f} % at ξ = {RESOLVED:g}, {where}. A "
                f"step of ξ moves a pixel by about {step:.0e}, and numbers between 0.5 and 1 lie 6e-8 apart.",
                by="meseta",
            ),
        ]


@dataclass(frozen=True)
class Attacked:
    """A run's worst case in % on n test examples.

    Attributes:
        worst: None of a model that is hardly better than guessing.
    """

    name: str
    worst: float | None
    n: int

    @classmethod
    def of(cls, name: str, run: Path, guess: float) -> Self:
        """Read it from the record; `guess` is the accuracy in % of guessing."""
        evaluation = read_record(run).evaluation
        assert evaluation is not None
        lost = is_collapsed(held_out(run), guess)
        return cls(label(name), None if lost else 100 * evaluation.robust[0].worst_case, evaluation.n)

    def __str__(self) -> str:
        if self.worst is None:
            return f"{self.name} ({COLLAPSED})"
        low, high = wilson(self.worst / 100, self.n)
        return f"{self.name} {self.worst:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class Steps:
    """The steps of a power iteration on n examples.

    Attributes:
        median: movement in each step.
        share: of the examples that moved by less than 0.1, in %.
    """

    median: list[float]
    share: list[float]
    n: int

    @classmethod
    def of(cls, moved: Tensor) -> Self:
        """Summarise movements (n, steps); where one is not finite, the example has not settled."""
        return cls(moved.nanmedian(0).values.tolist(), (100 * (moved < SETTLED).double().mean(0)).tolist(), len(moved))


@dataclass(frozen=True)
class Movement:
    """How far the steps of a power iteration move: up to sign, and as published."""

    settled: Steps
    published: Steps


def similar(one: Attacked, other: Attacked) -> bool | None:
    """Return whether two worst cases differ by at most 10 points; None where chance may decide."""
    return alike(one.worst, other.worst, min(one.n, other.n), within=SIMILAR)


def undecided(claims: Sequence[Claim], lost: Sequence[str]) -> list[Claim]:
    """Return the claims, none of them decided where there are collapsed models among those they are about."""
    why = f" {', '.join(lost)}: {COLLAPSED}."
    return [one.model_copy(update={"holds": None, "evidence": one.evidence + why}) if lost else one for one in claims]


def more_than_half(share: float, n: int) -> bool | None:
    """Return whether a share in % of n examples is more than half of all; None where the 95 % interval holds half."""
    low, high = wilson(share / 100, n)
    return True if low > 0.5 else False if high < 0.5 else None


def is_collapsed(clean: float | None, guess: float) -> bool:
    """Return whether a clean accuracy is hardly better than that of guessing: at most 1.5 times it."""
    return clean is None or clean <= 1.5 * guess


def percent(value: float | None) -> str:
    """Write a percentage; a dash where there is none."""
    return MISSING if value is None else f"{value:.1f} %"


def differences(radius: float) -> str:
    """Return in words what the iteration runs on at a radius."""
    return f"differences, ξ = {radius:g}"


COARSE = differences(BASELINE[1])
FINE = f"{COARSE}, in float64"


def label(name: str) -> str:
    """Return a run's name in words."""
    if name in ("pgd", "exact"):
        return {"pgd": "PGD", "exact": f"HAAT, k = {BASELINE[0]}, exact products"}[name]
    k, radius = name.removeprefix("haat-k").split("-xi")
    return f"HAAT, k = {k}{' (random direction)' if k == '0' else ''}, ξ = {radius}"


def name_of(k: int, radius: float) -> str:
    """Return the name of the run with these settings."""
    return f"haat-k{k}-xi{radius:g}"
