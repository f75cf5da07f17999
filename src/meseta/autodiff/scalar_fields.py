"""Scalar fields of the input, f: (B, *input) -> (B,): what gradients, Hessians and attacks are taken of.

A field is a function of logits and label; `bind` joins it to a model and a batch. With z the logits, y the label:

    CrossEntropy   -log softmax(z)_y
    Margin         z_y - z_j for one rival class j (the runner-up of each example by default)
    Decision       z_y - max_{j != y} z_j, negative exactly where the model errs (Yu 2018, section 3)
    DLR            -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)), z_(k) the k-th largest logit: the same for z and 1e4 z
    Logit          z_j (the label's by default)

Some say as well what an attacker raises to have one class predicted: `towards`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from meseta.checks import check_logits
from meseta.errors import UserError
from meseta.shapes import Float, Int

BoundField = Callable[[Tensor], Tensor]
"""A field joined to a model and labels: (B, *input) -> (B,)."""

Model = Callable[[Tensor], Tensor]
"""Anything that maps inputs (B, *input) to logits (B, K): an `nn.Module`, or a function."""


@dataclass(frozen=True, kw_only=True)
class ScalarField(ABC):
    """A scalar function of one example's logits and label."""

    linear_in_logits: ClassVar[bool] = True
    """True where f is (piecewise) linear in the logits: its Hessian then vanishes on piecewise-linear networks."""
    rises_under_attack: ClassVar[bool] = False
    """True where an attacker raises f (losses), False where it lowers f (margins)."""
    has_targets: ClassVar[bool] = False
    """True where `towards` is defined."""

    @abstractmethod
    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return f per example."""

    def towards(
        self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"], target: Int[Tensor, "b"]
    ) -> Float[Tensor, "b"]:
        """Return what an attacker raises, per example, to have the class `target` predicted in place of y."""
        raise UserError(
            f"`{type(self).__name__}` has no form for targets. Use CrossEntropy(), Decision() or DLR(), or no targets."
        )

    def bind(self, model: Model, x: Tensor, y: Tensor) -> BoundField:
        """Return f as a function of inputs of the shape of x; what depends on the base point x is fixed there."""
        return lambda inputs: self.of_logits(check_logits(model(inputs), inputs, y), y)


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(ScalarField):
    """The cross-entropy loss of the label, -log softmax(z)_y.

    Computed as softplus(s), s = logsumexp_{j != y}(z_j) - z_y. The textbook form loses 1 - p_y to rounding once the
    model is confident (in float32, from a margin of 17), and with it value, gradient and Hessian; this one keeps all
    three to full relative precision down to a margin of about 100, where float32 itself ends.
    """

    linear_in_logits: ClassVar[bool] = False
    rises_under_attack: ClassVar[bool] = True
    has_targets: ClassVar[bool] = True

    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return -log softmax(logits)_y."""
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        lowest = torch.finfo(logits.dtype).min  # not -inf: a logsumexp of nothing but -inf has no derivative
        others = logits.scatter(1, y[:, None], lowest).clamp_min(lowest).logsumexp(1)
        s = others - logits.gather(1, y[:, None]).squeeze(1)
        # Each branch is the one whose derivatives are small and exact on its side of 0.
        return torch.where(s > 0, s + F.softplus(-s), F.softplus(s))

    def towards(
        self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"], target: Int[Tensor, "b"]
    ) -> Float[Tensor, "b"]:
        """Return log softmax(logits)_target."""
        return -self.of_logits(logits, target)


@dataclass(frozen=True, kw_only=True)
class Decision(ScalarField):
    """The decision function z_y - max_{j != y} z_j; its zero set is the decision boundary (Yu 2018, section 3)."""

    has_targets: ClassVar[bool] = True

    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return the label's logit minus the largest other one."""
        return margin_to(logits, y, runner_up(logits, y))

    def towards(
        self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"], target: Int[Tensor, "b"]
    ) -> Float[Tensor, "b"]:
        """Return z_target - z_y."""
        return -margin_to(logits, y, target)


