"""Mustafa et al. 2020: Cross-Hölder regularisation against Cross-Lipschitz and adversarial training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import ClassVar, Literal, Self

from meseta.attacks import PGD
from meseta.autodiff import CrossEntropy, Decision
from meseta.data import DataConfig
from meseta.evaluation.record import Record, read_record
from meseta.geometry import CurvatureEstimates
from meseta.objectives import AdversarialTraining, CrossHolder, Erm, Objective
from meseta.papers import Mustafa1, Mustafa2, Mustafa3, Mustafa4, Mustafa5
from meseta.papers.mustafa2020 import TwoAttacks
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row, spelled
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import (
    Lab,
    accuracies,
    all_hold,
    best,
    exceeds,
    held_out,
    judged,
    judged_at,
    mean,
    worst_cases,
)
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


PLAIN = "plain"


@dataclass(frozen=True)
class Task:
    """A data set, and how long ε = 1 is in pixel units."""

    data: Literal["mnist", "fashion"]
    unit: float = 1.0

    @property
    def name(self) -> str:
        """A name for tables."""
        return f"{self.data}{'-units' if self.mark else ''}"

    @property
    def mark(self) -> str:
        """What tells runs whose settings hang on the unit from those in pixel units."""
        return "" if self.unit == 1 else "sd"

    @property
    def words(self) -> str:
        """What ε counts."""
        return f", ε in standard deviations of {self.unit:.3f}" if self.mark else ", ε in pixel units"


@dataclass(frozen=True, kw_only=True)
class Mustafa2020(Reproduction):
    """Cross-Hölder against Cross-Lipschitz and adversarial training, MNIST and Fashion-MNIST: figures 1 to 5.

    Every method's settings are chosen on the 5 % held out: at least the clean accuracy of `floors` there, and of those
    the largest sum of worst-case accuracies at L2 `chosen_at`. Then accuracy against eps under PGD on the cross-entropy
    and on the C&W margin, the smaller of both per example, and what the standard suite leaves at the first `chosen_at`.

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
        "The grids are not given: at paper scale ours hold the selected settings and their neighbours, at short scale "
        "fewer of them.",
        "Convolutions are padded by one pixel, which the paper does not say.",
        "Cross-Lipschitz is equation 5 with λ₂ = 0, as the paper has it: norms that are not squared, unlike Hein and "
        "Andriushchenko's.",
        "Cross-Hölder by equation 5 with Lanczos and one rival class drawn, which is unbiased; Algorithm 1 places the "
        "weights otherwise, counts the loss once for each rival and adds the gradient where it should descend.",
        "Adversarial training in the L2 ball with PGD of 10 steps; the paper gives neither norm nor steps of its "
        "training attack, and radii from 1 to 5 can only be those of L2.",
        "ε in pixel units, which the paper does not say; a part asks what if it counts standard deviations.",
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
                n_test=200,
                n_val=200,
                n_judged=200,
                n_hessian=100,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return figures 1 and 4, figures 2 and 5, figure 3, and figure 1 with another meaning of ε."""
        return {
            "figure-1": partial(self._data_set, Task("mnist")),
            "figure-2": partial(self._data_set, Task("fashion")),
            "figure-3": self._hessian,
            "units": self._units,
        }

    def _data_set(self, task: Task, lab: Lab) -> Part:
        """Return figures 1 and 4, or 2 and 5: the choice of settings, and accuracy against eps."""
        runs = self._trained(task, lab)
        figures = (Mustafa1, Mustafa4) if task.data == "mnist" else (Mustafa2, Mustafa5)
        table = self._accuracy_table(task, runs)
        effective = [self._effective(task, runs)] if task.data == "mnist" else []  # which the paper says of MNIST alone
        return Part(
            title=f"Figures {'1 and 4: MNIST' if task.data == 'mnist' else '2 and 5: Fashion-MNIST'}",
            tables=[table, self._choice_table(task, lab)],
            claims=[*effective, *self._claims(task, runs), self._judged_claim(table)],
            figures=[lab.draw(self._figure(figure, task), [seeds[0] for seeds in runs.values()]) for figure in figures],
        )

    def _units(self, lab: Lab) -> Part:
        """Return figure 1 with ε in standard deviations of the pixels, as of networks whose inputs are standardised."""
        data = DataConfig(source=self.mnist, train_limit=self.train_limit).load()
        task = Task("mnist", unit=fmean(data.std))
        runs = self._trained(task, lab)
        key = lab.draw(self._figure(Mustafa1, task), [seeds[0] for seeds in runs.values()], key="mustafa-1-units")
        claim = self._effective(task, runs)
        text = f"With ε in standard deviations of the pixels ({task.unit:.3f} each), all three are effective that far."
        return Part(
            title="What if ε counts standard deviations?",
            tables=[self._accuracy_table(task, runs), self._choice_table(task, lab)],
            claims=[claim.model_copy(update={"text": text, "by": "meseta"}), *self._claims(task, runs)],
            figures=[key],
            notes=["The paper does not say in what units ε is; networks of MNIST are often fed standardised pixels."],
        )

    def _trained(self, task: Task, lab: Lab) -> dict[str, list[Path]]:
        """Return the runs of plain training and of each method's chosen setting, all seeds, attacked, maybe judged."""
        plain = lab.train(self._run(task, "erm", Erm(), 0))
        seeds = range(self.seeds)
        chosen = {
            method: lab.train(*(self._again(task, runs[0], seed) for seed in seeds))
            for method, runs in self._choose(task, lab).items()
        }
        found = {PLAIN: plain, **chosen}
        every = [run for runs in found.values() for run in runs]
        lab.attack(every, self._attacks(self.restarts), self._threats(task, self.eps), n=self.n_test)
        lab.look(every, self._judged_at(task))
        if not task.mark:  # the runs that both units share are judged in pixel units
            lab.judge(every, self._judged_at(task), n=self.n_judged)
        return found

    def _hessian(self, lab: Lab) -> Part:
        """Return figure 3, and what its ascent sees of a network that was trained to be flat."""
        (erm,) = lab.train(self._run(Task("mnist"), "erm", Erm(), 0))
        flat = self._choose(Task("mnist"), lab)["Cross-Hölder"][0]
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
                        "The truth is Lanczos' value, up to its residual; the paper takes its ascent for the truth.",
                        f"The first {self.n_hessian} test examples.",
                    ],
                )
            ],
            claims=[
                Claim(
                    text="|Hg| is no tight lower bound of the norm.",
                    holds=_less(plain[1].mean, 0.9),
                    evidence=f"On the plain network it is {spelled(plain[1].mean, 2)} of the norm in the mean.",
                ),
                Claim(
                    text="The paper's ascent is not the truth either: it sees the less the flatter the network is.",
                    holds=_smaller(regularised[2].mean, plain[2].mean),
                    evidence=f"It finds {spelled(plain[2].mean, 2)} of the norm on the plain network, and "
                    f"{spelled(regularised[2].mean, 2)} on the one trained with Cross-Hölder.",
                    by="meseta",
                ),
            ],
            figures=[key],
        )

    def _choose(self, task: Task, lab: Lab) -> dict[str, list[Path]]:
        """Train every setting with the first seed, and return those of each method, the chosen one first."""
        grids = {method: lab.train(*self._grid(task, short)) for method, short in METHODS.items()}
        every = [run for runs in grids.values() for run in runs]
        attacks, threats = self._attacks(self.val_restarts), self._threats(task, self.chosen_at)
        lab.attack(every, attacks, threats, n=self.n_val, split="val")
        return {method: self._by_rule(task, runs) for method, runs in grids.items()}

    def _by_rule(self, task: Task, runs: list[Path]) -> list[Path]:
        """Return the runs, the one that the paper's rule chooses first; without one above the floor the cleanest."""
        above = [run for run in runs if (held_out(run) or 0) >= 100 * self._floor(task)]
        found = best(above, partial(self._score, task)) if above else best(runs, held_out)
        return [found, *(run for run in runs if run != found)] if found else runs

    def _score(self, task: Task, run: Path) -> float:
        """Return the sum of the worst-case accuracies on the held-out split at the radii of the choice."""
        attacks = self._attacks(self.val_restarts)
        radii = self._threats(task, self.chosen_at)
        return sum(worst_cases([run], attacks, threat, split="val")[0] for threat in radii)

    def _accuracy_table(self, task: Task, runs: Mapping[str, list[Path]]) -> ReproducedTable:
        """Return the worst case of both attacks against eps, and in pixel units what was judged at one radius."""
        attacks, threat = self._attacks(self.restarts), self._judged_at(task)
        rows = []
        for method, seeds in runs.items():
            left = [Entry(ours=list(worst_cases(seeds, attacks, one))) for one in self._threats(task, self.eps)]
            entries = [Entry(ours=accuracies(seeds, None)), *left]
            note = "" if method == PLAIN else _setting(read_record(seeds[0]), task)
            plain = Row(name=method, entries=entries, note=note)
            rows.append(plain if task.mark else judged(method, entries, seeds, threat, note=note))
        return ReproducedTable(
            key=f"{task.name}-accuracy",
            title=f"Worst case of both PGD attacks against ε (L2{task.words})",
            columns=["clean", *(f"ε = {eps:g}" for eps in self.eps)],
            rows=rows,
            judged_at="" if task.mark else judged_at(runs[PLAIN], threat),
            notes=[
                "The paper gives curves without figures.",
                f"Clean on the whole test split, against ε on the first {self.n_test or 'all'} of its examples.",
            ],
        )

    def _choice_table(self, task: Task, lab: Lab) -> ReproducedTable:
        rows = []
        for method, runs in self._choose(task, lab).items():
            for run in runs:
                values = held_out(run), self._score(task, run)
                label = f"{method}, {_setting(read_record(run), task)}{' (chosen)' if run == runs[0] else ''}"
                note = self._remark(task, method, run) if run == runs[0] else ""
                rows.append(Row(name=label, entries=[Entry(ours=[value]) for value in values], note=note))
        radii = " and ".join(f"{eps:g}" for eps in self.chosen_at)
        floor = f"{100 * self._floor(task):g} % clean"
        return ReproducedTable(
            key=f"{task.name}-choice",
            title="The choice of settings, on the held-out split",
            columns=["clean", f"sum of worst cases at ε = {radii}"],
            rows=rows,
            notes=[
                f"Chosen: the largest sum among those of at least {floor}, else the cleanest.",
                f"Clean on the whole held-out split, the sum on the first {self.n_val or 'all'} of its examples.",
            ],
        )

    def _remark(self, task: Task, method: str, run: Path) -> str:
        """Return what the paper chose, and whether a chosen setting is below the floor."""
        below = (held_out(run) or 0) < 100 * self._floor(task)
        return f"the paper chose {CHOSEN[task.data, METHODS[method]]}" + ("; none reaches the floor" if below else "")

    def _effective(self, task: Task, runs: Mapping[str, list[Path]]) -> Claim:
        """Return whether all three keep more than half up to the second largest radius."""
        left = {method: values[-2] for method, values in self._curves(task, runs).items() if method != PLAIN}
        said = (f"ε = {self.eps[k]:g}: {self._listed(task, runs, k)}" for k in (0, -2))
        return Claim(
            text=f"All three are quite effective up to ε = {self.eps[-2]:g} (here: more than half stand).",
            holds=all((value or 0) > 50 for value in left.values()),
            evidence=f"{'; '.join(said)}.",
        )

    def _listed(self, task: Task, runs: Mapping[str, list[Path]], k: int) -> str:
        """Return what each method but plain training keeps at the k-th radius."""
        curves = self._curves(task, runs)
        return ", ".join(f"{name} {spelled(values[k])} %" for name, values in curves.items() if name != PLAIN)

    def _claims(self, task: Task, runs: Mapping[str, list[Path]]) -> list[Claim]:
        """Return which method keeps more where the paper says so."""
        curves = self._curves(task, runs)
        ch, cl, at = (curves[method] for method in ("Cross-Hölder", "Cross-Lipschitz", "adversarial training"))
        beyond = f"beyond ε = {self.eps[-2]:g}"
        than_at = f"Cross-Hölder keeps more than adversarial training {beyond}."
        claims = [
            self._claim(f"Cross-Hölder keeps more than Cross-Lipschitz {beyond}.", [-1], "Cross-Lipschitz", ch, cl)
        ]
        if task.data == "mnist":
            claims.append(self._claim(than_at, [-1], "adversarial training", ch, at))
        if task.data == "fashion":
            text = f"Cross-Hölder keeps less than adversarial training up to ε = {self.eps[-2]:g}."
            claims.append(self._claim(text, range(len(self.eps) - 1), "Cross-Hölder", at, ch))
        return claims

    def _judged_claim(self, table: ReproducedTable) -> Claim:
        """Return whether Cross-Hölder is ahead of Cross-Lipschitz in what the standard suite and all checks leave."""
        left = {row.name: Entry(ours=row.worst_case).mean for row in table.rows}
        ch, cl = (left[method] for method in ("Cross-Hölder", "Cross-Lipschitz"))
        return Claim(
            text=f"At ε = {self.chosen_at[0]:g} Cross-Hölder keeps more than Cross-Lipschitz in the worst case too.",
            holds=exceeds(ch, cl, self.n_judged or 10_000),
            evidence=f"{spelled(ch)} % against {spelled(cl)} %; adversarial training keeps "
            f"{spelled(left['adversarial training'])} %; n = {self.n_judged or 'all'}.",
            by="meseta",
        )

    def _claim(
        self,
        text: str,
        places: Iterable[int],
        other: str,
        more: Sequence[float | None],
        less: Sequence[float | None],
    ) -> Claim:
        """Return whether one curve lies above another at all these places, by more than chance."""
        told = [exceeds(more[k], less[k], self.n_test or 10_000) for k in places]
        pairs = (f"ε = {self.eps[k]:g}: {spelled(more[k])} % against {spelled(less[k])} % ({other})" for k in places)
        return Claim(text=text, holds=all_hold(told), evidence=f"{'; '.join(pairs)}, n = {self.n_test or 'all'}.")

    def _curves(self, task: Task, runs: Mapping[str, list[Path]]) -> dict[str, list[float | None]]:
        """Return the worst case of both attacks at every radius, the mean of the seeds."""
        attacks, threats = self._attacks(self.restarts), self._threats(task, self.eps)
        return {
            method: [mean(worst_cases(seeds, attacks, threat)) for threat in threats] for method, seeds in runs.items()
        }

    def _figure(self, figure: type[TwoAttacks], task: Task) -> TwoAttacks:
        radii = tuple(threat.eps for threat in self._threats(task, self.eps))
        return figure(eps=radii, steps=self.steps, restarts=self.restarts, n=self.n_test)

    def _grid(self, task: Task, method: str) -> list[RunConfig]:
        """Return the runs of a method's grid, of the first seed."""
        objectives: dict[str, Objective] = {}
        if method == "at":
            objectives |= {f"at-{eps:g}{task.mark}": self._adversarial(task, eps) for eps in self.at_eps}
        elif method == "cl":
            objectives |= {f"cl-{weight:g}": CrossHolder(weight=weight, curvature=0.0) for weight in self.cl_weights}
        else:
            grid = [(weight, curvature) for weight in self.ch_weights for curvature in self.ch_curvatures]
            objectives |= {f"ch-{w:g}-{c:g}": CrossHolder(weight=w, curvature=c) for w, c in grid}
        return [self._run(task, label, objective, 0) for label, objective in objectives.items()]

    def _run(self, task: Task, label: str, objective: Objective, seed: int) -> RunConfig:
        return RunConfig(
            name=f"{task.data}-{label}-s{seed}",
            data=DataConfig(source=getattr(self, task.data), train_limit=self.train_limit),
            objective=objective,
            optimizer=Adam(lr=self.lr),
            schedule=Cosine(),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=seed,
        )

    def _again(self, task: Task, run: Path, seed: int) -> RunConfig:
        """Return the run of the same settings with another seed."""
        grids = (one for method in METHODS.values() for one in self._grid(task, method))
        first = next(one for one in grids if one.name == run.name)
        return replace(first, name=f"{run.name.removesuffix('-s0')}-s{seed}", seed=seed)

    def _adversarial(self, task: Task, eps: float) -> AdversarialTraining:
        (threat,) = self._threats(task, [eps])
        return AdversarialTraining(attack=PGD(threat=threat, steps=self.attack_steps, drop_broken=False))

    def _attacks(self, restarts: int) -> list[PGD]:
        return [
            PGD(threat=Threat("L2"), steps=self.steps, restarts=restarts, loss=loss)
            for loss in (CrossEntropy(), Decision())
        ]

    def _judged_at(self, task: Task) -> Threat:
        return self._threats(task, self.chosen_at)[0]

    def _threats(self, task: Task, radii: Iterable[float]) -> list[Threat]:
        return [Threat("L2", eps * task.unit) for eps in radii]

    def _floor(self, task: Task) -> float:
        return self.floors[0 if task.data == "mnist" else 1]


def _setting(record: Record, task: Task) -> str:
    """Return the settings that the paper chooses, as it writes them."""
    options = record.config["objective"]["init_args"]
    if "attack" in options:
        return f"ε = {options['attack']['init_args']['threat']['eps'] / task.unit:g}"
    second = f", λ₂ = {options['curvature']:g}" if options["curvature"] else ""
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
