"""The question that the papers leave: which method keeps the most at equal training cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import ceil, prod
from pathlib import Path
from statistics import fmean
from typing import ClassVar, Self

import torch

from meseta import attacks
from meseta.attacks import FGSM, PGD, FrankWolfe
from meseta.autodiff import Decision
from meseta.data import DataConfig
from meseta.evaluation.record import Verdict, read_record
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
from meseta.report.comparison import NORMS, eps_text, wilson
from meseta.report.figure import PanelFigure, PointFigure, Points
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import (
    Lab,
    accuracies,
    all_hold,
    best,
    exceeds,
    has_diverged,
    held_out,
    judged,
    judged_at,
    training_seconds,
)
from meseta.schedules import Cosine, LinearWarmup
from meseta.threat import Threat
from meseta.training import Adam, RunConfig
from meseta.training.cost import step_flops

PLAIN = "erm"
WITHIN = 2.0
"""Points of clean accuracy on the held-out split that a method may lose against plain training."""
ATTACK = PGD(steps=20, loss=Decision())
"""What settings are chosen by, and what stands beside the worst case."""
NAMES = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar": "CIFAR-10"}
CHEAP = 3.0
"""Plain steps that a cheap method's step costs at most."""
GUESSING = 15.0
"""Clean accuracy in %, of ten classes, that is hardly better than guessing: nothing is claimed beside such training."""
PENALTIES = frozenset(
    {
        "input-gradient",
        "jacobian",
        "cross-lipschitz",
        "decision-gradient",
        "curvature",
        "curvature-trace",
        "curvature-bound",
        "cross-holder",
        "cure",
        "soar",
    }
)
"""Methods that add a term to the loss and search for no adversarial example in training."""


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

    A plain training takes `budget` epochs; a method whose step costs c plain steps takes budget / c of them, rounded
    up, over as many fewer examples as make the cost the same. Costs are counted operations of convolutions and matrix
    products. Each method's strength is chosen on the held-out split: among those within 2
    points of plain training's clean accuracy the most robust one. Then all are judged on test examples.

    Args:
        mnist, fashion, cifar: the data sets; an empty name leaves one out.
        eps: the Linf radius on each.
        model: the network, which must be smooth for the methods of second order.
        train_limit: training examples; None for all.
        budget: epochs of plain training.
        batch_size, lr: of every training, with Adam.
        strengths: that each method is tried at.
        contenders: the methods that take part beside plain training; empty for all.
        n_val: held-out examples that a PGD attacks to choose; None for all.
        n_test: test examples of the standard suite, and of that PGD beside it.
        checked: how many of them are examined for masking.
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
        "A method is named first only where its worst case is above all others' beyond chance, by Newcombe's 95 % "
        "interval; else all that are not below the first beyond chance are level.",
        "The radii are plain choices: Fashion-MNIST has half that of MNIST, for its classes lie nearer to one another.",
    )

    mnist: str = "ylecun/mnist"
    fashion: str = "zalando-datasets/fashion_mnist"
    cifar: str = "uoft-cs/cifar10"
    eps: tuple[float, float, float] = (0.1, 0.05, 4 / 255)
    model: Architecture = SiluCnn()
    train_limit: int | None = None
    budget: int = 60
    batch_size: int = 128
    lr: float = 2e-3
    strengths: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    contenders: tuple[str, ...] = ()
    n_val: int | None = None
    n_test: int | None = 1000
    checked: int = 200

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        narrow = SiluCnn(maps=(8, 16, 16, 32), hidden=(64,))
        if scale == "smoke":
            return cls(
                mnist="digits",
                fashion="",
                cifar="",
                model=SiluCnn(maps=(4, 4, 8, 8), hidden=(16,)),
                train_limit=128,
                budget=1,
                batch_size=32,
                strengths=(1.0,),
                contenders=("jacobian", "cure", "pgd"),
                n_val=16,
                n_test=16,
                checked=8,
            )
        if scale == "short":
            return cls(
                model=narrow,
                train_limit=4000,
                budget=6,
                batch_size=64,
                strengths=(0.35, 1.0, 3.0),
                n_val=200,
                n_test=150,
                checked=30,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the data sets, and all of them side by side."""
        names = [name for name in NAMES if getattr(self, name)]
        parts: dict[str, PartOf] = {name: partial(self._data_set, name) for name in names}
        return parts | {"overview": partial(self._overview, names)}

    def _data_set(self, name: str, lab: Lab) -> Part:
        """Return the chart of a data set, its table, and which method keeps the most."""
        found, threat = self._judged(name, lab), self._threat(name)
        data = read_record(found[0].run).data
        return Part(
            title=NAMES[name],
            tables=[self._table(name, found, threat, data), self._choice_table(name, lab)],
            claims=claims(found),
            figures=[lab.keep_figure(chart(name, found, threat))],
        )

    def _overview(self, names: Sequence[str], lab: Lab) -> Part:
        """Return the worst case of every method on every data set."""
        columns = {name: {one.name: one for one in self._judged(name, lab)} for name in names}
        methods = [one for one in next(iter(columns.values())) if all(one in found for found in columns.values())]

        def rank(method: str) -> float:
            return fmean(place(found[method], list(found.values())) for found in columns.values())

        rows = [
            Row(
                name=method,
                entries=[Entry(ours=[value]) for found in columns.values() for value in shown(found[method])]
                + [Entry(ours=[rank(method)])],
                note="; ".join(remarks({NAMES[name]: found[method] for name, found in columns.items()})),
            )
            for method in sorted(methods, key=rank)
        ]
        every = PanelFigure(
            key="equal-cost",
            title="Robust accuracy at equal training cost",
            rows=tuple((self._panel(name, list(found.values())),) for name, found in columns.items()),
        )
        return Part(
            title="All data sets",
            tables=[
                ReproducedTable(
                    key="equal-cost-overview",
                    title="Worst case at equal training cost, by the mean place over the data sets",
                    columns=[
                        *(
                            f"{NAMES[name]}, {what}"
                            for name in names
                            for what in ("clean, held out (%)", "worst case (%)")
                        ),
                        "mean place",
                    ],
                    rows=rows,
                    unit="",
                    notes=[
                        "Clean, held out: on the whole held-out split. Worst case: of "
                        f"{of_examples(columns.values())}.",
                        "A place counts methods that keep more, be it by chance; those with masked gradients, and "
                        "those that lose more than 2 points of clean accuracy, come after all others.",
                    ],
                )
            ],
            claims=[everywhere({NAMES[name]: list(found.values()) for name, found in columns.items()})],
            figures=[lab.keep_figure(every)],
        )

    def _panel(self, name: str, found: Sequence["Judged"]) -> PointFigure:
        threat = self._threat(name)
        title = f"{NAMES[name]}, {NORMS['Linf']} {eps_text('Linf', threat.eps)}"
        return replace(chart(name, found, threat), title=title)

    def _judged(self, name: str, lab: Lab) -> list["Judged"]:
        """Train every method at every strength, choose on the held-out split, and judge what was chosen."""
        threat, plan, tried = self._threat(name), _planned(self, name), self._tried(name, lab)
        plain = tried[PLAIN][0]
        chosen = {method: chosen_by(runs, plain, threat) for method, runs in tried.items() if runs}
        lab.attack(list(chosen.values()), [ATTACK], [threat], n=self.n_test)
        lab.judge(list(chosen.values()), threat, n=self.n_test, checked=self.checked)
        return [self._found(method, plan[method][0].step, run, plain) for method, run in chosen.items()]

    def _tried(self, name: str, lab: Lab) -> dict[str, list[Path]]:
        """Train every method at every strength and return its runs, attacked on the held-out split.

        Those that diverged are left out.
        """
        plan = {method: [self._run(name, one) for one in settings] for method, settings in _planned(self, name).items()}
        folders = {method: lab.train(*runs, may_diverge=method != PLAIN) for method, runs in plan.items()}
        tried = {method: [run for run in runs if not has_diverged(run)] for method, runs in folders.items()}
        every = [run for runs in tried.values() for run in runs]
        lab.attack(every, [ATTACK], [self._threat(name)], n=self.n_val, split="val")
        return tried

    def _found(self, method: str, step: float, run: Path, plain: Path) -> "Judged":
        evaluation = read_record(run).evaluation
        assert evaluation is not None
        assert evaluation.masking is not None
        return Judged(
            name=method,
            run=run,
            step=step,
            clean=held_out(run) or 0,
            is_near=is_near(run, plain),
            worst=evaluation.robust[0].worst_case,
            n=evaluation.n,
            verdict=evaluation.masking.verdict,
        )

    def _table(self, name: str, found: Sequence["Judged"], threat: Threat, data: str) -> ReproducedTable:
        plain = training_seconds(found[0].run)
        rows = [
            judged(
                one.name,
                [
                    Entry(ours=[one.step]),
                    Entry(ours=[training_seconds(one.run) / plain]),
                    Entry(ours=[one.clean]),
                    Entry(ours=accuracies([one.run], None, most=self.n_test)),
                    Entry(ours=accuracies([one.run], ATTACK, threat, most=self.n_test)),
                ],
                [one.run],
                threat,
                note=setting(one),
            )
            for one in sorted(found, key=lambda one: -one.worst)
        ]
        missing = sorted(set(_planned(self, name)) - {one.name for one in found})
        return ReproducedTable(
            key=f"equal-cost-{name}-table",
            title=f"{NAMES[name]}: every method at the same training cost, by its worst case",
            columns=[
                "step (plain steps)",
                "training time (plain = 1)",
                "clean, held out (%)",
                "clean (%)",
                f"{ATTACK.name} (%)",
            ],
            rows=rows,
            unit="",
            judged_at=judged_at([one.run for one in found], threat),
            notes=[
                f"{data}.",
                "Clean, held out: on the whole held-out split. The accuracies after it are all of "
                f"{of_examples([{one.name: one for one in found}])}.",
                "Steps are counted operations. Time is measured on a machine that may have had other work.",
                *([f"Diverged at every strength: {', '.join(missing)}."] if missing else []),
            ],
        )

    def _choice_table(self, name: str, lab: Lab) -> ReproducedTable:
        threat, tried, plan = self._threat(name), self._tried(name, lab), _planned(self, name)
        plain = tried[PLAIN][0]
        rows = []
        for method, settings in plan.items():
            runs = {run.name: run for run in tried[method]}
            chosen = chosen_by(tried[method], plain, threat) if runs else None
            for one in settings:
                run = runs.get(self._run(name, one).run_name)
                values = [None, None] if run is None else [held_out(run), *on_held_out([run], threat)]
                mark = self._mark(one, run, plain) if run and run == chosen else ""
                rows.append(
                    Row(
                        name=f"{method}, strength {one.strength:g}{mark}",
                        entries=[Entry(ours=[value]) for value in (one.epochs, one.examples, *values)],
                        note="" if run else "diverged",
                    )
                )
        return ReproducedTable(
            key=f"equal-cost-{name}-choice",
            title=f"{NAMES[name]}: the choice of strengths, on the held-out split",
            columns=["epochs", "training examples", "clean (%)", f"{ATTACK.name} (%)"],
            rows=rows,
            unit="",
            notes=[
                "Chosen: the most robust within 2 points of the clean accuracy of `erm`, else the cleanest.",
                f"Clean: on the whole held-out split; {ATTACK.name}: on {'all' if self.n_val is None else self.n_val} "
                "of its examples.",
                "End of the grid: a strength beyond those that were tried might be better.",
            ],
        )

    def _mark(self, one: Method, run: Path, plain: Path) -> str:
        """Return what the choice of a setting is worth."""
        if not is_near(run, plain):
            return f" (the cleanest: none is within {WITHIN:g} points)"
        ends = {min(self.strengths), max(self.strengths)} if len(self.strengths) > 1 else set()
        return " (chosen, end of the grid)" if one.strength in ends else " (chosen)"

    def plan(self, name: str) -> dict[str, list[Method]]:
        """Return every setting of every method, plain training first, with the epochs that its cost leaves."""
        data = self._data(name).load()
        x, y = data.train[: self.batch_size]
        network = self.model.build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
        plain = step_flops(Erm(), network, x, y)
        grid: dict[str, dict[float, Objective]] = {PLAIN: {0.0: Erm()}}
        for strength in self.strengths:
            for method, objective in methods(strength, self._threat(name), prod(data.input_shape)).items():
                if method in self.contenders or not self.contenders:
                    grid.setdefault(method, {})[strength] = objective
        plan = {}
        for method, settings in grid.items():
            step = step_flops(next(iter(settings.values())), network, x, y) / plain
            epochs, examples = share_out(self.budget, step, len(data.train))
            plan[method] = [Method(method, *setting, step, epochs, examples) for setting in settings.items()]
        return plan

    def _run(self, name: str, one: Method) -> RunConfig:
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

    def _data(self, name: str) -> DataConfig:
        return DataConfig(source=getattr(self, name), train_limit=self.train_limit)

    def _threat(self, name: str) -> Threat:
        return Threat("Linf", dict(zip(NAMES, self.eps, strict=True))[name])


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A method at the strength that was chosen for it.

    Attributes:
        step: the cost of a step, in plain steps.
        clean: accuracy in % on the held-out split.
        is_near: whether that is within 2 points of plain training.
        worst: worst-case accuracy of `n` test examples, in [0, 1].
    """

    name: str
    run: Path
    step: float
    clean: float
    is_near: bool
    worst: float
    n: int
    verdict: Verdict

    @property
    def counts(self) -> bool:
        """Whether it answers the question: accurate enough, and not masked."""
        return self.is_near and self.verdict != "broken"

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the worst case, in %."""
        low, high = wilson(self.worst, self.n)
        return 100 * low, 100 * high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.name} {100 * self.worst:.1f} % ({low:.1f} to {high:.1f})"


@cache
def _planned(reproduction: EqualCost, name: str) -> dict[str, list[Method]]:
    return reproduction.plan(name)


def share_out(budget: int, step: float, examples: int) -> tuple[int, int]:
    """Return epochs and training examples that together cost `budget` plain epochs, for a step of so many plain ones.

    The fewest epochs that can, and as many examples as are then left: nearly all where the epochs are many.
    """
    epochs = ceil(budget / step)
    return epochs, max(1, round(examples * budget / (step * epochs)))


def on_held_out(runs: Sequence[Path], threat: Threat) -> list[float | None]:
    """Return the accuracies in % that the attack of the choice leaves on the held-out split."""
    return accuracies(runs, ATTACK, threat, split="val")


def chosen_by(runs: Sequence[Path], plain: Path, threat: Threat) -> Path:
    """Return the most robust of the runs that are within 2 points of plain training, else the cleanest.

    Both on the held-out split.
    """
    near = [run for run in runs if is_near(run, plain)]
    return best(near, lambda run: on_held_out([run], threat)[0]) or max(runs, key=lambda run: held_out(run) or 0)


def is_near(run: Path, plain: Path) -> bool:
    """Return whether a run is within 2 points of plain training on the held-out split."""
    return (held_out(run) or 0) >= (held_out(plain) or 0) - WITHIN


def setting(one: Judged) -> str:
    """Return the strength that was chosen, and where the method falls short."""
    strength = "" if one.name == PLAIN else f"strength {one.run.name.rsplit('-', 1)[1]}"
    return "; ".join(part for part in (strength, "" if one.is_near else "more than 2 points less accurate") if part)


def level(found: Sequence[Judged]) -> list[Judged]:
    """Return the methods that answer the question and are not below the first of them beyond chance, the first first.

    One alone is the winner. Plain training always answers.
    """
    candidates = [one for one in found if one.counts or one.name == PLAIN]
    first = max(candidates, key=lambda one: one.worst)
    others = [one for one in candidates if one is not first and not above(first, one)]
    return [first, *sorted(others, key=lambda one: -one.worst)]


def above(one: Judged, other: Judged) -> bool | None:
    """Return whether a worst case is above another; None where chance may decide."""
    return exceeds(100 * one.worst, 100 * other.worst, min(one.n, other.n))


def of_examples(columns: Iterable[Mapping[str, Judged]]) -> str:
    """Return in words of how many test examples all worst cases are."""
    ns = sorted({one.n for found in columns for one in found.values()})
    return f"the same {ns[0]} test examples" if len(ns) == 1 else f"{ns[0]} to {ns[-1]} test examples"


def place(one: Judged, found: Sequence[Judged]) -> int:
    """Return the place of a method, from 1: how many keep more, after all that count where it does not itself."""
    return 1 + sum((other.counts, other.worst) > (one.counts, one.worst) for other in found)


def shown(one: Judged) -> list[float]:
    """Return clean accuracy and worst case, in %."""
    return [one.clean, 100 * one.worst]


def remarks(found: Mapping[str, Judged]) -> list[str]:
    """Return where a method is not accurate enough, or masked."""
    far = [name for name, one in found.items() if not one.is_near]
    masked = [name for name, one in found.items() if one.verdict == "broken"]
    said = {"less accurate by more than 2 points on": far, "gradients masked on": masked}
    return [f"{what} {', '.join(names)}" for what, names in said.items() if names]


def claims(found: Sequence[Judged]) -> list[Claim]:
    """Return which method keeps the most, whether by more than chance, and whether dear steps repay their cost."""
    counting = sorted((one for one in found if one.counts), key=lambda one: -one.worst)
    firsts = level(found)
    names, are = named(firsts), "is" if len(firsts) == 1 else "are"
    verdict: dict[Verdict, bool | None] = {"trusted": True, "suspicious": None, "broken": False}
    rest = [one for one in counting if one not in firsts]
    n = min(one.n for one in found)
    made = [
        Claim(
            text=f"Within {WITHIN:g} points of plain training "
            f"{names if len(firsts) == 1 else 'one method'} keeps the most.",
            holds=True if len(firsts) == 1 and rest else None,
            evidence=f"{names} {are} {'first' if len(firsts) == 1 else 'level'}: {listed(firsts)}; "
            f"next {listed(rest[:3]) or 'none'}; n = {n}.",
            by="meseta",
        ),
        _against_plain(found, firsts),
        Claim(
            text=f"The gradients of {names} are not masked.",
            holds=all_hold(verdict[one.verdict] for one in firsts),
            evidence=f"All masking checks together say {', '.join(f'{one.name}: {one.verdict}' for one in firsts)}.",
            by="meseta",
        ),
        _dear_against_cheap(counting),
        _penalty_against_pgd(found, counting),
    ]
    if has_learned(found):
        return made
    why = " Plain training is hardly better than guessing: no claim is about it."
    return [one.model_copy(update={"holds": None, "evidence": one.evidence + why}) for one in made]


def has_learned(found: Sequence[Judged]) -> bool:
    """Return whether plain training is better than guessing, so that there is something to compare."""
    return all(one.clean > GUESSING for one in found if one.name == PLAIN)


def _against_plain(found: Sequence[Judged], firsts: Sequence[Judged]) -> Claim:
    plain = next(one for one in found if one.name == PLAIN)
    better = [one for one in firsts if one is not plain]
    if better:
        text = f"{named(better)} {'keeps' if len(better) == 1 else 'each keep'} more than plain training."
        holds = all_hold(above(one, plain) for one in better)
    else:
        text = "A method keeps more than plain training."
        holds = False if any(one.counts for one in found if one is not plain) else None
    evidence = f"{listed(better) or 'None of the others'} against {plain}; n = {plain.n}."
    return Claim(text=text, holds=holds, evidence=evidence, by="meseta")


def _dear_against_cheap(counting: Sequence[Judged]) -> Claim:
    """Return whether dear steps keep less; `counting` are the methods that answer the question, the first first."""
    cheap = next((one for one in counting if one.step <= CHEAP), None)
    dear = next((one for one in counting if one.step > CHEAP), None)
    return Claim(
        text=f"The best method of at most {CHEAP:g} plain steps keeps more than every dearer one.",
        holds=above(cheap, dear) if cheap and dear else None,
        evidence=f"{cheap or 'No cheap one'}; {dear or 'no dearer one'}, of those within {WITHIN:g} points and not "
        f"masked{f'; n = {counting[0].n}' if counting else ''}.",
        by="meseta",
    )


def _penalty_against_pgd(found: Sequence[Judged], counting: Sequence[Judged]) -> Claim:
    penalty = next((one for one in counting if one.name in PENALTIES and one.step <= CHEAP), None)
    pgd = next((one for one in found if one.name == "pgd"), None)
    plain = next(one for one in found if one.name == PLAIN)
    if pgd is None:
        said = "PGD training diverged"
    elif not pgd.is_near:
        said = f"{pgd} is {plain.clean - pgd.clean:.1f} points less accurate than plain training: no comparison"
    elif not pgd.counts:
        said = f"{pgd} has masked gradients: no comparison"
    else:
        said = f"{pgd}; n = {pgd.n}"
    return Claim(
        text=f"At equal cost a penalty of at most {CHEAP:g} plain steps beats adversarial training with PGD, both "
        f"within {WITHIN:g} points of plain training.",
        holds=above(penalty, pgd) if penalty and pgd and pgd.counts else None,
        evidence=f"{penalty or 'No such penalty'}; {said}.",
        by="meseta",
    )


def everywhere(columns: Mapping[str, Sequence[Judged]]) -> Claim:
    """Return whether one method is alone first on every data set."""
    firsts = {name: level(found) for name, found in columns.items()}
    common = sorted(set.intersection(*({one.name for one in some} for some in firsts.values())))
    if len(firsts) == 1 or not all(map(has_learned, columns.values())):
        holds = None
    elif not common:
        holds = False
    else:
        holds = True if all(len(some) == 1 for some in firsts.values()) else None
    each = "; ".join(
        f"{name}: {named(some)} {'alone' if len(some) == 1 else 'are level'}" for name, some in firsts.items()
    )
    return Claim(
        text="One method is alone first on every data set.",
        holds=holds,
        evidence=f"{each}. Among the first everywhere: {', '.join(common) or 'none'}.",
        by="meseta",
    )


def named(some: Sequence[Judged]) -> str:
    """Return the names of methods as a sentence has them: a, b and c."""
    names = [one.name for one in some]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def listed(some: Sequence[Judged]) -> str:
    """Return methods with their worst cases and intervals."""
    return ", ".join(map(str, some))


def chart(name: str, found: Sequence[Judged], threat: Threat) -> PointFigure:
    """Return the worst case of every method against the cost of its step."""
    kinds = {
        f"within {WITHIN:g} points of plain training": [one for one in found if one.counts],
        "less accurate": [one for one in found if not one.is_near and one.verdict != "broken"],
        "gradients masked: at most this": [one for one in found if one.verdict == "broken"],
    }
    places = apart({one.name: one.step for one in found})
    groups = [
        Points(
            name=kind,
            style=style,
            labels=tuple(one.name for one in members),
            x=tuple(places[one.name] for one in members),
            y=tuple(100 * one.worst for one in members),
            low=tuple(one.interval[0] for one in members),
            high=tuple(one.interval[1] for one in members),
        )
        for style, (kind, members) in enumerate(kinds.items())
        if members
    ]
    ns = sorted({one.n for one in found})
    return PointFigure(
        key=f"equal-cost-{name}",
        title=f"{NAMES[name]}: robust accuracy at equal training cost, {NORMS['Linf']} {eps_text('Linf', threat.eps)}",
        x_label="cost of a step (plain steps)",
        y_label="worst-case accuracy (%)",
        groups=tuple(groups),
        ticks={float(2**k): f"{2**k}" for k in range(10) if 2**k <= 2 * max(places.values())},
        notes=(
            f"Whiskers: 95 % Wilson intervals of {ns[0]} test examples. One seed.",
            "Methods of equal cost are drawn a little apart.",
        ),
        log_x=True,
    )


def apart(costs: Mapping[str, float], share: float = 0.03) -> dict[str, float]:
    """Return places on a logarithmic axis, those of nearly equal costs spread about their own."""
    ordered = sorted(costs, key=costs.__getitem__)
    groups: list[list[str]] = []
    for name in ordered:
        if groups and costs[name] <= (1 + share) * costs[groups[-1][0]]:
            groups[-1].append(name)
        else:
            groups.append([name])
    return {
        name: costs[name] * (1 + share) ** (k - (len(group) - 1) / 2)
        for group in groups
        for k, name in enumerate(group)
    }
