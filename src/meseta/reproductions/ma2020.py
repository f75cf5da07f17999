"""Ma et al. 2020: SOAR against adversarial training, and what is left of it under honest attacks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch

from meseta.attacks import APGD, FGSM, PGD, Attack, AutoAttack, GaussianNoise, Spatial, Transfer, Transformation
from meseta.autodiff import CrossEntropy, Decision
from meseta.checks import whole
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.masking.textbook_loss import TextbookCrossEntropy
from meseta.evaluation.record import read_record
from meseta.geometry import Confidence, GradientNorm
from meseta.models import Cnn4, Network, ResNet18
from meseta.objectives import AdversarialTraining, Erm, Objective, Soar
from meseta.papers import Soar1, Soar2, Soar3, Soar4
from meseta.papers.attacked import evaluations
from meseta.report.comparison import eps_text
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row, spelled
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import (
    CHANCE,
    COLLAPSED,
    Lab,
    accuracies,
    all_hold,
    exceeds,
    grown,
    has_diverged,
    judged,
    judged_at,
    mean,
    negated,
    reaches,
    worst_cases,
)
from meseta.reproductions.linear_regression import descend, drawn, expected_loss, loss_under_attack
from meseta.schedules import StepDecay
from meseta.threat import Threat
from meseta.training import Adam, Optimizer, RunConfig, Sgd, Watch
from meseta.workflow import EvaluateConfig, MeasureConfig, load_run

Point = Literal["clean", "random", "pgd1"]
Printed = Sequence[tuple[float, float]]
"""Figures of the paper, each with what it prints after ±."""

METHODS = {
    "Standard": "standard",
    "Adv7": "adv7",
    "Adv1-scratch": "adv1-scratch",
    "Adv1-pretrain": "adv1-pretrain",
    "SOAR": "soar-pgd1",
}
"""The rows of Table 1, with the start of their runs' names."""
INITIAL = {"zero init": "soar-zero", "random init": "soar-random", "PGD1 init": "soar-pgd1"}
"""The rows of Table 4."""
THREE = ("Standard", "Adv7", "SOAR")
"""The rows of most tables."""
SOURCES = ("CNN", "ResNet18")

TABLE_1: Mapping[str, Printed] = {  # clean, FGSM, PGD7, PGD20
    "Standard": [(86.33, 0.42), (22.09, 0.45), (1.26, 0.16), (0.39, 0.12)],
    "Adv7": [(70.71, 0.01), (42.37, 0.27), (38.52, 0.23), (36.03, 0.16)],
    "Adv1-scratch": [(83.35, 0.19), (27.84, 0.12), (17.55, 0.35), (13.14, 0.25)],
    "Adv1-pretrain": [(84.23, 0.17), (23.13, 0.32), (12.22, 0.16), (8.11, 0.06)],
    "SOAR": [(81.73, 0.12), (47.77, 0.29), (39.15, 0.15), (32.83, 0.15)],
}
TABLE_2: Mapping[str, Printed] = {  # L2 eps of 20, 40 and 60 / 255
    "Standard": [(60.2, 0.1), (33.7, 0.1), (18.1, 0.3)],
    "Adv7": [(68.3, 0.1), (65.6, 0.2), (62.9, 0.2)],
    "SOAR": [(76.8, 0.1), (71.3, 0.1), (65.8, 0.0)],
}
TABLE_3: Mapping[str, Printed] = {  # transferred from CNN and ResNet18
    "Standard": [(18.1, 0.6), (63.7, 0.9)],
    "Adv7": [(68.3, 0.1), (69.9, 0.1)],
    "SOAR": [(72.6, 1.0), (79.8, 0.2)],
}
TABLE_4: Mapping[str, Printed] = {  # clean, PGD20, transferred from CNN and ResNet18
    "zero init": [(84.28, 0.32), (71.09, 0.93), (15.10, 9.83), (60.85, 1.16)],
    "random init": [(83.85, 0.51), (73.64, 0.24), (20.97, 12.46), (69.71, 0.60)],
    "PGD1 init": [(81.73, 0.12), (32.83, 0.15), (72.62, 0.95), (79.79, 0.16)],
}
TABLE_5: Mapping[str, Printed] = {  # at the input, at a random point, after one step of PGD
    "Standard": [(94.86, 0.16), (94.18, 0.15), (94.72, 0.28)],
    "Adv7": [(53.81, 0.13), (53.63, 0.14), (53.81, 0.12)],
    "Adv1-scratch": [(85.72, 0.19), (85.61, 0.17), (85.72, 0.14)],
    "Adv1-pretrain": [(87.46, 0.05), (87.32, 0.04), (87.46, 0.07)],
    "zero init": [(99.63, 0.03), (99.61, 0.03), (99.82, 0.00)],
    "random init": [(99.61, 0.02), (99.57, 0.04), (99.83, 0.01)],
    "PGD1 init": [(93.85, 0.03), (93.80, 0.02), (93.31, 0.03)],
}
TABLE_6: Mapping[str, Printed] = {  # weak, medium, strong
    "Standard": [(83.07, 0.09), (61.19, 1.04), (35.89, 0.64)],
    "Adv7": [(69.87, 0.24), (60.60, 0.13), (32.51, 0.39)],
    "SOAR": [(80.51, 0.16), (68.42, 0.47), (38.04, 0.44)],
}
TABLE_7: Mapping[str, Printed] = {  # sigma of 0.05, 0.1 and 0.15
    "Standard": [(69.99, 1.06), (36.42, 2.71), (20.63, 1.76)],
    "Adv7": [(69.70, 0.25), (65.52, 0.25), (58.80, 0.36)],
    "SOAR": [(79.98, 0.26), (71.34, 1.08), (56.81, 2.61)],
}

MOVES = (Spatial.weak(), Spatial.medium(), Spatial.strong())
NOISES = (GaussianNoise(sigma=0.05), GaussianNoise(sigma=0.1), GaussianNoise(sigma=0.15))
STRENGTHS, SIGMAS = ["weak", "medium", "strong"], [f"σ = {one.sigma:g}" for one in NOISES]
LOSS, DECISION = "‖∇ℓ‖₂ of the loss", "‖∇L‖₂ of the decision function"
RIDGE = 0.1
CLEAR = 5.0
"""Percentage points by which figures differ clearly."""
HALF, CERTAIN = 50.0, 95.0
"""What a model that holds keeps at least, and the mean probability of one that is nearly certain, in %."""
TENTH = 0.1
TEST = 10_000
"""Examples of CIFAR-10's test split."""
PRINTED_AT = ("data", "weight", "eps", "l2_eps", "training_steps", "steps", "l2_steps")
"""The settings that the published figures belong to."""
ONE_WEIGHT = " No larger weight was trained."
NOTHING_LEFT = " So little is left that the claim is about nothing."


