"""One batch under every threat and every attack, one step after the other, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from pydantic import BaseModel
from torch import Tensor

from meseta.attacks import Transformation
from meseta.attacks.base import Attack, misclassified
from meseta.autodiff.scalar_fields import Model
from meseta.evaluation.judge import judge_attack, predict, repeatable
from meseta.evaluation.record import AttackResult, RobustAccuracy, Transformed
from meseta.threat import Threat


@dataclass(frozen=True)
class Plan:
    """What every batch goes through.

    Attributes:
        threats: by norm and rising eps. Balls of one norm are nested: what broke an example at one eps breaks it at all
            larger ones, and no attack meets it there again.
        attacks: each under every threat.
        cascade: each attack meets only what stands, whichever attack broke the others. Elsewhere each attack meets all
            that it has not broken itself, so that attacks compare.
        transformations: each on all examples.
        seed: of all randomness; each batch and attack has its own stream.
    """

    threats: tuple[Threat, ...]
    attacks: tuple[Attack, ...]
    cascade: bool
    transformations: tuple[Transformation, ...] = ()
    seed: int = 0

    def steps(self) -> list[tuple[Threat, int]]:
        """Return threat and number of the attack of each step, in order."""
        return [(threat, k) for threat in self.threats for k in range(len(self.attacks))]

    def line(self, k: int) -> int:
        """Return which line of examples the attack works on: one for all attacks in a cascade, else one for each."""
        return 0 if self.cascade else k


class Step(BaseModel):
    """What one attack did under one threat: as many digits as examples, 1 where it broke one that stood."""

    broken: str
    attacked: int
    violations: int
    seconds: float


class TransformedStep(BaseModel):
    """What one transformation left."""

    right: int
    """Classified correctly as they are and transformed."""
    alone: int
    """Classified correctly transformed, whatever they were before."""
    seconds: float


class BatchResult(BaseModel):
    """What happened to one batch so far: the steps of the plan that are done, in order."""

    right: str
    """A digit for each example, 1 where the model classifies it correctly as it is."""
    nonfinite: int
    steps: list[Step] = []
    transformed: list[TransformedStep] = []


def run_batch(
    model: Model,
    x: Tensor,
    y: Tensor,
    index: int,
    plan: Plan,
    *,
    done: BatchResult | None = None,
    save: Callable[[BatchResult], object] = lambda result: None,
    progress: Callable[[float], object] = lambda examples: None,
) -> BatchResult:
    """Take one batch through the plan, from where `done` ends; `save` is called after every step.

    A model that draws from torch's global generator draws the same again in each step, whatever happened before.
    """
    seed = plan.seed + 1_000_003 * index
    with repeatable(seed, x.device):
        result = done or _classified(model, x, y)
    standing = _Standing(plan, mask(result.right).to(x.device))
    steps = plan.steps()
    part = len(y) / (len(steps) + len(plan.transformations))
    for (threat, k), step in zip(steps, result.steps, strict=False):
        standing.take(threat, k, mask(step.broken).to(x.device))
    progress(part * (len(result.steps) + len(result.transformed)))
    for threat, k in steps[len(result.steps) :]:
        generator = torch.Generator(x.device).manual_seed(seed + k)
        with repeatable(seed + k, x.device):
            step = _attack(model, x, y, standing.at(threat, k), plan.attacks[k].against(threat), generator)
        standing.take(threat, k, mask(step.broken).to(x.device))
        result.steps.append(step)
        save(result)
        progress(part)
    for k, transformation in enumerate(plan.transformations[len(result.transformed) :], len(result.transformed)):
        generator = torch.Generator(x.device).manual_seed(seed + 500_000 + k)
        began = perf_counter()
        with repeatable(seed + 500_000 + k, x.device):
            points = transformation(model, x, y, generator=generator)
            alone = ~misclassified(predict(model, points, y), y)
            # what the model gets wrong as it is stays wrong, as under attack
            right = mask(result.right).to(x.device) & alone
        seconds = perf_counter() - began
        result.transformed.append(TransformedStep(right=int(right.sum()), alone=int(alone.sum()), seconds=seconds))
        save(result)
        progress(part)
    return result


def _classified(model: Model, x: Tensor, y: Tensor) -> BatchResult:
    logits = predict(model, x, y)
    right = ~misclassified(logits, y)
    return BatchResult(right=digits(right), nonfinite=int((~logits.isfinite().all(1)).sum()))


def _attack(model: Model, x: Tensor, y: Tensor, standing: Tensor, attack: Attack, generator: torch.Generator) -> Step:
    began = perf_counter()
    broken, violations = torch.zeros_like(standing), 0
    if standing.any():
        x, y = x[standing], y[standing]
        judged = judge_attack(model, x, y, attack(model, x, y, generator=generator), attack.threat)
        broken[standing] = judged.broken
        violations = int(judged.violation.sum())
    return Step(
        broken=digits(broken),
        attacked=int(standing.sum()),
        violations=violations,
        seconds=perf_counter() - began,
    )


class _Standing:
    """Which examples stand, for each norm and line of examples."""

    def __init__(self, plan: Plan, right: Tensor) -> None:
        lines = 1 if plan.cascade else len(plan.attacks)
        self._plan = plan
        self._masks = {threat.norm: [right] * lines for threat in plan.threats}

    def at(self, threat: Threat, k: int) -> Tensor:
        """Return the examples that attack k is to meet."""
        return self._masks[threat.norm][self._plan.line(k)]

    def take(self, threat: Threat, k: int, broken: Tensor) -> None:
        """Take out what attack k broke."""
        line = self._plan.line(k)
        self._masks[threat.norm][line] = self._masks[threat.norm][line] & ~broken

    def worst_case(self, threat: Threat) -> Tensor:
        """Return the examples that nothing of this norm broke so far."""
        return torch.stack(self._masks[threat.norm]).all(0)


@dataclass
class Tally:
    """Counts over the batches."""

    n: int
    right: int
    nonfinite: int
    threats: dict[Threat, "ThreatTally"]
    transformations: list[tuple[int, int, float]]

    @classmethod
    def of(cls, plan: Plan) -> "Tally":
        """Return empty counts for a plan."""
        return cls(
            *(0, 0, 0),
            {threat: ThreatTally([AttackTally() for _ in plan.attacks]) for threat in plan.threats},
            [(0, 0, 0.0) for _ in plan.transformations],
        )

    def add(self, plan: Plan, result: BatchResult, known: Callable[[Threat], Tensor]) -> None:
        """Add one batch; `known` tells for each threat which of its examples other searches broke."""
        right = mask(result.right)
        self.n, self.right, self.nonfinite = (
            self.n + len(right),
            self.right + int(right.sum()),
            self.nonfinite + result.nonfinite,
        )
        standing = _Standing(plan, right)
        for (threat, k), step in zip(plan.steps(), result.steps, strict=True):
            standing.take(threat, k, mask(step.broken))
            self.threats[threat].attacks[k].add(step, int(standing.at(threat, k).sum()))
            if k == len(plan.attacks) - 1:
                left = standing.worst_case(threat)
                self.threats[threat].add(int(left.sum()), int((left & known(threat)).sum()))
        self.transformations = [
            (right + step.right, alone + step.alone, seconds + step.seconds)
            for (right, alone, seconds), step in zip(self.transformations, result.transformed, strict=True)
        ]

    @property
    def seconds(self) -> float:
        """Time spent on all steps, over all processes and calls."""
        attacks = sum(attack.seconds for tally in self.threats.values() for attack in tally.attacks)
        return attacks + sum(seconds for *_, seconds in self.transformations)

    def robust(self, plan: Plan) -> list[RobustAccuracy]:
        """Return the sections of the record, one a threat."""
        return [
            RobustAccuracy(
                norm=threat.norm,
                eps=threat.eps,
                worst_case=tally.standing / self.n,
                attacks=[
                    one.result(attack.against(threat), self.n)
                    for attack, one in zip(plan.attacks, tally.attacks, strict=True)
                ],
                cascade=plan.cascade,
                by_others=tally.by_others,
            )
            for threat, tally in self.threats.items()
        ]

    def transformed(self, plan: Plan) -> list[Transformed]:
        """Return the sections of the record, one a transformation."""
        return [
            Transformed(
                transformation=repr(one),
                name=one.name,
                accuracy=right / self.n,
                alone=alone / self.n,
                seconds=round(seconds, 3),
            )
            for one, (right, alone, seconds) in zip(plan.transformations, self.transformations, strict=True)
        ]


@dataclass
class ThreatTally:
    """Counts under one threat."""

    attacks: list["AttackTally"]
    standing: int = 0
    by_others: int = 0

    def add(self, standing: int, by_others: int) -> None:
        """Add what stands in one batch after all attacks, and how many of those the checks broke."""
        self.standing += standing - by_others
        self.by_others += by_others


@dataclass
class AttackTally:
    """Counts of one attack under one threat."""

    standing: int = 0
    attacked: int = 0
    violations: int = 0
    seconds: float = 0.0

    def add(self, step: Step, standing: int) -> None:
        """Add one batch, and what stands in it after this attack."""
        self.standing += standing
        self.attacked += step.attacked
        self.violations += step.violations
        self.seconds += step.seconds

    def result(self, attack: Attack, n: int) -> AttackResult:
        """Return the section of the record."""
        return AttackResult(
            attack=repr(attack),
            name=attack.name,
            accuracy=self.standing / n,
            violations=self.violations,
            seconds=round(self.seconds, 3),
            attacked=self.attacked,
        )


def digits(mask: Tensor) -> str:
    """Return (B,) bool as digits."""
    return "".join("01"[bit] for bit in mask.tolist())


def mask(text: str) -> Tensor:
    """Return digits as (B,) bool."""
    return torch.tensor([digit == "1" for digit in text], dtype=torch.bool)
