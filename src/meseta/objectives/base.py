"""What every training objective takes and returns. Only objectives average over the batch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from numbers import Real

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import at_least, check_batch, constant
from meseta.errors import UserError
from meseta.linalg.random import rand


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
    are not strictly per example, and every forward in train mode, at whatever points, updates the running statistics;
    attacks run in eval mode and leave them alone. GroupNorm, or BatchNorm in eval mode, keeps the examples apart, and
    the latter its buffers as they are. Weights mean the same at every batch size, because input gradients are taken of
    the sum over the batch, never of the mean.

    Costs are given in passes, and in plain steps' arithmetic: the operations of convolutions and matrix products of a
    step of the SiLU CNN with 10 classes. `benchmarks/training_step.py` counts them, and measures times beside.

    Under autocast forwards and exact derivatives run in bfloat16, to about 1 %, and the loss is summed in float32; what
    subtracts values or gradients at neighbouring points runs in full precision (`meseta.autodiff.full_precision`).
    float16 would need input gradients scaled against underflow, which a GradScaler does for those of parameters alone:
    use bfloat16.
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

    def at(self, share: float) -> "Objective":
        """Return the objective as it is after a share of training in [0, 1]; itself unless a setting is scheduled."""
        return self


@dataclass(frozen=True)
class Penalty:
    """What a regulariser adds to the loss, before its weight.

    Attributes:
        value: (B,) the penalty of each example, with the graph to the parameters.
        loss: (B,) the loss where computing the penalty gave it as well, else None.
        terms: what gets logged, detached.
    """

    value: Tensor
    loss: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Regularizer(Objective):
    """A loss and a weighted penalty: mean_i l(x_i) + weight R(x_i).

    `Sum` adds the penalties of several regularisers to one loss.

    Args:
        weight: of the penalty, in loss units per unit of R, at least 0.
        share: of the batch, in (0, 1], that the penalty is taken of, drawn anew in every step. Its mean over the share
            is unbiased for the mean over the batch, with more variance, and costs as much less as it is smaller; its
            terms are those of the share alone.
    """

    weight: float = 0.1
    share: float = 1.0

    def __post_init__(self) -> None:
        at_least("weight", self.weight, 0)
        if not (isinstance(self.share, Real) and 0 < self.share <= 1):
            raise UserError(f"`share` must be a share of the batch in (0, 1], got {self.share!r}. 1 takes all of it.")

    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the mean of loss and weighted penalty."""
        penalty = self.penalize_share(model, x, y, generator)
        loss = self.loss(model, x, y, generator) if penalty.loss is None else penalty.loss
        return ObjectiveValue(
            loss.mean() + self.weight * penalty.value.mean(), {"cross_entropy": loss.detach(), **penalty.terms}
        )

    def penalize_share(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the penalty on the share of the batch; without a loss where that is not all of it."""
        if self.share == 1:
            return self.penalize(model, x, y, generator)
        count = max(1, round(self.share * len(x)))
        chosen = rand((len(x),), x, generator).argsort()[:count]
        return replace(self.penalize(model, x[chosen], y[chosen], generator), loss=None)

    @abstractmethod
    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the penalty R per example; inputs are checked."""

    def loss(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the loss per example; only asked for where the penalty brings none."""
        return CrossEntropy().bind(model, x, y)(x)