@dataclass(frozen=True, kw_only=True)
class Ma2020(Reproduction):
    """SOAR against adversarial training on CIFAR-10: tables 1 to 7, figures 1 to 4, and the example of section 2.

    SOAR, from three initial points, and one-step adversarial training go on from the plainly trained model. Beside the
    paper's attacks stand APGD, AutoAttack, PGD on the textbook cross-entropy, and the worst case with the masking
    checks.

    Args:
        data: the data set.
        train_limit: training examples; None for all.
        epochs: of training from scratch. `adversarial_epochs` of that on adversarial examples, `source_epochs` of the
            models that attacks are transferred from, `tuning_epochs` of what goes on from the plain model.
        warmup: share of adversarial training from scratch over which its radius and step grow from zero.
        batch_size, optimizer: of training from scratch; `tuning_batch_size`, `tuning_optimizer` of what goes on from
            the plain model.
        maps: of the convolutions of the CNN.
        seeds: trainings of each method, and of each source.
        weight: of SOAR. `weights` those of Figure 3, `zero_weights` more for the zero initialisation.
        eps: of L∞, `l2_eps` of L2.
        training_steps: of PGD in training and of PGD7; `steps` of PGD20, `l2_steps` in L2, `apgd_steps` of APGD.
        auto_steps, auto_queries: of AutoAttack's parts.
        resnet_width: maps of the first stage of ResNet18.
        n_wide: test examples of what takes one pass: transformations, confidence, and clean accuracy in a column of its
            own; None for all.
        n_test: of all other attacks, and of the clean accuracy beside them. `n_auto` of AutoAttack, `n_judged` of the
            worst case (the standard suite, the masking checks, and the other attacks again), `n_watched` of what is
            watched in training.
        watch_every: epochs between two looks in training.
        directions: of the regulariser that Figure 2 shows beside the one of a single direction.
        dimensions: of the linear regression; `draws` initial weights for each, attacked at `linear_eps`.
    """

    paper: ClassVar[str] = "ma2020"
    title: ClassVar[str] = "SOAR: a second-order adversarial regulariser"
    citation: ClassVar[str] = (
        "A. Ma, F. Faghri, A. Farahmand: Adversarial Robustness through Regularization: A Second-Order Approach, 2020"
    )
    choices: ClassVar[tuple[str, ...]] = (
        "SOAR as printed in equation 11, without the last entry of Hz: what the paper says that it trains with. It is "
        "not the bound that the paper derives; a run with the corrected one stands beside it.",
        "The value clip of 10 scales the norm down and keeps its gradient's direction; a plain cut would leave none. "
        "The gradient clip of 30 is on the gradient of the mean regulariser to the parameters, before the weight.",
        "α = 8/255 as in appendix C; the text has 0.03.",
        "The PGD1 point is one step of 2/255 along the sign of the gradient from a random point; the formulas print "
        "the gradient without a sign, and two step lengths.",
        "Adv1-pretrain has SOAR's schedule: the paper gives none, and says that SOAR at weight 0 is that training.",
        "Convolutions are padded by one pixel, and one dense layer follows them; the paper says neither.",
        "The sources of transferred attacks are trained plainly, with the schedule of Standard; transferred examples "
        "are those after the last step.",
        "An attack counts wherever one of its iterates is misclassified, which can only lower an accuracy.",
        "Three seeds; the paper does not say what stands behind its ±. The weights of Figure 3 are ours.",
        "Nothing is selected: the hyper-parameters are the paper's. The learning rates of the scale `short`, larger "
        "for fewer steps, were set by loss and accuracy on held-out examples.",
        "Training takes 95 % of the training set: everything here holds out the rest, though at the paper's scale "
        "nothing is chosen by it.",
        "Figures differ where chance alone would not make them: by the 95 % interval of their difference. What the "
        "paper calls near, clear or nearly certain is ours to fix, and stands in each claim.",
        "At short scale the radius of adversarial training from scratch grows over its first half: at 8/255 from the "
        "first step on, so small a network never left the constant answer.",
    )

    data: str = "uoft-cs/cifar10"
    train_limit: int | None = None
    epochs: int = 200
    adversarial_epochs: int = 200
    source_epochs: int = 200
    tuning_epochs: int = 150
    warmup: float = 0.0
    batch_size: int = 128
    tuning_batch_size: int = 128
    optimizer: Optimizer = Sgd(lr=0.01)
    tuning_optimizer: Optimizer = Sgd(lr=0.002)
    maps: tuple[int, int, int, int] = (32, 32, 64, 64)
    seeds: int = 3
    weight: float = 0.5
    weights: tuple[float, ...] = (0.1, 0.5, 1.0, 2.0)
    zero_weights: tuple[float, ...] = (2.0,)
    eps: float = 8 / 255
    l2_eps: tuple[float, ...] = (20 / 255, 40 / 255, 60 / 255)
    training_steps: int = 7
    steps: int = 20
    l2_steps: int = 100
    apgd_steps: int = 100
    auto_steps: int = 100
    auto_queries: int = 5000
    resnet_width: int = 64
    n_wide: int | None = None
    n_test: int | None = None
    n_auto: int | None = 1000
    n_judged: int | None = 1000
    n_watched: int = 1000
    watch_every: int = 10
    directions: int = 100
    dimensions: tuple[int, ...] = (10, 100, 1000)
    draws: int = 2000
    linear_eps: float = 0.25

    def __post_init__(self) -> None:
        whole("seeds", self.seeds, 1)
        whole("draws", self.draws, 2)
        for name in ("weights", "l2_eps", "dimensions"):
            if not getattr(self, name):
                raise UserError(f"`{name}` must hold at least one value. Leave it out for those of the scale.")
        for d in self.dimensions:
            whole("dimensions", d, 2)

    @classmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale."""
        if scale == "smoke":
            return cls(
                data="digits",
                train_limit=128,
                epochs=1,
                adversarial_epochs=1,
                source_epochs=1,
                tuning_epochs=1,
                maps=(4, 4, 8, 8),
                seeds=1,
                weights=(0.5,),
                zero_weights=(),
                training_steps=2,
                steps=3,
                l2_steps=3,
                apgd_steps=3,
                auto_steps=2,
                auto_queries=5,
                resnet_width=4,
                n_wide=32,
                n_test=16,
                n_auto=4,
                n_judged=16,
                n_watched=4,
                watch_every=1,
                directions=3,
                dimensions=(3, 10),
                draws=100,
            )
        if scale == "short":
            return cls(
                train_limit=5000,
                epochs=12,
                adversarial_epochs=10,
                source_epochs=8,
                tuning_epochs=8,
                warmup=0.5,
                batch_size=64,
                optimizer=Adam(lr=2e-3),
                tuning_batch_size=64,
                tuning_optimizer=Adam(lr=1e-3),
                maps=(8, 16, 16, 32),
                seeds=1,
                weights=(0.05, 0.5),
                zero_weights=(2.0,),
                apgd_steps=50,
                auto_queries=1000,
                resnet_width=4,
                n_wide=1000,
                n_test=200,
                n_auto=50,
                n_judged=200,
                n_watched=40,
                watch_every=2,
            )
        return cls()

    def parts(self) -> Mapping[str, PartOf]:
        """Return the tables as the paper groups them, what happens in training, and the linear example."""
        return {
            "white-box": self._white_box,
            "black-box": self._black_box,
            "initialisation": self._initialisation,
            "transformations": self._transformations,
            "training": self._training,
            "linear": self._linear,
        }

    def _white_box(self, lab: Lab) -> Part:
        """Return tables 1 and 2."""
        runs = {name: self._attacked(lab, short) for name, short in METHODS.items()}
        radii = [Threat("L2", eps) for eps in self.l2_eps]
        pgd, apgd = PGD(threat=Threat("L2"), steps=self.l2_steps), APGD(threat=Threat("L2"), steps=self.apgd_steps)
        every = _all(runs[name] for name in THREE)
        lab.attack(every, [pgd, apgd], radii, n=self.n_test)

        def in_l2(name: str) -> list[list[float | None]]:
            alone = [accuracies(runs[name], pgd, one) for one in radii]
            return alone + [[_worst_case(run, [pgd, apgd], one) for run in runs[name]] for one in radii]

        l2_columns = [f"ε = {255 * eps:g}/255" for eps in self.l2_eps]
        tables = [
            self._table(
                "table-1",
                f"Table 1: white-box attacks, {self._radius}",
                ["clean", "FGSM", self._pgd7, self._pgd20, "APGD", self._auto_column, *self._wide_columns],
                [self._row(name, runs[name], TABLE_1[name], self._table_1(runs[name])) for name in METHODS],
                _all(runs.values()),
                *self._sizes,
            ),
            self._table(
                "table-2",
                f"Table 2: L2-PGD, {self.l2_steps} steps",
                [*l2_columns, *(f"{column}, with APGD" for column in l2_columns)],
                [self._plain(name, runs[name], TABLE_2[name], in_l2(name)) for name in THREE],
                every,
                f"n = {_count(self.n_test)}.",
                digits=1,
            ),
        ]
        return Part(
            title="Tables 1 and 2: white-box attacks",
            tables=tables,
            claims=self._white_box_claims(tables[0], tables[1], self._on_judged(runs)),
        )

    def _white_box_claims(
        self, linf: ReproducedTable, l2: ReproducedTable, judged_pgd: Mapping[str, float | None]
    ) -> list[Claim]:
        """Return the claims; `judged_pgd` is what PGD20 leaves of the examples of the worst case."""
        n, n_judged = _size(self.n_test), _size(self.n_judged)
        clean, fgsm, pgd = (_column(linf, name) for name in (self._wide_clean, "FGSM", self._pgd20))
        small = _column(l2, l2.columns[0])
        honest = _honest(linf)
        lost = {name: _less(judged_pgd[name], honest[name]) for name in ("SOAR", self._adv7)}
        empty = _little([judged_pgd["SOAR"]], n_judged)
        return [
            Claim(
                text=f"SOAR keeps a higher clean accuracy than {self._adv7}.",
                holds=exceeds(clean["SOAR"], clean[self._adv7], _size(self.n_wide)),
                evidence=f"{self._against(clean)}, {self._n(self.n_wide)}.",
            ),
            Claim(
                text=f"SOAR is more robust to FGSM than {self._adv7}, and comes near it under {self._pgd20} (at most 5 "
                "points below).",
                holds=all_hold(
                    [
                        exceeds(fgsm["SOAR"], fgsm[self._adv7], n),
                        exceeds(pgd["SOAR"], pgd[self._adv7], n, by=-CLEAR),
                    ]
                ),
                evidence=f"FGSM: {self._against(fgsm)}; {self._pgd20}: {self._against(pgd)}; {self._n(self.n_test)}.",
            ),
            Claim(
                text="One-step adversarial training alone does not do it: SOAR keeps more under "
                f"{self._pgd20} than both Adv1.",
                holds=all_hold(exceeds(pgd["SOAR"], pgd[name], n) for name in ("Adv1-scratch", "Adv1-pretrain")),
                evidence=f"{spelled(pgd['SOAR'])} % against {spelled(pgd['Adv1-scratch'])} % from scratch and "
                f"{spelled(pgd['Adv1-pretrain'])} % from the plain model, {self._n(self.n_test)}.",
            ),
            Claim(
                text=f"SOAR is more robust than {self._adv7} in L2, at {l2.columns[0]}.",
                holds=exceeds(small["SOAR"], small[self._adv7], n),
                evidence=f"{self._against(small)}, {self._n(self.n_test)}.",
            ),
            Claim(
                text=f"{self._pgd20} flatters SOAR: from there to the worst case it loses more points than "
                f"{self._adv7} does.",
                holds=None if empty else exceeds(lost["SOAR"], lost[self._adv7], n_judged),
                evidence=f"SOAR falls from {spelled(judged_pgd['SOAR'])} to {spelled(honest['SOAR'])} %, {self._adv7} "
                f"from {spelled(judged_pgd[self._adv7])} to {spelled(honest[self._adv7])} %, {self._n(self.n_judged)}."
                f"{empty}",
                by="meseta",
            ),
            Claim(
                text="SOAR's worst case is clearly above that of the model it starts from (more than 5 points).",
                holds=exceeds(honest["SOAR"], honest["Standard"], n_judged, by=CLEAR),
                evidence=f"{self._against(honest, 'Standard')}, {self._n(self.n_judged)}.",
                by="meseta",
            ),
        ]

    def _black_box(self, lab: Lab) -> Part:
        """Return table 3."""
        runs = {name: self._attacked(lab, METHODS[name]) for name in THREE}
        pgd = self._pgd(self.steps)
        white = mean(accuracies(runs["Standard"], pgd, self._threat, most=self.n_test))
        table = self._table(
            "table-3",
            f"Table 3: {self._pgd20} transferred from other models, {self._radius}",
            list(SOURCES),
            [self._row(name, runs[name], TABLE_3[name], self._transferred(lab, runs[name])) for name in THREE],
            _all(runs.values()),
            *self._sizes,
            digits=1,
        )
        return Part(title="Table 3: transferred attacks", tables=[table], claims=self._black_box_claims(table, white))

    def _black_box_claims(self, table: ReproducedTable, white: float | None) -> list[Claim]:
        """Return the claims; `white` is what white-box PGD20 leaves of the plain model."""
        n = _size(self.n_test)
        cnn, resnet = (_column(table, name) for name in SOURCES)
        return [
            Claim(
                text=f"SOAR is more robust to transferred attacks than {self._adv7}.",
                holds=all_hold(exceeds(one["SOAR"], one[self._adv7], n) for one in (cnn, resnet)),
                evidence=f"From CNN {self._against(cnn)}, from ResNet18 {self._against(resnet)}, "
                f"{self._n(self.n_test)}.",
            ),
            Claim(
                text="Transferred attacks that break less than white-box ones prove no robustness: they break clearly "
                "less of the plain model too (by more than 5 points).",
                holds=all_hold(exceeds(one["Standard"], white, n, by=CLEAR) for one in (cnn, resnet)),
                evidence=f"Standard keeps {spelled(white)} % under white-box {self._pgd20}, "
                f"{spelled(cnn['Standard'])} % from CNN and {spelled(resnet['Standard'])} % from ResNet18, "
                f"{self._n(self.n_test)}.",
                by="meseta",
            ),
        ]

    def _initialisation(self, lab: Lab) -> Part:
        """Return tables 4 and 5, and why the figures of zero and random initialisation are what they are."""
        runs = {name: self._looked_at(lab, short) for name, short in METHODS.items()}
        runs |= {name: self._attacked(lab, short) for name, short in INITIAL.items()}
        table_4 = self._table(
            "table-4",
            f"Table 4: SOAR from three initial points, {self._radius}",
            self._columns,
            [self._row(name, runs[name], TABLE_4[name], self._table_4(lab, runs[name])) for name in INITIAL],
            _all(runs[name] for name in INITIAL),
            *self._sizes,
        )
        points: tuple[Point, ...] = ("clean", "random", "pgd1")
        table_5 = self._table(
            "table-5",
            "Table 5: the highest probability, mean over test examples",
            ["clean", "random", "PGD1"],
            [
                self._plain(
                    name, runs[name], printed, [[self._confidence(run, at) for run in runs[name]] for at in points]
                )
                for name, printed in TABLE_5.items()
            ],
            _all(runs[name] for name in TABLE_5),
            f"n = {_count(self.n_wide)}; random points and PGD1 at {self._radius}.",
        )
        slopes = self._slopes(lab, {name: runs[name] for name in ("Standard", *INITIAL)})
        return Part(
            title="Tables 4 and 5: the point at which SOAR is taken, and confidence",
            tables=[table_4, table_5, slopes],
            claims=self._initialisation_claims(
                table_4, table_5, slopes, self._on_judged({name: runs[name] for name in INITIAL})
            ),
        )

    def _slopes(self, lab: Lab, runs: Mapping[str, list[Path]]) -> ReproducedTable:
        """Return how steep loss and decision function are."""
        loss, decision = GradientNorm(field=CrossEntropy()), GradientNorm(field=Decision())
        lab.measure(_all(runs.values()), MeasureConfig(measures=(loss, decision), n=self.n_wide))
        return self._table(
            "slopes",
            "A flat loss or a flat classifier: median slopes at test examples",
            [LOSS, DECISION],
            [
                self._plain(name, each, [], [[_median(run, one) for run in each] for one in (loss, decision)])
                for name, each in runs.items()
            ],
            _all(runs.values()),
            f"n = {_count(self.n_wide)}. The slope of the loss carries the factor 1 − p_y; that of L does not.",
            unit="",
            digits=3,
        )

    def _initialisation_claims(
        self,
        table_4: ReproducedTable,
        table_5: ReproducedTable,
        slopes: ReproducedTable,
        judged_pgd: Mapping[str, float | None],
    ) -> list[Claim]:
        """Return the claims; `judged_pgd` is what PGD20 leaves of the examples of the worst case."""
        n, n_wide, n_judged = (_size(count) for count in (self.n_test, self.n_wide, self.n_judged))
        white, cnn, textbook = (_column(table_4, name) for name in (self._pgd20, "CNN", self._textbook_column))
        sure, honest = _column(table_5, "clean"), _honest(table_4)
        loss, decision = _column(slopes, LOSS), _column(slopes, DECISION)
        masked = ("zero init", "random init")
        gap = all_hold(
            answer
            for name in masked
            for answer in (reaches(white[name], HALF, n), exceeds(white[name], cnn[name], n, by=CLEAR))
        )
        below_empty = _little([judged_pgd[name] for name in masked], n_judged)
        rounding_empty = _little([textbook[name] for name in masked], n)
        return [
            Claim(
                text=f"Zero and random init hold against white-box {self._pgd20} (at least half stand) and not against "
                "transfer from CNN: the gap is clear (more than 5 points).",
                holds=gap,
                evidence=_each(
                    masked,
                    lambda name: f"{spelled(white[name])} % white-box, {spelled(cnn[name])} % transferred",
                    self._n(self.n_test),
                ),
            ),
            Claim(
                text=f"PGD1 init mends it: transfer breaks less than white-box {self._pgd20}.",
                holds=exceeds(cnn["PGD1 init"], white["PGD1 init"], n) if gap else None,
                evidence=f"{spelled(white['PGD1 init'])} % white-box, {spelled(cnn['PGD1 init'])} % transferred, "
                f"{self._n(self.n_test)}.{'' if gap else ' Zero and random init show no such gap here to mend.'}",
            ),
            Claim(
                text="Zero and random init make the model nearly certain (at least 95 %), more so than plain training.",
                holds=all_hold(
                    answer
                    for name in masked
                    for answer in (
                        reaches(sure[name], CERTAIN, n_wide),
                        exceeds(sure[name], sure["Standard"], n_wide),
                    )
                ),
                evidence=_each(("Standard", *masked), lambda name: f"{spelled(sure[name])} %", self._n(self.n_wide)),
            ),
            Claim(
                text="Adversarial training makes it less certain (by more than 5 points).",
                holds=exceeds(sure["Standard"], sure[self._adv7], n_wide, by=CLEAR),
                evidence=_each(("Standard", self._adv7), lambda name: f"{spelled(sure[name])} %", self._n(self.n_wide)),
            ),
            Claim(
                text=f"What {self._pgd20} leaves of zero and random init is no robustness: the worst case is clearly "
                "below (more than 5 points).",
                holds=None
                if below_empty
                else all_hold(exceeds(judged_pgd[name], honest[name], n_judged, by=CLEAR) for name in masked),
                evidence=_each(
                    masked,
                    lambda name: f"{self._pgd20} {spelled(judged_pgd[name])} %, worst case {spelled(honest[name])} %",
                    self._n(self.n_judged),
                )
                + below_empty,
                by="meseta",
            ),
            Claim(
                text="They flatten the loss by certainty, not the classifier: the loss is less steep than the plain "
                "model's by more than a tenth, the decision function is not.",
                holds=all_hold(
                    answer
                    for name in masked
                    for answer in (
                        _flatter(loss[name], loss["Standard"]),
                        negated(_flatter(decision[name], decision["Standard"])),
                    )
                ),
                evidence=_each(
                    ("Standard", *masked),
                    lambda name: f"loss {_three(loss[name])}, decision {_three(decision[name])}",
                    self._n(self.n_wide),
                ),
                by="meseta",
            ),
            Claim(
                text=f"The published white-box figure is a matter of rounding: {self._pgd20} on the textbook "
                "cross-entropy, which loses 1 − p_y in float32, leaves clearly more standing (5 points) than on the "
                "exact one.",
                holds=None
                if rounding_empty
                else all_hold(exceeds(textbook[name], white[name], n, by=CLEAR) for name in masked),
                evidence=_each(
                    masked,
                    lambda name: f"{spelled(textbook[name])} % against {spelled(white[name])} %",
                    self._n(self.n_test),
                )
                + rounding_empty,
                by="meseta",
            ),
        ]

    def _transformations(self, lab: Lab) -> Part:
        """Return tables 6 and 7."""
        runs = {name: self._looked_at(lab, METHODS[name]) for name in THREE}
        tables = [
            self._table(
                key,
                title,
                columns,
                [
                    self._plain(
                        name, runs[name], printed[name], [[_transformed(run, one) for run in runs[name]] for one in of]
                    )
                    for name in THREE
                ],
                _all(runs.values()),
                f"n = {_count(self.n_wide)}, one draw each.",
            )
            for key, title, columns, printed, of in (
                ("table-6", "Table 6: random rotations and translations", STRENGTHS, TABLE_6, MOVES),
                ("table-7", "Table 7: Gaussian noise", SIGMAS, TABLE_7, NOISES),
            )
        ]
        return Part(
            title="Tables 6 and 7: rotations, translations and noise",
            tables=tables,
            claims=self._transformation_claims(tables[0], tables[1]),
        )

    def _transformation_claims(self, moved: ReproducedTable, noisy: ReproducedTable) -> list[Claim]:
        weak, medium, strong = (_column(moved, name) for name in STRENGTHS)
        low, middle, high = (_column(noisy, name) for name in SIGMAS)

        def above(other: str, *columns: Mapping[str, float | None]) -> list[bool | None]:
            return [exceeds(one["SOAR"], one[other], _size(self.n_wide)) for one in columns]

        def said(other: str, *columns: Mapping[str, float | None]) -> str:
            pairs = (f"{spelled(one['SOAR'])} to {spelled(one[other])} %" for one in columns)
            return f"SOAR against {other}: {', '.join(pairs)}, {self._n(self.n_wide)}."

        return [
            Claim(
                text=f"SOAR withstands rotations and translations better than {self._adv7} at every strength.",
                holds=all_hold(above(self._adv7, weak, medium, strong)),
                evidence=said(self._adv7, weak, medium, strong),
            ),
            Claim(
                text="From medium strength on SOAR withstands them better than the plain model too.",
                holds=all_hold(above("Standard", medium, strong)),
                evidence=said("Standard", medium, strong),
            ),
            Claim(
                text=f"SOAR withstands Gaussian noise better than the plain model, and than {self._adv7} up to "
                f"{SIGMAS[1]}.",
                holds=all_hold([*above("Standard", low, middle, high), *above(self._adv7, low, middle)]),
                evidence=f"{said('Standard', low, middle, high)} {said(self._adv7, low, middle)}",
            ),
        ]

    def _training(self, lab: Lab) -> Part:
        """Return figures 1 to 4, and what weight and form do."""
        by_weight = {weight: self._attacked(lab, self._weighted("pgd1", weight)) for weight in sorted(self.weights)}
        zero = {
            weight: self._attacked(lab, self._weighted("zero", weight)) for weight in (self.weight, *self.zero_weights)
        }
        rows = {f"PGD1 init, λ = {weight:g}": runs for weight, runs in by_weight.items()}
        rows |= {f"zero init, λ = {weight:g}": runs for weight, runs in zero.items()}
        rows |= {f"PGD1 init, λ = {self.weight:g}, corrected R": self._attacked(lab, "soar-corrected")}
        table = self._table(
            "weights",
            f"SOAR's weight λ and form, {self._radius}",
            self._columns,
            [self._row(name, runs, [], self._table_4(lab, runs)) for name, runs in rows.items()],
            _all(rows.values()),
            *self._sizes,
            digits=1,
        )
        plain = self._runs(lab, "standard")[:1]
        printed = [run for run in self._runs(lab, "soar-pgd1")[:1] if not has_diverged(run)]
        watched = [runs[0] for runs in by_weight.values() if not has_diverged(runs[0])]
        drawn_from = (
            (Soar1(eps=self.eps), plain),
            (Soar2(), printed),
            (Soar3(attack=self._pgd(self.steps)), watched),
            (Soar4(eps=self.eps), plain),
        )
        return Part(
            title="Figures 1 to 4: expansions, the regulariser in training, and its weight",
            tables=[table],
            claims=self._weight_claims(table, list(by_weight), list(zero)),
            figures=[lab.draw(figure, of) for figure, of in drawn_from if of],
        )

    def _weight_claims(
        self, table: ReproducedTable, weights: Sequence[float], zero_weights: Sequence[float]
    ) -> list[Claim]:
        """Return the claims; `weights` rise."""
        n = _size(self.n_test)
        white, cnn = (_column(table, name) for name in (self._pgd20, "CNN"))
        honest = _honest(table)
        risen = {weight: white[f"PGD1 init, λ = {weight:g}"] for weight in weights}
        printed = f"PGD1 init, λ = {self.weight:g}"
        corrected = f"{printed}, corrected R"
        heavy = f"zero init, λ = {max(zero_weights):g}"
        is_larger = max(zero_weights) > self.weight
        steps = (exceeds(risen[more], risen[less], n) for less, more in pairwise(weights))
        said = ", ".join(f"{spelled(value)} % at λ = {weight:g}" for weight, value in risen.items())
        return [
            Claim(
                text=f"Robustness under {self._pgd20} rises with the weight, from each to the next.",
                holds=all_hold(steps) if len(weights) > 1 else None,
                evidence=f"{said}, {self._n(self.n_test)}.{'' if len(weights) > 1 else ONE_WEIGHT}",
            ),
            Claim(
                text="The gap of Table 4 comes with a larger weight: there zero init keeps clearly more under "
                f"white-box {self._pgd20} than under transfer from CNN (more than 5 points).",
                holds=exceeds(white[heavy], cnn[heavy], n, by=CLEAR) if is_larger else None,
                evidence=f"At λ = {max(zero_weights):g}: {spelled(white[heavy])} % white-box, {spelled(cnn[heavy])} % "
                f"transferred, {self._n(self.n_test)}.{'' if is_larger else ONE_WEIGHT}",
                by="meseta",
            ),
            Claim(
                text="The corrected regulariser, which estimates the bound, leaves more in the worst case than "
                "the printed one.",
                holds=exceeds(honest[corrected], honest.get(printed), _size(self.n_judged)),
                evidence=f"{spelled(honest[corrected])} % against {spelled(honest.get(printed))} %, "
                f"{self._n(self.n_judged)}.",
                by="meseta",
            ),
        ]

    def _linear(self, lab: Lab) -> Part:
        """Return the linear regression of section 2: the loss under attack against its closed form."""
        rows, unmoved = [], []
        for d in self.dimensions:
            start = drawn(self.draws, d)
            plain, ridge = descend(start), descend(start, ridge=RIDGE)
            robust = descend(start[:20], eps=self.linear_eps)
            attacked = loss_under_attack(plain, self.linear_eps)
            unmoved.append(torch.equal(plain[:, 1:], start[:, 1:]))
            entries = [
                Entry(published=expected_loss(d, self.linear_eps), ours=[float(attacked.mean())]),
                Entry(ours=[expected_loss(d - 1, self.linear_eps)]),
                Entry(ours=[float(attacked.std()) / self.draws**0.5]),
                *(Entry(ours=[float(loss_under_attack(w, self.linear_eps).mean())]) for w in (ridge, robust)),
            ]
            rows.append(Row(name=f"d = {d}", entries=entries))
        return Part(
            title="Section 2: linear regression with more weights than data can tell",
            tables=[
                ReproducedTable(
                    key="linear",
                    title=f"Mean loss under the attack of section 2, L∞ ε = {self.linear_eps:g}, σ = 1",
                    columns=["gradient descent", "its closed form", "standard error", "ridge", "robustified"],
                    rows=rows,
                    unit="",
                    digits=4,
                    notes=[
                        "Published: ½ε²(dσ² + d(d−1)(2/π)σ²), which counts |w₁| too; the closed form leaves it out.",
                        f"{self.draws} initial weights, x₁ ∼ N(1, 1); ridge with λ = {RIDGE:g}; the robustified loss "
                        "from 20 of the same weights.",
                    ],
                )
            ],
            claims=_linear_claims(rows, unmoved=all(unmoved)),
        )

    def _looked_at(self, lab: Lab, name: str) -> list[Path]:
        """Train a method and return its runs, with what takes one pass over many examples."""
        runs = self._runs(lab, name)
        wide = EvaluateConfig(
            threats={"Linf": (self.eps,)},
            attacks=(FGSM(),),
            checks=(),
            transformations=(*MOVES, *NOISES),
            n=self.n_wide,
            batch_size=500,
            pictured=0,
        )
        lab.evaluate(runs, wide, beside=True)
        return runs

    def _attacked(self, lab: Lab, name: str) -> list[Path]:
        """Train a method and return its runs, attacked with everything that the tables of L∞ show."""
        runs = self._looked_at(lab, name)
        steps = [FGSM(), self._pgd(self.training_steps), self._pgd(self.steps), self._textbook, self._apgd]
        for n in dict.fromkeys((self.n_test, self.n_judged)):
            lab.attack(runs, list(dict.fromkeys(steps)), [self._threat], n=n)
            for run, transfers in zip(runs, self._transfers(lab), strict=True):
                lab.attack([run], transfers, [self._threat], n=n)
        lab.attack(runs, [self._auto], [self._threat], n=self.n_auto)
        lab.judge(runs, self._threat, n=self.n_judged, sources=[self._runs(lab, name)[0] for name in SOURCES])
        return runs

    def _table_1(self, runs: list[Path]) -> list[list[float | None]]:
        pgd7, pgd20 = self._pgd(self.training_steps), self._pgd(self.steps)
        return [*self._left(runs, None, FGSM(), pgd7, pgd20, self._apgd), self._auto_left(runs), *self._wide(runs)]

    def _table_4(self, lab: Lab, runs: list[Path]) -> list[list[float | None]]:
        clean, pgd, apgd, textbook = self._left(runs, None, self._pgd(self.steps), self._apgd, self._textbook)
        transferred = self._transferred(lab, runs)
        return [clean, pgd, *transferred, apgd, textbook, self._auto_left(runs), *self._wide(runs)]

    def _left(self, runs: Sequence[Path], *attacks: Attack | None) -> list[list[float | None]]:
        """Return what each attack left of the first `n_test` examples."""
        return [accuracies(runs, one, self._threat, most=self.n_test) for one in attacks]

    def _auto_left(self, runs: Sequence[Path]) -> list[float | None]:
        return accuracies(runs, self._auto, self._threat, most=self.n_auto)

    def _wide(self, runs: Sequence[Path]) -> list[list[float | None]]:
        """Return the clean accuracy of what `_wide_columns` names."""
        return [accuracies(runs, None, most=self.n_wide) for _ in self._wide_columns]

    def _transfers(self, lab: Lab) -> list[list[Transfer]]:
        """Return the attacks with PGD20 on each source, for each seed."""
        attack = replace(self._pgd(self.steps), drop_broken=False)
        seeds = zip(*(self._runs(lab, name) for name in SOURCES), strict=True)
        return [
            [
                Transfer(models={name: _model(source)}, attack=attack)
                for name, source in zip(SOURCES, sources, strict=True)
            ]
            for sources in seeds
        ]

    def _transferred(self, lab: Lab, runs: Sequence[Path]) -> list[list[float | None]]:
        """Return the accuracies of runs, one for each seed, under PGD20 on each source of that seed."""
        pairs = list(zip(runs, self._transfers(lab), strict=True))
        return [[self._left([run], attacks[k])[0][0] for run, attacks in pairs] for k in range(len(SOURCES))]

    def _on_judged(self, runs: Mapping[str, Sequence[Path]]) -> dict[str, float | None]:
        """Return what PGD20 leaves of the examples that the worst case is of, by row."""
        pgd = self._pgd(self.steps)
        return {
            self._shown(name): mean(accuracies(each, pgd, self._threat, most=self.n_judged))
            for name, each in runs.items()
        }

    def _confidence(self, run: Path, at: Point) -> float | None:
        """Return the mean highest probability in %."""
        if has_diverged(run):
            return None
        loaded = load_run(run)
        generator = torch.Generator(loaded.device).manual_seed(0)
        found = []
        for x, y in loaded.batches("test", self.n_wide, 256):
            inputs, labels = x.to(loaded.device), y.to(loaded.device)
            if at == "random":
                inputs = self._threat.sample(inputs, generator=generator)
            if at == "pgd1":
                inputs = replace(self._pgd(1), drop_broken=False)(loaded.model, inputs, labels, generator=generator)
            found.append(Confidence()(loaded.model, inputs, labels).value.double().cpu())
        value = 100 * float(torch.cat(found).mean())
        return value if math.isfinite(value) else None

    def _table(
        self,
        key: str,
        title: str,
        columns: list[str],
        rows: list[Row],
        runs: Sequence[Path],
        *notes: str,
        unit: str = "%",
        digits: int = 2,
    ) -> ReproducedTable:
        """Return a table, all on the data of the runs, with what the worst case of its rows is over if they have one.

        `digits` are those that the paper prints.
        """
        over = (
            f"{judged_at(runs, self._threat)}, and examples transferred from both sources; or what another attack left "
            "of the same examples, where that is less"
        )
        return ReproducedTable(
            key=key,
            title=title,
            columns=columns,
            rows=rows,
            unit=unit,
            digits=digits,
            judged_at=over if any(row.worst_case for row in rows) else "",
            notes=[*dict.fromkeys(read_record(run).data for run in runs if not has_diverged(run)), *notes],
        )

    def _row(self, name: str, runs: Sequence[Path], printed: Printed, ours: Sequence[list[float | None]]) -> Row:
        """Return a row with its worst case: the least that any evaluation left of the judged examples."""
        plain = self._plain(name, runs, printed, ours)
        row = judged(plain.name, plain.entries, runs, self._threat, note=plain.note)
        return row.model_copy(update={"worst_case": [_least(run, self._threat) for run in runs]})

    def _plain(self, name: str, runs: Sequence[Path], printed: Printed, ours: Sequence[list[float | None]]) -> Row:
        """Return a row of what the paper printed, as far as it goes, and of ours; with no worst case.

        Nothing is printed for other settings than the paper's.
        """
        given = printed if self._is_printed else []
        pairs: list[tuple[float | None, float | None]] = [*given, *[(None, None)] * (len(ours) - len(given))]
        entries = [
            Entry(published=value, published_spread=spread, ours=values)
            for (value, spread), values in zip(pairs, ours, strict=True)
        ]
        clean = [value for value in accuracies(runs, None) if value is not None]
        note = "a training met a loss that is not finite" if any(map(has_diverged, runs)) else ""
        return Row(
            name=self._shown(name), entries=entries, note=COLLAPSED if min(clean, default=100) < CHANCE else note
        )

    def _runs(self, lab: Lab, name: str) -> list[Path]:
        """Train a method, or a source, with every seed."""
        configs = (self._config(lab, name, seed) for seed in range(self.seeds))
        return lab.train(*configs, may_diverge=name not in ("standard", *SOURCES))

    def _config(self, lab: Lab, name: str, seed: int) -> RunConfig:
        objective = self._objective(name)
        tuned = isinstance(objective, Soar) or name == "adv1-pretrain"
        shared = RunConfig(
            name=f"{name.lower()}-s{seed}",
            data=DataConfig(source=self.data, train_limit=self.train_limit),
            augment="crop_flip",
            objective=objective,
            batch_size=self.batch_size,
            seed=seed + (1000 if name in SOURCES else 0),
        )
        if tuned:
            return replace(
                shared,
                start_from=str(self._runs(lab, "standard")[seed]),
                optimizer=self.tuning_optimizer,
                schedule=StepDecay(milestones=(90 / 150, 100 / 150)),
                epochs=self.tuning_epochs,
                batch_size=self.tuning_batch_size,
                watch=self._watch(name, objective),
            )
        epochs = {"standard": self.epochs} | dict.fromkeys(SOURCES, self.source_epochs)
        return replace(
            shared,
            model=ResNet18(width=self.resnet_width) if name == "ResNet18" else Cnn4(maps=self.maps, hidden=()),
            optimizer=self.optimizer,
            schedule=StepDecay(),
            epochs=epochs.get(name, self.adversarial_epochs),
        )

    def _objective(self, name: str) -> Objective:
        """Return what a method minimises; `soar-START` may have a weight after it."""
        if name in ("standard", *SOURCES):
            return Erm()
        if name in ("adv7", "adv1-scratch"):
            return grown(self._adversarial(self.training_steps if name == "adv7" else 1), self.warmup)
        if name == "adv1-pretrain":
            return self._adversarial(1)
        if name == "soar-corrected":
            return self._soar(form="corrected")
        _, start, *weight = name.split("-")
        return self._soar(start=start, weight=float(weight[0]) if weight else self.weight)

    def _adversarial(self, steps: int) -> AdversarialTraining:
        return AdversarialTraining(attack=replace(self._pgd(steps), drop_broken=False))

    def _soar(self, **options: Any) -> Soar:
        return replace(
            Soar(weight=self.weight, threat=self._threat, form="as_published", gradient_clip=30.0), **options
        )

    def _weighted(self, start: str, weight: float) -> str:
        """Return the method of a start with a weight; that of Table 4 where the weight is the paper's."""
        return f"soar-{start}" if weight == self.weight else f"soar-{start}-{weight:g}"

    def _watch(self, name: str, objective: Objective) -> Watch | None:
        """Return what figures 2 and 3 show: PGD20 where SOAR starts after one step, R of the printed weight."""
        if not isinstance(objective, Soar) or objective.start != "pgd1" or objective.form != "as_published":
            return None
        watch = Watch(every=self.watch_every, n=self.n_watched, splits=("test",), attacks=(self._pgd(self.steps),))
        if name != "soar-pgd1":
            return watch
        one = replace(objective, value_clip=None, gradient_clip=None)
        return replace(watch, splits=("train", "test"), objectives=(one, replace(one, directions=self.directions)))

    @property
    def _auto(self) -> AutoAttack:
        return AutoAttack(threat=self._threat, steps=self.auto_steps, queries=self.auto_queries)

    @property
    def _columns(self) -> list[str]:
        """The columns of Table 4, and of ours that are like it."""
        attacks = [self._pgd20, *SOURCES, "APGD", self._textbook_column, self._auto_column]
        return ["clean", *attacks, *self._wide_columns]

    @property
    def _pgd7(self) -> str:
        return f"PGD{self.training_steps}"

    @property
    def _pgd20(self) -> str:
        return f"PGD{self.steps}"

    @property
    def _adv7(self) -> str:
        """What the rows call adversarial training with PGD."""
        return f"Adv{self.training_steps}"

    def _shown(self, name: str) -> str:
        """Return what a row is called."""
        return self._adv7 if name == "Adv7" else name

    @property
    def _radius(self) -> str:
        return f"L∞ ε = {eps_text('Linf', self.eps)}"

    @property
    def _textbook_column(self) -> str:
        return f"{self._pgd20}, textbook loss"

    @property
    def _auto_column(self) -> str:
        return f"AutoAttack, n = {_count(self.n_auto)}"

    @property
    def _wide_clean(self) -> str:
        """The column of the clean accuracy of most examples."""
        return "clean" if self.n_wide == self.n_test else f"clean, n = {_count(self.n_wide)}"

    @property
    def _wide_columns(self) -> list[str]:
        return [] if self._wide_clean == "clean" else [self._wide_clean]

    @property
    def _sizes(self) -> list[str]:
        """What a table of attacks says of its examples."""
        auto = [f"{self._auto_column}, may be below the worst case."] if self.n_auto != self.n_judged else []
        return [f"All columns that name no other n are of the first n = {_count(self.n_test)} test examples.", *auto]

    @property
    def _is_printed(self) -> bool:
        """Whether the paper's figures are of these settings, but for the length of training and its examples."""
        return all(getattr(self, name) == getattr(type(self)(), name) for name in PRINTED_AT)

    def _n(self, n: int | None) -> str:
        """Return in words how many examples and seeds a figure is of."""
        return f"n = {_count(n)}" + (f", {self.seeds} seeds" if self.seeds > 1 else "")

    def _against(self, column: Mapping[str, float | None], other: str = "") -> str:
        """Return SOAR's figure beside that of another row, Adv7's if none is named."""
        return f"{spelled(column['SOAR'])} % against {spelled(column[other or self._adv7])} %"

    @property
    def _threat(self) -> Threat:
        return Threat("Linf", self.eps)

    def _pgd(self, steps: int) -> PGD:
        """Return PGD with the paper's step, eps / 4."""
        return PGD(threat=self._threat, steps=steps, alpha=self.eps / 4)

    @property
    def _textbook(self) -> PGD:
        return replace(self._pgd(self.steps), loss=TextbookCrossEntropy())

    @property
    def _apgd(self) -> APGD:
        return APGD(threat=self._threat, steps=self.apgd_steps)


