"""What every training objective takes and returns. Only objectives average over the batch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_batch, constant


@dataclass(frozen=True)
class ObjectiveValue:
    """The value of an objective on a batch.

    Attributes:
        total: scalar to call `.backward()` on.
        terms: (B,) per example, by name, detached and without their weights: what gets logged and plotted.
    """

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """A training objective: the mean over the batch of per-example terms.

    The model is used in the mode that it is in. In train mode BatchNorm couples the examples, so that input gradients
    are not strictly per example; GroupNorm, or BatchNorm in eval mode, keeps them so. Weights mean the same at every
    batch size, because input gradients are taken of the sum over the batch, never of the mean.
    """

    def __call__(
        self, model: Model, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
    ) -> ObjectiveValue:
        """Return the objective on a batch; call `.total.backward()` on it.

        Args:
            model: inputs to logits (B, K).
            x: inputs (B, *input); its own history and `.grad` are left alone.
            y: labels (B,).
            generator: source of all randomness; None for torch's global one.

        Raises:
            UserError: x not finite, wrong shapes, labels outside 0..K-1.
        """
        check_batch(x, y)
        return self.evaluate(model, constant(x).clone(), constant(y).long(), generator)  # a model may work in place

    @abstractmethod
    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the objective; inputs are checked."""
