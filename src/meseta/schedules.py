"""How a number changes over training: the learning rate, and any setting of an objective."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from meseta.checks import at_least
from meseta.errors import UserError

__all__ = ["Constant", "Cosine", "Cyclic", "InverseDecay", "LinearWarmup", "Schedule", "StepDecay", "Steps"]


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A factor over training, of the optimiser's `lr` or of a setting of an objective (`meseta.objectives.Scheduled`).

    Every position is a share of training in [0, 1].
    """

    @abstractmethod
    def factor(self, share: float) -> float:
        """Return the factor after a share of training in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value throughout."""

    def factor(self, share: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class StepDecay(Schedule):
    """Multiply the value by `gamma` at each milestone.

    Args:
        milestones: shares of training, in (0, 1).
        gamma: the factor, in (0, 1].

    Source: SOAR (Ma 2020, appendix): 0.1 at epochs 100 and 150 of 200; Guo 2020, appendix F: at (0.6, 0.8).
    """

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 < milestone < 1 for milestone in self.milestones):
            raise UserError(f"`milestones` must be shares of training in (0, 1), got {self.milestones}.")
        if not 0 < self.gamma <= 1:
            raise UserError(f"`gamma` must be in (0, 1], got {self.gamma}. 0.1 is usual.")

    def factor(self, share: float) -> float:
        """Return gamma to the number of milestones passed."""
        return self.gamma ** sum(share >= milestone for milestone in self.milestones)


@dataclass(frozen=True, kw_only=True)
class InverseDecay(Schedule):
    """Fall as (1 + growth share)^-power.

    Args:
        growth: at least 0: what is added to the 1 over the whole training.
        power: at least 0.

    Source: the policy "inv" of Caffe, with growth = gamma times the iterations; its LeNet has gamma = 1e-4 and power =
    0.75, which Guo 2020 takes for MNIST (appendix F).
    """

    growth: float = 1.0
    power: float = 0.75

    def __post_init__(self) -> None:
        at_least("growth", self.growth, 0)
        at_least("power", self.power, 0)

    def factor(self, share: float) -> float:
        """Return (1 + growth share)^-power."""
        return float((1 + self.growth * share) ** -self.power)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Fall from 1 to 0 along a half cosine, after an optional linear warm-up.

    Args:
        warmup: share of training with a linear rise, in [0, 1).
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UserError(f"`warmup` must be a share of training in [0, 1), got {self.warmup}.")

    def factor(self, share: float) -> float:
        """Return the factor after `share`."""
        if share < self.warmup:
            return share / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (share - self.warmup) / (1 - self.warmup)))


@dataclass(frozen=True, kw_only=True)
class Cyclic(Schedule):
    """One triangle: rise from 0 to 1 until `peak`, then fall to 0.

    Args:
        peak: where the peak lies, a share of training in (0, 1).

    Source: HAAT (Mei 2022, section 4.1) trains with a cyclic schedule from 0.1 and gives no shape; this one is ours.
    """

    peak: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.peak < 1:
            raise UserError(f"`peak` must be a share of training in (0, 1), got {self.peak}.")

    def factor(self, share: float) -> float:
        """Return the factor after `share`."""
        return min(share / self.peak, (1 - share) / (1 - self.peak))


@dataclass(frozen=True, kw_only=True)
class LinearWarmup(Schedule):
    """Rise linearly to the full value, then stay there.

    Args:
        until: the share of training at which the full value is reached, in (0, 1].
        start: the factor at the very beginning, at least 0; above 1 to fall instead of rise.

    Source: Qin et al. 2019 (LLR), section 5 for eps; Moosavi-Dezfooli et al. 2019 (CURE), section 4 for h.
    """

    until: float = 0.5
    start: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise UserError(f"`until` must be a share of training in (0, 1], got {self.until}.")
        at_least("start", self.start, 0)

    def factor(self, share: float) -> float:
        """Return the factor after `share`."""
        return self.start + (1 - self.start) * min(share / self.until, 1.0)


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """Any factors, each until the next milestone.

    Args:
        milestones: increasing shares of training, in (0, 1).
        factors: one more than the milestones, each at least 0: before the first, between, and after the last.
    """

    milestones: tuple[float, ...] = (0.5,)
    factors: tuple[float, ...] = (0.1, 1.0)

    def __post_init__(self) -> None:
        inside = all(0 < milestone < 1 for milestone in self.milestones)
        if not inside or list(self.milestones) != sorted(set(self.milestones)):
            raise UserError(f"`milestones` must be increasing shares of training in (0, 1), got {self.milestones}.")
        if len(self.factors) != len(self.milestones) + 1:
            raise UserError(
                f"`factors` must be one more than the milestones, {len(self.milestones) + 1}, got {len(self.factors)}."
            )
        for factor in self.factors:
            at_least("factors", factor, 0)

    def factor(self, share: float) -> float:
        """Return the factor after `share`."""
        return self.factors[sum(share >= milestone for milestone in self.milestones)]