@lru_cache(maxsize=8)
def _model(run: Path) -> Network:
    return load_run(run).model


def _all(groups: Iterable[Sequence[Path]]) -> list[Path]:
    return [run for group in groups for run in group]


def _worst_case(run: Path, attacks: Sequence[Attack], threat: Threat) -> float | None:
    return None if has_diverged(run) else worst_cases([run], attacks, threat)[0]


def _transformed(run: Path, transformation: Transformation) -> float | None:
    """Return the accuracy in % on transformed examples, whatever the model says of them as they are.

    Raises:
        UserError: the record holds none of that kind, as records of earlier versions do not.
    """
    if has_diverged(run):
        return None
    found = (one for each in evaluations(read_record(run)) for one in each.transformed)
    values = [one.alone for one in found if one.transformation == repr(transformation) and one.alone is not None]
    if not values:
        raise UserError(f"record: {run} has no accuracy on examples under {transformation} alone. Evaluate it anew.")
    return 100 * values[-1]


def _median(run: Path, measure: GradientNorm) -> float | None:
    if has_diverged(run):
        return None
    return next(one.median for one in read_record(run).measures if one.measure == repr(measure))


def _least(run: Path, threat: Threat) -> float | None:
    """Return the least accuracy in % that any evaluation of a run left, of those of the judged examples at a threat."""
    if has_diverged(run):
        return None
    record = read_record(run)
    judged_on = [(one.split, one.n) for one in [record.evaluation] if one]
    same = [one for one in evaluations(record) if (one.split, one.n) in judged_on]
    left = [each for one in same for each in one.robust if (each.norm, each.eps) == (threat.norm, threat.eps)]
    return min((100 * each.worst_case for each in left), default=None)


