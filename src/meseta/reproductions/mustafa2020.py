"""Mustafa et al. 2020: Cross-Hölder regularisation against Cross-Lipschitz and adversarial training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

from meseta.attacks import PGD
from meseta.autodiff import CrossEntropy, Decision
from meseta.data import DataConfig
from meseta.evaluation.record import Record, read_record
from meseta.geometry import CurvatureEstimates
from meseta.objectives import AdversarialTraining, CrossHolder, CrossLipschitz, Erm, Objective
from meseta.papers import Mustafa1, Mustafa2, Mustafa3, Mustafa4, Mustafa5
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import Lab, accuracies, best, judged, judged_at, mean, worst_cases
from meseta.schedules import Cosine
from meseta.threat import Threat
from meseta.training import Adam, RunConfig
from meseta.workflow import MeasureConfig

METHODS = {"adversarial training": "at", "Cross-Lipschitz": "cl", "Cross-Hölder": "ch"}
"""The paper's three, with the start of their runs' names."""
CHOSEN = {
    ("mnist", "at"): "ε = 5",
    ("mnist", "cl"): "λ₁ = 0.2",
    ("mnist", "ch"): "λ₁ = 0.02, λ₂ = 0.5",
    ("fashion", "at"): "ε = 4",
    ("fashion", "cl"): "λ₁ = 0.15",
    ("fashion", "ch"): "λ₁ = 0.2, λ₂ = 0.5",
}
"""What the paper selected (appendix C.2.1)."""


@dataclass(frozen=True, kw_only=True)
class Mustafa2020(Reproduction):
    """Cross-Hölder against Cross-Lipschitz and adversarial training, MNIST and Fashion-MNIST: figures 1 to 5.

    Every method's settings are chosen on the 5 % held out: at least the clean accuracy of `floors` there, and of those
    the largest sum of worst-case accuracies at L2 `chosen_at`. Then accuracy against eps under PGD on the cross-entropy
    and on the C&W margin, and the smaller of both per example.

    Args:
        mnist, fashion: the data sets.
        train_limit: training examples; None for all.
        epochs, batch_size, lr: of every training.
        seeds: trainings of each method; the settings are chosen with the first.
        floors: clean accuracy on the held-out split that settings need, of MNIST and Fashion-MNIST.
        eps: L2 radii of the figures; `chosen_at` those of the choice.
        steps, restarts: of the two attacks; `val_restarts` for the choice.
        attack_steps: of adversarial training.
        at_eps, cl_weights, ch_weights, ch_curvatures: the grids.
        n_test, n_val: examples attacked; None for all.
        n_judged: examples of the standard suite and the masking checks.
        n_hessian: examples of figure 3.
    """

    paper: ClassVar[str] = "mustafa2020"
    title: ClassVar[str] = "Input Hessian regularisation of neural networks"
    citation: ClassVar[str] = "Mustafa et al. 2020, Input Hessian Regularization of Neural Networks."
    choices: ClassVar[tuple[str, ...]] = (
        "The paper prints curves without figures: what is compared are its claims and the settings that it selected.",
        "Epochs, optimiser and batch size are not given: Adam at 1e-3 (2e-3 at short scale), cosine schedule, 128.",
        "The grids are not given: ours hold the selected settings and their neighbours.",
        "Convolutions are padded by one pixel, which the paper does not say.",
        "Cross-Hölder by equation 5 with Lanczos and one rival class drawn, which is unbiased; Algorithm 1 places the "
        "weights otherwise, counts the loss once for each rival and adds the gradient where it should descend.",
        "Adversarial training in the L2 ball with PGD of 10 steps; the paper gives neither norm nor steps of its "
        "training attack, and its radii from 1 to 5 in the test are those of L2.",
    )

    mnist: str = "ylecun/mnist"
    fashion: str = "zalando-datasets/fashion_mnist"
    train_limit: int | None = None
    epochs: int = 30
    batch_size: int = 128
    lr: float = 1e-3
    seeds: int = 3
    floors: tuple[float, float] = (0.99, 0.88)
    eps: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0, 5.0)
    chosen_at: tuple[float, ...] = (3.0, 4.0)
    steps: int = 50
    restarts: int = 10
    val_restarts: int = 1
    attack_steps: int = 10
    at_eps: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0)
    cl_weights: tuple[float, ...] = (0.05, 0.1, 0.15, 0.2, 0.4)
    ch_weights: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2)
    ch_curvatures: tuple[float, ...] = (0.25, 0.5, 1.0)
    n_test: int | None = None
    n_val: int | None = None
    n_judged: int | None = 1000
    n_hessian: int = 1000

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        if scale == "smoke":
            return cls(
                mnist="digits",
                fashion="digits",
                train_limit=200,
                epochs=1,
                seeds=1,
                lr=2e-3,
                floors=(0.0, 0.0),
                eps=(0.5, 1.0),
                chosen_at=(0.5, 1.0),
                steps=3,
                restarts=1,
                attack_steps=2,
                at_eps=(0.5,),
                cl_weights=(0.1,),
                ch_weights=(0.01,),
                ch_curvatures=(0.5,),
                n_test=16,
                n_val=16,
                n_judged=16,
                n_hessian=8,
            )
        if scale == "short":
            return cls(
                train_limit=6000,
                epochs=5,
                seeds=1,
                lr=2e-3,
                floors=(0.97, 0.80),
                restarts=1,
                attack_steps=5,
                at_eps=(2.0, 4.0),
                cl_weights=(0.05, 0.2),
                ch_weights=(0.02, 0.2),
                ch_curvatures=(0.5,),
                n_test=150,
                n_val=100,
                n_judged=100,
                n_hessian=100,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return figures 1 and 4, figures 2 and 5, and figure 3."""
        return {
            "figure-1": partial(self._data_set, "mnist"),
            "figure-2": partial(self._data_set, "fashion"),
            "figure-3": self._hessian,
        }

    def _data_set(self, name: str, lab: Lab) -> Part:
        """Return figures 1 and 4, or 2 and 5: the choice of settings, and accuracy against eps."""
        chosen, (erm,) = self._choose(name, lab), lab.train(self._run(name, "erm", Erm(), 0))
        seeds = range(self.seeds)
        trained = {
            method: lab.train(*(self._again(runs[0], seed) for seed in seeds)) for method, runs in chosen.items()
        }
        every = [erm, *(run for runs in trained.values() for run in runs)]
        lab.attack(every, self._attacks(self.restarts), self._threats(self.eps), n=self.n_test)
        threat = Threat("L2", self.chosen_at[0])
        lab.judge(every, threat, n=self.n_judged)
        figures = (Mustafa1, Mustafa4) if name == "mnist" else (Mustafa2, Mustafa5)
        firsts = [erm, *(runs[0] for runs in trained.values())]
        drawn = [
            lab.draw(figure(eps=self.eps, steps=self.steps, restarts=self.restarts, n=self.n_test), firsts)
            for figure in figures
        ]
        return Part(
            title=f"Figures {'1 and 4: MNIST' if name == 'mnist' else '2 and 5: Fashion-MNIST'}",
            tables=[self._accuracy_table(name, erm, trained, threat), self._choice_table(name, lab)],
            claims=self._claims(name, trained),
            figures=drawn,
        )

    def _hessian(self, lab: Lab) -> Part:
        """Return figure 3, and what its ascent sees of a network that was trained to be flat."""
        (erm,) = lab.train(self._run("mnist", "erm", Erm(), 0))
        flat = self._choose("mnist", lab)["Cross-Hölder"][0]
        measure = CurvatureEstimates(field=Decision())
        lab.measure([erm, flat], MeasureConfig(measures=(measure,), n=self.n_hessian))
        key = lab.draw(Mustafa3(n=self.n_hessian), [erm, flat])
        rows = [
            Row(name=name, entries=[Entry(ours=[value]) for value in _ratios(read_record(run), measure)])
            for name, run in (("plain", erm), ("Cross-Hölder", flat))
        ]
        plain, regularised = (row.entries for row in rows)
        return Part(
            title="Figure 3: the norm of the Hessian and its estimates",
            tables=[
                ReproducedTable(
                    key="hessian-estimates",
                    title="Estimates of ‖H‖₂ of the decision function over the truth, mean",
                    columns=["‖H‖₂, median", "|Hg| along the gradient", "|Hv| by the paper's ascent"],
                    rows=rows,
                    unit="",
                    digits=2,
                    notes=[
                        "The truth is Lanczos' value, up to its residual; the paper takes its ascent for the truth."
                    ],
                )
            ],
            claims=[
                Claim(
                    text="|Hg| is no tight lower bound of the norm.",
                    holds=_less(plain[1].mean, 0.9),
                    evidence=f"On the plain network it is {_two(plain[1].mean)} of the norm in the mean.",
                ),
                Claim(
                    text="The paper's ascent is not the truth either: it sees the less the flatter the network is.",
                    holds=_smaller(regularised[2].mean, plain[2].mean),
                    evidence=f"It finds {_two(plain[2].mean)} of the norm on the plain network, and "
                    f"{_two(regularised[2].mean)} on the one trained with Cross-Hölder.",
                    by="meseta",
                ),
            ],
            figures=[key],
        )

    def _choose(self, name: str, lab: Lab) -> dict[str, list[Path]]:
        """Train every setting with the first seed, and return those of each method, the chosen one first."""
        grids = {method: lab.train(*self._grid(name, short)) for method, short in METHODS.items()}
        every = [run for runs in grids.values() for run in runs]
        attacks, threats = self._attacks(self.val_restarts), self._threats(self.chosen_at)
        lab.attack(every, attacks, threats, n=self.n_val, split="val")
        return {method: self._by_rule(name, runs) for method, runs in grids.items()}

    def _by_rule(self, name: str, runs: list[Path]) -> list[Path]:
        """Return the runs, the one that the paper's rule chooses first; without one above the floor the cleanest."""
        floor = 100 * self.floors[0 if name == "mnist" else 1]
        clean = dict(zip(runs, accuracies(runs, None, split="val"), strict=True))
        above = [run for run in runs if (clean[run] or 0) >= floor]
        found = best(above, self._score) if above else best(runs, lambda run: clean[run])
        return [found, *(run for run in runs if run != found)] if found else runs

    def _score(self, run: Path) -> float:
        """Return the sum of the worst-case accuracies on the held-out split at the radii of the choice."""
        attacks = self._attacks(self.val_restarts)
        return sum(worst_cases([run], attacks, threat, split="val")[0] for threat in self._threats(self.chosen_at))

    def _accuracy_table(
        self, name: str, erm: Path, trained: Mapping[str, list[Path]], threat: Threat
    ) -> ReproducedTable:
        rows = {"plain": [erm], **trained}
        attacks = self._attacks(self.restarts)
        return ReproducedTable(
            key=f"{name}-accuracy",
            title="Worst case of both PGD attacks against eps (L2)",
            columns=["clean", *(f"ε = {eps:g}" for eps in self.eps)],
            rows=[
                judged(
                    method,
                    [
                        Entry(ours=accuracies(runs, None)),
                        *(Entry(ours=list(worst_cases(runs, attacks, one))) for one in self._threats(self.eps)),
                    ],
                    runs,
                    threat,
                    note="" if method == "plain" else _setting(read_record(runs[0])),
                )
                for method, runs in rows.items()
            ],
            judged_at=judged_at([erm], threat),
            notes=["The paper gives curves without figures."],
        )

    def _choice_table(self, name: str, lab: Lab) -> ReproducedTable:
        floor = self.floors[0 if name == "mnist" else 1]
        rows = []
        for method, runs in self._choose(name, lab).items():
            for run in runs:
                is_chosen = run == runs[0]
                values = accuracies([run], None, split="val"), [self._score(run)]
                label = f"{method}, {_setting(read_record(run))}{' (chosen)' if is_chosen else ''}"
                note = f"the paper chose {CHOSEN[name, METHODS[method]]}" if is_chosen else ""
                rows.append(Row(name=label, entries=[Entry(ours=list(one)) for one in values], note=note))
        radii = " and ".join(f"{eps:g}" for eps in self.chosen_at)
        return ReproducedTable(
            key=f"{name}-choice",
            title="The choice of settings, on the held-out split",
            columns=["clean", f"sum of worst cases at ε = {radii}"],
            rows=rows,
            notes=[f"Chosen: the largest sum among those of at least {100 * floor:g} % clean, else the cleanest."],
        )

    def _claims(self, name: str, trained: Mapping[str, list[Path]]) -> list[Claim]:
        attacks = self._attacks(self.restarts)
        at, cl, ch = (
            [mean(worst_cases(trained[method], attacks, threat)) for threat in self._threats(self.eps)]
            for method in METHODS
        )
        beyond = range(max(0, len(self.eps) - 1), len(self.eps))
        up_to = range(len(self.eps) - 1)
        last = f"ε = {self.eps[-1]:g}"
        claims = [
            Claim(
                text=f"Cross-Hölder keeps more than Cross-Lipschitz beyond ε = {self.eps[-2]:g}.",
                holds=all((ch[k] or 0) > (cl[k] or 0) for k in beyond),
                evidence=f"At {last}: {_one(ch[-1])} % against {_one(cl[-1])} %.",
            )
        ]
        if name == "mnist":
            text = f"Cross-Hölder keeps more than adversarial training beyond ε = {self.eps[-2]:g}."
            holds = all((ch[k] or 0) > (at[k] or 0) for k in beyond)
            evidence = f"At {last}: {_one(ch[-1])} % against {_one(at[-1])} %."
        else:
            text = f"Cross-Hölder keeps less than adversarial training up to ε = {self.eps[-2]:g}."
            holds = all((ch[k] or 0) < (at[k] or 0) for k in up_to)
            pairs = (f"{_one(ch[k])} against {_one(at[k])} %" for k in up_to)
            evidence = f"From ε = {self.eps[0]:g} on: {', '.join(pairs)}."
        return [Claim(text=text, holds=holds, evidence=evidence), *claims]

    def _grid(self, name: str, method: str) -> list[RunConfig]:
        """Return the runs of a method's grid, of the first seed."""
        objectives: dict[str, Objective] = {}
        if method == "at":
            objectives |= {f"at-{eps:g}": self._adversarial(eps) for eps in self.at_eps}
        elif method == "cl":
            objectives |= {f"cl-{weight:g}": CrossLipschitz(weight=weight) for weight in self.cl_weights}
        else:
            grid = [(weight, curvature) for weight in self.ch_weights for curvature in self.ch_curvatures]
            objectives |= {f"ch-{w:g}-{c:g}": CrossHolder(weight=w, curvature=c) for w, c in grid}
        return [self._run(name, label, objective, 0) for label, objective in objectives.items()]

    def _run(self, name: str, label: str, objective: Objective, seed: int) -> RunConfig:
        return RunConfig(
            name=f"{name}-{label}-s{seed}",
            data=DataConfig(source=getattr(self, name), train_limit=self.train_limit),
            objective=objective,
            optimizer=Adam(lr=self.lr),
            schedule=Cosine(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
        )

    def _again(self, run: Path, seed: int) -> RunConfig:
        """Return the run of the same settings with another seed."""
        grids = (
            one for name in ("mnist", "fashion") for method in METHODS.values() for one in self._grid(name, method)
        )
        first = next(one for one in grids if one.name == run.name)
        return replace(first, name=f"{run.name.removesuffix('-s0')}-s{seed}", seed=seed)

    def _adversarial(self, eps: float) -> AdversarialTraining:
        return AdversarialTraining(attack=PGD(threat=Threat("L2", eps), steps=self.attack_steps, drop_broken=False))

    def _attacks(self, restarts: int) -> list[PGD]:
        return [
            PGD(threat=Threat("L2"), steps=self.steps, restarts=restarts, loss=loss)
            for loss in (CrossEntropy(), Decision())
        ]

    def _threats(self, radii: tuple[float, ...]) -> list[Threat]:
        return [Threat("L2", eps) for eps in radii]


def _setting(record: Record) -> str:
    """Return the settings that the paper chooses, as it writes them."""
    options = record.config["objective"]["init_args"]
    if "attack" in options:
        return f"ε = {options['attack']['init_args']['threat']['eps']:g}"
    second = f", λ₂ = {options['curvature']:g}" if "curvature" in options else ""
    return f"λ₁ = {options['weight']:g}{second}"


def _ratios(record: Record, measure: CurvatureEstimates) -> list[float | None]:
    """Return the median norm, and the mean ratios of both estimates."""
    one = next(found for found in record.measures if found.measure == repr(measure))
    parts = (one.parts["gradient_direction_ratio"], one.parts["hessian_ascent_ratio"])
    return [one.median, *(part.mean for part in parts)]


def _less(value: float | None, limit: float) -> bool | None:
    return None if value is None else value < limit


def _smaller(value: float | None, other: float | None) -> bool | None:
    return None if value is None or other is None else value < other


def _one(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
