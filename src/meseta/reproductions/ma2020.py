"""Ma et al. 2020: SOAR against adversarial training, and what is left of it under honest attacks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch

from meseta.attacks import APGD, FGSM, PGD, Attack, AutoAttack, GaussianNoise, Spatial, Transfer, Transformation
from meseta.autodiff import CrossEntropy, Decision
from meseta.data import DataConfig
from meseta.evaluation.masking.textbook_loss import TextbookCrossEntropy
from meseta.evaluation.record import read_record
from meseta.geometry import Confidence, GradientNorm
from meseta.models import Cnn4, ResNet18
from meseta.objectives import AdversarialTraining, Erm, Objective, Soar
from meseta.papers import Soar1, Soar2, Soar3, Soar4
from meseta.papers.attacked import evaluations
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row, spelled
from meseta.reproductions.base import PartOf, Reproduction, Scale
from meseta.reproductions.lab import (
    CHANCE,
    COLLAPSED,
    Lab,
    accuracies,
    all_hold,
    grown,
    has_diverged,
    judged,
    judged_at,
    mean,
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
RIDGE = 0.1
CLEAR = 5.0
"""Percentage points by which figures differ clearly."""


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
        n_wide: test examples of what takes one pass: clean accuracy, FGSM, transformations, confidence; None for all.
        n_test: of attacks with many steps. `n_auto` of AutoAttack, `n_judged` of the standard suite and the masking
            checks, `n_watched` of what is watched in training.
        watch_every: epochs between two looks in training.
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
    dimensions: tuple[int, ...] = (10, 100, 1000)
    draws: int = 2000
    linear_eps: float = 0.25

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
                n_watched=8,
                watch_every=1,
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
                resnet_width=4,
                n_wide=1000,
                n_test=100,
                n_auto=32,
                n_judged=100,
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
        columns = ["clean", "FGSM", "PGD7", "PGD20", "APGD", f"AutoAttack, n = {_count(self.n_auto)}"]
        rows = [self._row(name, runs[name], TABLE_1[name], self._table_1(runs[name])) for name in METHODS]

        def in_l2(name: str) -> list[list[float | None]]:
            alone = [accuracies(runs[name], pgd, one) for one in radii]
            return alone + [[_worst_case(run, [pgd, apgd], one) for run in runs[name]] for one in radii]

        l2_columns = [f"ε = {255 * eps:g}/255" for eps in self.l2_eps]
        tables = [
            self._table("table-1", "Table 1: white-box attacks, L∞ ε = 8/255", columns, rows, every, self._sizes),
            self._table(
                "table-2",
                f"Table 2: L2-PGD, {self.l2_steps} steps",
                [*l2_columns, *(f"{column}, with APGD" for column in l2_columns)],
                [self._row(name, runs[name], TABLE_2[name], in_l2(name)) for name in THREE],
                every,
                f"n = {_count(self.n_test)}. The worst case is that of L∞.",
            ),
        ]
        return Part(title="Tables 1 and 2: white-box attacks", tables=tables, claims=self._white_box_claims(*tables))

    def _white_box_claims(self, linf: ReproducedTable, l2: ReproducedTable) -> list[Claim]:
        clean, fgsm, _, pgd, _, _ = (_column(linf, k) for k in range(6))
        honest = _honest(linf)
        small = _column(l2, 0)
        lost = {name: _less(pgd[name], honest[name]) for name in pgd}
        gained = _less(honest["SOAR"], honest["Standard"])
        return [
            Claim(
                text="SOAR keeps a higher clean accuracy than Adv7.",
                holds=_above(clean["SOAR"], clean["Adv7"]),
                evidence=f"{spelled(clean['SOAR'])} % against {spelled(clean['Adv7'])} %.",
            ),
            Claim(
                text="SOAR is more robust to FGSM than Adv7, and comes near it under PGD20 (within 5 points).",
                holds=all_hold([_above(fgsm["SOAR"], fgsm["Adv7"]), _above(pgd["SOAR"], pgd["Adv7"], -CLEAR)]),
                evidence=f"FGSM: {spelled(fgsm['SOAR'])} % against {spelled(fgsm['Adv7'])} %; "
                f"PGD20: {spelled(pgd['SOAR'])} % against {spelled(pgd['Adv7'])} %.",
            ),
            Claim(
                text="One-step adversarial training alone does not do it: SOAR keeps more under PGD20 than both Adv1.",
                holds=all_hold(_above(pgd["SOAR"], pgd[name]) for name in ("Adv1-scratch", "Adv1-pretrain")),
                evidence=f"{spelled(pgd['SOAR'])} % against {spelled(pgd['Adv1-scratch'])} % from scratch and "
                f"{spelled(pgd['Adv1-pretrain'])} % from the plain model.",
            ),
            Claim(
                text=f"SOAR is more robust than Adv7 in L2, at ε = {255 * self.l2_eps[0]:g}/255.",
                holds=_above(small["SOAR"], small["Adv7"]),
                evidence=f"{spelled(small['SOAR'])} % against {spelled(small['Adv7'])} %.",
            ),
            Claim(
                text="PGD20 flatters SOAR: from there to the worst case it loses more points than Adv7 does.",
                holds=_above(lost["SOAR"], lost["Adv7"]),
                evidence=f"SOAR falls from {spelled(pgd['SOAR'])} to {spelled(honest['SOAR'])} %, Adv7 from "
                f"{spelled(pgd['Adv7'])} to {spelled(honest['Adv7'])} %.",
                by="meseta",
            ),
            Claim(
                text="SOAR's worst case is clearly above that of the model it starts from (more than 5 points).",
                holds=_above(gained, CLEAR),
                evidence=f"{spelled(honest['SOAR'])} % against {spelled(honest['Standard'])} %.",
                by="meseta",
            ),
        ]

    def _black_box(self, lab: Lab) -> Part:
        """Return table 3."""
        runs = {name: self._attacked(lab, METHODS[name]) for name in THREE}
        transferred = {name: self._transferred(lab, runs[name]) for name in THREE}
        white = {name: mean(accuracies(runs[name], self._pgd(self.steps), self._threat)) for name in THREE}
        table = self._table(
            "table-3",
            "Table 3: PGD20 transferred from other models",
            list(SOURCES),
            [self._row(name, runs[name], TABLE_3[name], transferred[name]) for name in THREE],
            _all(runs.values()),
            f"n = {_count(self.n_test)}.",
        )
        cnn, resnet = _column(table, 0), _column(table, 1)
        return Part(
            title="Table 3: transferred attacks",
            tables=[table],
            claims=[
                Claim(
                    text="SOAR is more robust to transferred attacks than Adv7.",
                    holds=all_hold([_above(cnn["SOAR"], cnn["Adv7"]), _above(resnet["SOAR"], resnet["Adv7"])]),
                    evidence=f"From CNN {spelled(cnn['SOAR'])} % against {spelled(cnn['Adv7'])} %, from ResNet18 "
                    f"{spelled(resnet['SOAR'])} % against {spelled(resnet['Adv7'])} %.",
                ),
                Claim(
                    text="Transferred attacks that break less than white-box ones prove no robustness: they break "
                    "less of the plain model too.",
                    holds=all_hold(_above(one["Standard"], white["Standard"], CLEAR) for one in (cnn, resnet)),
                    evidence=f"Standard keeps {spelled(white['Standard'])} % under white-box PGD20, "
                    f"{spelled(cnn['Standard'])} % from CNN and {spelled(resnet['Standard'])} % from ResNet18.",
                    by="meseta",
                ),
            ],
        )

    def _initialisation(self, lab: Lab) -> Part:
        """Return tables 4 and 5, and why the figures of zero and random initialisation are what they are."""
        runs = {name: self._attacked(lab, short) for name, short in (METHODS | INITIAL).items()}
        table_4 = self._table(
            "table-4",
            "Table 4: SOAR from three initial points, L∞ ε = 8/255",
            self._columns,
            [self._row(name, runs[name], TABLE_4[name], self._table_4(lab, runs[name])) for name in INITIAL],
            _all(runs[name] for name in INITIAL),
            self._sizes,
        )
        points: tuple[Point, ...] = ("clean", "random", "pgd1")
        table_5 = self._table(
            "table-5",
            "Table 5: the highest probability, mean over test examples",
            ["clean", "random", "PGD1"],
            [
                self._row(
                    name, runs[name], printed, [[self._confidence(run, at) for run in runs[name]] for at in points]
                )
                for name, printed in TABLE_5.items()
            ],
            _all(runs[name] for name in TABLE_5),
            f"On n = {_count(self.n_wide)} test examples.",
        )
        slopes = self._slopes(lab, {name: runs[name] for name in ("Standard", *INITIAL)})
        return Part(
            title="Tables 4 and 5: the point at which SOAR is taken, and confidence",
            tables=[table_4, table_5, slopes],
            claims=self._initialisation_claims(table_4, table_5, slopes),
        )

    def _slopes(self, lab: Lab, runs: Mapping[str, list[Path]]) -> ReproducedTable:
        """Return how steep loss and decision function are."""
        loss, decision = GradientNorm(field=CrossEntropy()), GradientNorm(field=Decision())
        lab.measure(_all(runs.values()), MeasureConfig(measures=(loss, decision), n=self.n_wide))
        rows = [
            Row(name=name, entries=[Entry(ours=[_median(run, one) for run in each]) for one in (loss, decision)])
            for name, each in runs.items()
        ]
        return ReproducedTable(
            key="slopes",
            title="A flat loss or a flat classifier: median slopes at test examples",
            columns=["‖∇ℓ‖₂ of the loss", "‖∇L‖₂ of the decision function"],
            rows=rows,
            unit="",
            digits=3,
            notes=["The slope of the loss carries the factor 1 − p_y; that of L does not."],
        )

    def _initialisation_claims(
        self, table_4: ReproducedTable, table_5: ReproducedTable, slopes: ReproducedTable
    ) -> list[Claim]:
        white, cnn, textbook = _column(table_4, 1), _column(table_4, 2), _column(table_4, 5)
        sure = _column(table_5, 0)
        honest = _honest(table_4)
        loss, decision = _column(slopes, 0), _column(slopes, 1)
        masked = ("zero init", "random init")
        return [
            Claim(
                text="Zero and random init hold against white-box PGD20 and not against transfer from CNN: the gap is "
                "clear (more than 5 points).",
                holds=all_hold(_above(white[name], cnn[name], CLEAR) for name in masked),
                evidence=_each(
                    masked, lambda name: f"{spelled(white[name])} % white-box, {spelled(cnn[name])} % transferred"
                ),
            ),
            Claim(
                text="PGD1 init mends it: transfer breaks less than white-box PGD20.",
                holds=_above(cnn["PGD1 init"], white["PGD1 init"]),
                evidence=f"{spelled(white['PGD1 init'])} % white-box, {spelled(cnn['PGD1 init'])} % transferred.",
            ),
            Claim(
                text="Zero and random init make the model nearly certain, more so than plain training.",
                holds=all_hold(_above(sure[name], sure["Standard"]) for name in masked),
                evidence=_each(("Standard", *masked), lambda name: f"{spelled(sure[name])} %"),
            ),
            Claim(
                text="Adversarial training makes it less certain.",
                holds=_above(sure["Standard"], sure["Adv7"]),
                evidence=_each(("Standard", "Adv7"), lambda name: f"{spelled(sure[name])} %"),
            ),
            Claim(
                text="What PGD20 leaves of zero and random init is no robustness: the worst case is clearly below "
                "(more than 5 points).",
                holds=all_hold(_above(white[name], honest[name], CLEAR) for name in masked),
                evidence=_each(
                    masked, lambda name: f"PGD20 {spelled(white[name])} %, worst case {spelled(honest[name])} %"
                ),
                by="meseta",
            ),
            Claim(
                text="They flatten the loss by certainty, not the classifier: the loss is less steep than the plain "
                "model's, the decision function is not.",
                holds=all_hold(
                    [
                        *(_above(loss["Standard"], loss[name]) for name in masked),
                        *(_above(decision[name], decision["Standard"]) for name in masked),
                    ]
                ),
                evidence=_each(
                    ("Standard", *masked), lambda name: f"loss {_three(loss[name])}, decision {_three(decision[name])}"
                ),
                by="meseta",
            ),
            Claim(
                text="The published white-box figure is a matter of rounding: PGD20 on the textbook cross-entropy, "
                "which loses 1 − p_y in float32, leaves clearly more standing (5 points) than on the exact one.",
                holds=all_hold(_above(textbook[name], white[name], CLEAR) for name in masked),
                evidence=_each(masked, lambda name: f"{spelled(textbook[name])} % against {spelled(white[name])} %"),
                by="meseta",
            ),
        ]

    def _transformations(self, lab: Lab) -> Part:
        """Return tables 6 and 7."""
        runs = {name: self._attacked(lab, METHODS[name]) for name in THREE}
        tables = [
            self._table(
                key,
                title,
                columns,
                [
                    self._row(
                        name, runs[name], printed[name], [[_transformed(run, one) for run in runs[name]] for one in of]
                    )
                    for name in THREE
                ],
                _all(runs.values()),
                f"On n = {_count(self.n_wide)} test examples, one draw each.",
            )
            for key, title, columns, printed, of in (
                ("table-6", "Table 6: random rotations and translations", ["weak", "medium", "strong"], TABLE_6, MOVES),
                ("table-7", "Table 7: Gaussian noise", [f"σ = {one.sigma:g}" for one in NOISES], TABLE_7, NOISES),
            )
        ]
        (weak, medium, strong), (low, middle, high) = ([_column(table, k) for k in range(3)] for table in tables)
        return Part(
            title="Tables 6 and 7: rotations, translations and noise",
            tables=tables,
            claims=[
                Claim(
                    text="SOAR withstands rotations and translations better than Adv7 at every strength.",
                    holds=all_hold(_above(one["SOAR"], one["Adv7"]) for one in (weak, medium, strong)),
                    evidence=_pairs((weak, medium, strong), "Adv7"),
                ),
                Claim(
                    text="From medium strength on SOAR withstands them better than the plain model too.",
                    holds=all_hold(_above(one["SOAR"], one["Standard"]) for one in (medium, strong)),
                    evidence=_pairs((medium, strong), "Standard"),
                ),
                Claim(
                    text="SOAR withstands Gaussian noise better than the plain model, and than Adv7 up to σ = 0.1.",
                    holds=all_hold(
                        [
                            *(_above(one["SOAR"], one["Standard"]) for one in (low, middle, high)),
                            *(_above(one["SOAR"], one["Adv7"]) for one in (low, middle)),
                        ]
                    ),
                    evidence=f"{_pairs((low, middle, high), 'Standard')} {_pairs((low, middle, high), 'Adv7')}",
                ),
            ],
        )

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
            "SOAR's weight λ and form, L∞ ε = 8/255",
            self._columns,
            [self._row(name, runs, [], self._table_4(lab, runs)) for name, runs in rows.items()],
            _all(rows.values()),
            self._sizes,
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
        clean, white, cnn = (_column(table, k) for k in range(3))
        honest = _honest(table)
        low, high = f"PGD1 init, λ = {min(weights):g}", f"PGD1 init, λ = {max(weights):g}"
        printed = f"PGD1 init, λ = {self.weight:g}"
        corrected = f"{printed}, corrected R"
        heavy = f"zero init, λ = {max(zero_weights):g}"
        return [
            Claim(
                text="Robustness under PGD20 rises with the weight.",
                holds=None if low == high else _above(white[high], white[low]),
                evidence=f"{spelled(white[low])} % at λ = {min(weights):g}, {spelled(white[high])} % at "
                f"{max(weights):g}; clean {spelled(clean[low])} and {spelled(clean[high])} %.",
            ),
            Claim(
                text="The gap of Table 4 is a matter of the weight: at a larger one, zero init keeps clearly more "
                "under white-box PGD20 than under transfer from CNN (more than 5 points).",
                holds=_above(white[heavy], cnn[heavy], CLEAR) if len(zero_weights) > 1 else None,
                evidence=f"At λ = {max(zero_weights):g}: {spelled(white[heavy])} % white-box, {spelled(cnn[heavy])} % "
                f"transferred, worst case {spelled(honest[heavy])} %.",
                by="meseta",
            ),
            Claim(
                text="The corrected regulariser, which estimates the bound, leaves more in the worst case than "
                "the printed one.",
                holds=None if printed not in honest else _above(honest[corrected], honest[printed]),
                evidence=f"{spelled(honest[corrected])} % against {spelled(honest.get(printed))} %.",
                by="meseta",
            ),
        ]

    def _linear(self, lab: Lab) -> Part:
        """Return the linear regression of section 2: the loss under attack against its closed form."""
        rows = []
        for d in self.dimensions:
            start = drawn(self.draws, d)
            plain, ridge = descend(start), descend(start, ridge=RIDGE)
            robust = descend(start[:20], eps=self.linear_eps)
            attacked = loss_under_attack(plain, self.linear_eps)
            entries = [
                Entry(published=expected_loss(d, self.linear_eps), ours=[float(attacked.mean())]),
                Entry(ours=[expected_loss(d - 1, self.linear_eps)]),
                Entry(ours=[float(attacked.std()) / self.draws**0.5]),
                *(Entry(ours=[float(loss_under_attack(w, self.linear_eps).mean())]) for w in (ridge, robust)),
            ]
            rows.append(Row(name=f"d = {d}", entries=entries))
        exact = all(_within(*(entry.mean for entry in row.entries[:3])) for row in rows)
        mended = all_hold(_above(row.entries[0].mean, row.entries[k].mean) for row in rows for k in (3, 4))
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
            claims=[
                Claim(
                    text="Gradient descent leaves the unused weights where they began, so that the loss under attack "
                    "grows as ε²d²σ².",
                    holds=exact,
                    evidence="The means are within four standard errors of the closed form."
                    if exact
                    else "A mean is further than four standard errors from the closed form.",
                ),
                Claim(
                    text="Ridge and the robustified loss both mend it.",
                    holds=mended,
                    evidence=f"At d = {self.dimensions[-1]}: {_three(rows[-1].entries[0].mean)} plainly, "
                    f"{_three(rows[-1].entries[3].mean)} with ridge, {_three(rows[-1].entries[4].mean)} robustified.",
                ),
            ],
        )

    def _attacked(self, lab: Lab, name: str) -> list[Path]:
        """Train a method and return its runs, attacked with everything that the tables of L∞ show."""
        runs = self._runs(lab, name)
        wide = EvaluateConfig(
            threats={"Linf": (self.eps,)},
            attacks=(FGSM(),),
            checks=(),
            transformations=(*MOVES, *NOISES),
            n=self.n_wide,
            pictured=0,
        )
        lab.evaluate(runs, wide, beside=True)
        steps = [self._pgd(self.training_steps), self._pgd(self.steps), self._textbook, self._apgd]
        lab.attack(runs, steps, [self._threat], n=self.n_test)
        lab.attack(runs, [self._auto], [self._threat], n=self.n_auto)
        lab.judge(runs, self._threat, n=self.n_judged, sources=[self._runs(lab, name)[0] for name in SOURCES])
        return runs

    def _table_1(self, runs: list[Path]) -> list[list[float | None]]:
        attacks: list[Attack | None] = [None, FGSM(), self._pgd(self.training_steps), self._pgd(self.steps)]
        return [accuracies(runs, one, self._threat) for one in [*attacks, self._apgd, self._auto]]

    def _table_4(self, lab: Lab, runs: list[Path]) -> list[list[float | None]]:
        clean, pgd, apgd, textbook, auto = (
            accuracies(runs, one, self._threat)
            for one in (None, self._pgd(self.steps), self._apgd, self._textbook, self._auto)
        )
        return [clean, pgd, *self._transferred(lab, runs), apgd, textbook, auto]

    def _transferred(self, lab: Lab, runs: Sequence[Path]) -> list[list[float | None]]:
        """Return the accuracies of runs, one for each seed, under PGD20 on each source of that seed."""
        found = []
        for name in SOURCES:
            attacks = [
                Transfer(
                    models={name: load_run(source).model}, attack=replace(self._pgd(self.steps), drop_broken=False)
                )
                for source in self._runs(lab, name)
            ]
            for run, attack in zip(runs, attacks, strict=True):
                lab.attack([run], [attack], [self._threat], n=self.n_test)
            found.append([accuracies([run], one, self._threat)[0] for run, one in zip(runs, attacks, strict=True)])
        return found

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
        self, key: str, title: str, columns: list[str], rows: list[Row], runs: Sequence[Path], *notes: str
    ) -> ReproducedTable:
        """Return a table of judged rows, all on the data of the runs."""
        return ReproducedTable(
            key=key,
            title=title,
            columns=columns,
            rows=rows,
            digits=1 if key in ("table-2", "table-3", "weights") else 2,  # as the paper prints them
            judged_at=f"{judged_at(runs, self._threat)}, and examples transferred from both sources",
            notes=[*dict.fromkeys(read_record(run).data for run in runs if not has_diverged(run)), *notes],
        )

    def _row(self, name: str, runs: Sequence[Path], printed: Printed, ours: Sequence[list[float | None]]) -> Row:
        """Return a row of what the paper printed, as far as it goes, and of ours."""
        pairs: list[tuple[float | None, float | None]] = [*printed, *[(None, None)] * (len(ours) - len(printed))]
        entries = [
            Entry(published=value, published_spread=spread, ours=values)
            for (value, spread), values in zip(pairs, ours, strict=True)
        ]
        clean = mean(accuracies(runs, None))
        note = "a training met a loss that is not finite" if any(map(has_diverged, runs)) else ""
        note = COLLAPSED if clean is not None and clean < CHANCE else note
        return judged(name, entries, runs, self._threat, note=note)

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
        return replace(watch, splits=("train", "test"), objectives=(one, replace(one, directions=100)))

    @property
    def _auto(self) -> AutoAttack:
        return AutoAttack(threat=self._threat, steps=self.auto_steps, queries=self.auto_queries)

    @property
    def _columns(self) -> list[str]:
        """The columns of Table 4, and of ours that are like it."""
        return ["clean", "PGD20", *SOURCES, "APGD", "PGD20, textbook loss", f"AutoAttack, n = {_count(self.n_auto)}"]

    @property
    def _sizes(self) -> str:
        return (
            f"Clean accuracy and FGSM on n = {_count(self.n_wide)} test examples, attacks of many steps on the first "
            f"{_count(self.n_test)}."
        )

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


def _all(groups: Iterable[Sequence[Path]]) -> list[Path]:
    return [run for group in groups for run in group]


def _worst_case(run: Path, attacks: Sequence[Attack], threat: Threat) -> float | None:
    return None if has_diverged(run) else worst_cases([run], attacks, threat)[0]


def _transformed(run: Path, transformation: Transformation) -> float | None:
    """Return the accuracy in % under a transformation."""
    if has_diverged(run):
        return None
    found = (one for each in evaluations(read_record(run)) for one in each.transformed)
    return 100 * next(one.accuracy for one in found if one.transformation == repr(transformation))


def _median(run: Path, measure: GradientNorm) -> float | None:
    if has_diverged(run):
        return None
    return next(one.median for one in read_record(run).measures if one.measure == repr(measure))


def _column(table: ReproducedTable, k: int) -> dict[str, float | None]:
    """Return a column by row; nothing of a model that is no better than chance, which no claim can be about."""
    return {row.name: None if row.note == COLLAPSED else row.entries[k].mean for row in table.rows}


def _honest(table: ReproducedTable) -> dict[str, float | None]:
    """Return the worst case by row; nothing of a model that is no better than chance."""
    return {row.name: None if row.note == COLLAPSED else Entry(ours=row.worst_case).mean for row in table.rows}


def _above(value: float | None, other: float | None, by: float = 0.0) -> bool | None:
    return None if value is None or other is None else value > other + by


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _within(mean: float | None, truth: float | None, error: float | None) -> bool:
    """Return whether a mean lies within four standard errors of the truth."""
    return mean is not None and truth is not None and error is not None and abs(mean - truth) <= 4 * error


def _each(names: Sequence[str], said: Callable[[str], str]) -> str:
    return "; ".join(f"{name}: {said(name)}" for name in names) + "."


def _pairs(columns: Sequence[Mapping[str, float | None]], other: str) -> str:
    pairs = (f"{spelled(column['SOAR'])} to {spelled(column[other])} %" for column in columns)
    return f"SOAR against {other}: {', '.join(pairs)}."


def _count(n: int | None) -> str:
    return "all" if n is None else str(n)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