def _column(table: ReproducedTable, column: str) -> dict[str, float | None]:
    """Return a column by row; nothing of a model that is no better than chance, which no claim can be about."""
    k = table.columns.index(column)
    return {row.name: None if row.note == COLLAPSED else row.entries[k].mean for row in table.rows}


def _honest(table: ReproducedTable) -> dict[str, float | None]:
    """Return the worst case by row; nothing of a model that is no better than chance."""
    return {row.name: None if row.note == COLLAPSED else Entry(ours=row.worst_case).mean for row in table.rows}


def _linear_claims(rows: Sequence[Row], *, unmoved: bool) -> list[Claim]:
    """Return the claims on the linear regression; `unmoved` says whether descent left the unused weights alone."""
    exact = all(_within(*(entry.mean for entry in row.entries[:3])) for row in rows)
    ridge, robust = ([_share(row.entries[k].mean, row.entries[0].mean) for row in rows] for k in (3, 4))
    return [
        Claim(
            text="Gradient descent leaves the unused weights where they began, so that the loss under attack "
            "grows as ε²d²σ².",
            holds=unmoved and exact,
            evidence=f"The unused weights are {'just' if unmoved else 'not'} the initial ones. "
            + (
                "The means are within four standard errors of the closed form."
                if exact
                else "A mean is further than four standard errors from the closed form."
            ),
        ),
        Claim(
            text="Ridge and the robustified loss both mend it: at most a tenth of the loss under attack is left.",
            holds=all_hold(None if share is None else share <= TENTH for share in (*ridge, *robust)),
            evidence="; ".join(
                f"{row.name}: {_three(one)} of it with ridge, {_three(other)} robustified"
                for row, one, other in zip(rows, ridge, robust, strict=True)
            )
            + ".",
        ),
    ]


def _little(values: Sequence[float | None], n: int) -> str:
    """Return that a claim is about nothing, where PGD leaves any of the models next to nothing; else nothing."""
    told = (reaches(value, CLEAR, n) for value in values if value is not None)
    return "" if all(told) else NOTHING_LEFT


def _flatter(value: float | None, other: float | None) -> bool | None:
    """Return whether a slope is below another by more than a tenth; None where they are less than a tenth apart."""
    if value is None or other is None:
        return None
    return True if value < (1 - TENTH) * other else False if value > (1 + TENTH) * other else None


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _within(mean: float | None, truth: float | None, error: float | None) -> bool:
    """Return whether a mean lies within four standard errors of the truth."""
    return mean is not None and truth is not None and error is not None and abs(mean - truth) <= 4 * error


def _each(names: Sequence[str], said: Callable[[str], str], n: str) -> str:
    return "; ".join(f"{name}: {said(name)}" for name in names) + f"; {n}."


def _size(n: int | None) -> int:
    return TEST if n is None else n


def _count(n: int | None) -> str:
    return "all" if n is None else str(n)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
