"""Optimisers of the papers, as settings that a configuration file can hold."""

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
