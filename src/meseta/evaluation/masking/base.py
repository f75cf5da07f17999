"""What every masking check takes and returns: a model on trial, and one finding about its gradients."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from meseta.attacks.base import Attack
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.evaluation.judge import judge_attack
from meseta.evaluation.record import Level
from meseta.threat import Threat


class Case:
    """A model on trial: correctly classified examples, a threat, and what was broken so far.

    Attributes:
        model: inputs to logits (B, K). x: (B, *input), y: (B,), all classified correctly. threat: what attacks may do.
        broken: (B,) bool, what any search within the threat has broken, by whichever check.
    """

    def __init__(self, model: Model, x: Tensor, y: Tensor, threat: Threat, seed: int = 0) -> None:
        self.model, self.x, self.y, self.threat = model, x, y, threat
        self.broken = torch.zeros_like(y, dtype=torch.bool)
        self._seed = seed
        self._results: dict[str, Tensor] = {}

    def generator(self) -> torch.Generator:
        """Return the source of randomness: the same for every search, so that checks do not depend on their order."""
        return torch.Generator(self.x.device).manual_seed(self._seed)

    def broken_by(self, attack: Attack, *, through: Model | None = None) -> Tensor:
        """Return (B,) bool: where what the attack finds breaks the model, as judged.

        The attack runs under the case's threat in place of its own, once: a second call with an equal attack returns
        the first one's result.

        Args:
            attack: the search.
            through: a model to search on in place of the one on trial, such as one with other logits or precision; the
                judge always asks the one on trial.
        """
        key = repr(attack)
        if through is None and key in self._results:
            return self._results[key]
        found = attack.against(self.threat)(through or self.model, self.x, self.y, generator=self.generator())
        result = self.counted(found)
        if through is None:
            self._results[key] = result
        return result

    def counted(self, points: Tensor) -> Tensor:
        """Return (B,) bool: where these points, brought into ball and bounds, break the model; the case remembers."""
        result = judge_attack(self.model, self.x, self.y, points, self.threat).broken
        self.broken = self.broken | result
        return result

    @cached_property
    def by_loss(self) -> Tensor:
        """Where the reference, PGD-20 on the cross-entropy from one random start, breaks the model: what is reported
        most often, and fooled most easily."""
        return self.broken_by(PGD(steps=20))

    @cached_property
    def by_gradients(self) -> Tensor:
        """Where PGD-20 on the cross-entropy or on the margin breaks the model."""
        return self.by_loss | self.broken_by(PGD(steps=20, loss=Decision()))


@dataclass(frozen=True)
class Observation:
    """What a check saw: its level, one sentence with the numbers, and the numbers by name (shares in [0, 1])."""

    level: Level
    evidence: str
    figures: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class MaskingCheck(ABC):
    """A test of whether gradient attacks see what the model does.

    A check states in `rule` what makes it say suspicious or broken, with its thresholds as fields. It runs on correctly
    classified examples, in eval mode, and leaves the model as it was.
    """

    @abstractmethod
    def examine(self, case: Case) -> Observation:
        """Return what was seen; "untested" where the check does not apply."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """What makes a model suspicious or broken, in words and numbers."""

    def calls_for(self) -> tuple[Attack, ...]:
        """Return the attacks that the failure this check looks for calls for; run on all examples where it is found."""
        return ()

    @property
    def name(self) -> str:
        """A short name for tables."""
        return type(self).__name__


def graded(value: float, suspicious: float, broken: float | None) -> Level:
    """Return the level of a value that is bad when large; above a threshold, not at it."""
    if broken is not None and value > broken:
        return "broken"
    return "suspicious" if value > suspicious else "fine"


def share(mask: Tensor) -> float:
    """Return the share of True."""
    return float(mask.float().mean())
