"""What every attack takes and returns; the judge of its success is `meseta.evaluation`, never the attack itself."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from meseta.autodiff.gradient import gradient_of, leaf
from meseta.autodiff.layers import lean_layers
from meseta.autodiff.scalar_fields import Decision, Model, ScalarField
from meseta.checks import check_logits, constant, derivatives_in_eval_mode, instance_of
from meseta.errors import UserError
from meseta.shapes import Bool
from meseta.threat import Norm, Threat


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """A search for inputs inside the threat that the model misclassifies.

    The model runs in eval mode and gets its mode back; its parameters, their `.grad` and `requires_grad`, and x stay as
    they were. Gradients are taken with respect to the input alone.

    Args:
        threat: the norm ball and bounds that the result stays in.
    """

    norms: ClassVar[tuple[Norm, ...]] = ("Linf", "L2", "L1")
    """The norms of the threats it searches; the call refuses others."""
    threat: Threat = Threat()

    def __call__(self, model: Model, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return adversarial inputs (B, *input) inside ball and bounds.

        Args:
            model: inputs to logits (B, K).
            x: inputs (B, *input) inside the threat's bounds.
            y: labels (B,).
            generator: source of all randomness; None for torch's global one.

        Raises:
            UserError: x outside the bounds or not finite, wrong shapes, labels outside 0..K-1; a threat of a norm that
                the attack does not search.
        """
        self.check(x, y)
        with derivatives_in_eval_mode(model), lean_layers():
            return self.perturb(model, constant(x), constant(y).long(), generator).detach()

    @abstractmethod
    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the adversarial inputs; inputs are checked, the model is in eval mode and autograd is on."""

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise unless the attack can search the threat, and (x, y) is a batch of finite inputs inside its bounds."""
        instance_of("threat", self.threat, Threat)
        if self.threat.norm not in self.norms:
            raise UserError(
                f"`threat`: {type(self).__name__} searches {' and '.join(self.norms)} alone, got {self.threat.norm}. "
                "Leave it out under this norm, or choose another attack."
            )
        self.threat.check(x, y)

    @property
    def name(self) -> str:
        """A short name for tables and curves."""
        return type(self).__name__

    @property
    def uses_gradients(self) -> bool:
        """False where forwards are all it asks the model for."""
        return True

    def against(self, threat: Threat) -> Self:
        """Return the same attack under another threat."""
        return replace(self, threat=threat)


def raised(field: ScalarField, logits: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
    """Return what an attacker raises, per example: a loss, a margin's negative; the form towards a target if given."""
    if target is not None:
        return field.towards(logits, y, target)
    return field.of_logits(logits, y) if field.rises_under_attack else -field.of_logits(logits, y)


def loss_and_gradient(
    model: Model, field: ScalarField, points: Tensor, y: Tensor, *, target: Tensor | None = None, draws: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, loss and loss gradient at `points`, where the loss is what an attacker raises (see `raised`).

    One forward, one backward to the input; an example whose gradient is not finite gets zeros, so that it stays where
    it is. All three are means over `draws` such passes, which differ where the model is stochastic.
    """
    logits, loss, gradient = _loss_and_gradient(model, field, points, y, target)
    for _ in range(draws - 1):
        another = _loss_and_gradient(model, field, points, y, target)
        logits, loss, gradient = logits + another[0], loss + another[1], gradient + another[2]
    return (logits, loss, gradient) if draws == 1 else (logits / draws, loss / draws, gradient / draws)


def _loss_and_gradient(
    model: Model, field: ScalarField, points: Tensor, y: Tensor, target: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    point = leaf(points)
    logits = check_logits(model(point.clone()), points, y)  # a model may work in place
    loss = raised(field, logits, y, target)
    gradient = gradient_of(loss, point)
    return logits.detach(), loss.detach(), gradient.nan_to_num(0, 0, 0)


@torch.no_grad()
def likeliest_rivals(model: Model, x: Tensor, y: Tensor, count: int | None) -> Tensor:
    """Return the `count` likeliest wrong classes at x, the likeliest first: (B, count); None, or too many, for all."""
    logits = check_logits(model(x.clone()), x, y).scatter(1, y[:, None], -torch.inf)
    rivals = logits.shape[1] - 1
    return logits.topk(min(count or rivals, rivals), 1).indices


@torch.no_grad()
def asked(model: Model, points: Tensor, y: Tensor, field: ScalarField | None = None) -> tuple[Tensor, Tensor]:
    """Return what an attacker raises at the points, in float64, and where the model errs: one forward.

    Raised is the field's loss or negative; None for the C&W margin, max_{j != y} z_j - z_y.
    """
    logits = check_logits(model(points.clone()), points, y)  # a model may work in place
    return raised(field or Decision(), logits, y).double(), misclassified(logits, y)


def misclassified(logits: Tensor, y: Tensor) -> Bool[Tensor, "b"]:
    """Return where the model errs; NaN or infinite logits never count as right."""
    return (logits.argmax(1) != y) | ~logits.isfinite().all(1)
