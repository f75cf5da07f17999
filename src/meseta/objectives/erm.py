"""Empirical risk minimisation: plain training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.objectives.base import Objective, ObjectiveValue


@dataclass(frozen=True, kw_only=True)
class Erm(Objective):
    """Plain training on the cross-entropy loss.

    mean_i l(x_i). Cost: one plain step, the unit that all other costs are given in.
    """

    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the mean loss."""
        loss = CrossEntropy().bind(model, x, y)(x)
        return ObjectiveValue(loss.mean(), {"cross_entropy": loss.detach()})
