"""Optimisers and learning-rate schedules of the papers, as settings that a configuration file can hold."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from meseta.checks import at_least, positive
from meseta.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Optimizer(ABC):
    """An optimiser with its settings.

    Args:
        lr: the highest learning rate; schedules scale it.
        weight_decay: L2 penalty (SGD, Adam) or decoupled decay (AdamW).
    """

    lr: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        positive("lr", self.lr)
        at_least("weight_decay", self.weight_decay, 0)

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's optimiser over the parameters."""


@dataclass(frozen=True, kw_only=True)
class Sgd(Optimizer):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate.
        momentum: in [0, 1).
        weight_decay: L2 penalty.
        nesterov: look ahead.
    """

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 2e-4
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("momentum", self.momentum, 0)
        if self.momentum >= 1 or (self.nesterov and self.momentum == 0):
            raise UserError(f"`momentum` must be below 1, and above 0 with nesterov, got {self.momentum}.")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.SGD`."""
        return torch.optim.SGD(
            parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.Adam`."""
        return torch.optim.Adam(parameters, self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay."""

    weight_decay: float = 1e-2

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.AdamW`."""
        return torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """The learning rate over training, as a factor of the optimiser's `lr`; every position is a share of training."""

    @abstractmethod
    def factor(self, share: float) -> float:
        """Return the factor after a share of training in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same learning rate throughout."""

    def factor(self, share: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class StepDecay(Schedule):
    """Multiply the learning rate by `gamma` at each milestone.

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