@dataclass(frozen=True, kw_only=True)
class DLR(ScalarField):
    """The difference of logits ratio, -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)), z_(k) the k-th largest logit.

    The same for z and a z + b, a > 0, so that no scale of the logits starves an attack of gradients, as it does with
    the cross-entropy. In [-1, 0] where the model is right, above 0 where it errs.

    Towards a target t: -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2).

    Two classes have no third logit, and nothing to divide by: DLR is minus the margin. An attack's step, which reads
    the gradient's direction alone, does not see its scale. The same holds where the divisor is 0, all its logits being
    equal, or not finite. Three classes have no fourth: towards a target, z_(2) and z_(3) take the places of z_(3) and
    z_(4), since over z_(1) - z_(3) the margin to the least likely class would be constant.

    Source: Croce & Hein 2020, equations 6 and 7. Differs: two and three classes, and ties, without a constant in the
    divisor, which small logits would not outgrow.
    """

    linear_in_logits: ClassVar[bool] = False
    rises_under_attack: ClassVar[bool] = True
    has_targets: ClassVar[bool] = True

    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return minus the margin to the runner-up, over the largest logit's lead on the third."""
        return -margin_to(logits, y, runner_up(logits, y)) / _lead(logits, 3, 1)

    def towards(
        self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"], target: Int[Tensor, "b"]
    ) -> Float[Tensor, "b"]:
        """Return minus the margin to the target, over the largest logit's lead on the mean of third and fourth."""
        return -margin_to(logits, y, target) / _lead(logits, 4, 2)


@dataclass(frozen=True, kw_only=True)
class Margin(ScalarField):
    """The margin z_y - z_j to one rival class j, held fixed wherever f is evaluated.

    Args:
        rival: the class j; None for the runner-up of each example at the point that the field is bound to.
    """

    rival: int | None = None

    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return the margin; with `rival` None, to the runner-up of these logits."""
        return margin_to(logits, y, self._rivals(logits, y))

    def bind(self, model: Model, x: Tensor, y: Tensor) -> BoundField:
        """Return the margin to the rivals found at x."""
        with torch.no_grad():
            rivals = self._rivals(check_logits(model(x.clone()), x, y), y)
        return lambda inputs: margin_to(model(inputs), y, rivals)

    def _rivals(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.rival is None:
            return runner_up(logits, y)
        if not 0 <= self.rival < logits.shape[1]:
            raise UserError(f"`rival` must be a class index 0..{logits.shape[1] - 1}, got {self.rival}.")
        if (y == self.rival).any():
            raise UserError(f"`rival` is {self.rival}, which is the label of some examples. Leave those out.")
        return torch.full_like(y, self.rival)


@dataclass(frozen=True, kw_only=True)
class Logit(ScalarField):
    """One logit z_j.

    Args:
        index: the class j; None for the label of each example.
    """

    index: int | None = None

    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return the logit of `index`, or of the label."""
        if self.index is None:
            return logits.gather(1, y[:, None]).squeeze(1)
        if not 0 <= self.index < logits.shape[1]:
            raise UserError(f"`index` must be a class index 0..{logits.shape[1] - 1}, got {self.index}.")
        return logits[:, self.index]


def runner_up(logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Int[Tensor, "b"]:
    """Return the class with the largest logit other than the label."""
    return logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)


def margin_to(logits: Float[Tensor, "b c"], y: Int[Tensor, "b"], rival: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Return z_y - z_rival."""
    return (logits.gather(1, y[:, None]) - logits.gather(1, rival[:, None])).squeeze(1)


def _lead(logits: Tensor, largest: int, last: int) -> Tensor:
    """Return the largest logit minus the mean of the `last` ones among the largest; 1 where that cannot divide."""
    top = logits.topk(min(largest, logits.shape[1]), 1).values
    if top.shape[1] < 3:
        return torch.ones_like(top[:, 0])
    lead = top[:, 0] - top[:, -last:].mean(1)
    return torch.where((lead > 0) & lead.isfinite(), lead, 1)


def rivals(y: Int[Tensor, "b"], classes: int) -> Int[Tensor, "b r"]:
    """Return every class but the label, in order: (B, K-1)."""
    others = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return others + (others >= y[:, None])


def bind_all_rivals(model: Model, x: Tensor, y: Tensor, classes: int) -> tuple[BoundField, Tensor]:
    """Return all K-1 margins of each example as one field of a batch of B (K-1), and that batch.

    Example i's rival number r sits at index i (K-1) + r, so one Hessian product serves every rival at once.
    """
    repeats = classes - 1
    inputs, labels = x.repeat_interleave(repeats, 0), y.repeat_interleave(repeats)
    rival = rivals(y, classes).flatten()
    return lambda points: margin_to(model(points), labels, rival), inputs
