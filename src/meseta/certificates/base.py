"""What every bound takes and returns: a distance per example, and what it may be taken for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from meseta.attacks.base import misclassified
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_batch, check_logits, constant, derivatives_in_eval_mode
from meseta.errors import UserError
from meseta.shapes import Float, Int
from meseta.threat import Norm

Kind = Literal["sound", "estimate", "proxy"]


@dataclass(frozen=True)
class Radius:
    """One distance per example.

    Attributes:
        value: (B,) in input units, at least 0; 0 where the model errs, and where the bound came out as NaN. Infinite
            where the bound says that nothing can change the prediction.
        correct: (B,) bool, where the model is right and its logits are finite.
        kind: what the distance may be taken for; see `RadiusBound`.
        norm: the norm it is measured in.
        parts: (B,) each, what the bound is made of, by name; NaN where the model errs.
    """

    value: Tensor
    correct: Tensor
    kind: Kind
    norm: Norm
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RadiusBound(ABC):
    """A distance per example that speaks about the nearest adversarial example.

    Three kinds, one base class each, so that none is taken for another:

    - `Certificate` ("sound"): no input nearer than the distance is classified otherwise. A theorem about the network
      as a real function; the parameters are taken as they are, the arithmetic of the bound is float64.
    - `Estimate` ("estimate"): a theorem of that form whose constants were looked for at some points only.
    - `Proxy` ("proxy"): a distance in a simplified model of the classifier (a linear piece, a quadratic), which may be
      on either side of the truth.

    The model runs in eval mode and gets its mode back; its parameters and x stay as they were.
    """

    kind: ClassVar[Kind]
    classes: ClassVar[int | None] = None
    """The number of classes that the bound is about; None for any."""
    requires: ClassVar[str | None] = None
    """A package that the bound needs beside torch."""

    @property
    @abstractmethod
    def norm(self) -> Norm:
        """The norm that the distance is measured in."""

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Radius:
        """Return the distance of each example of x (B, *input) with labels y (B,).

        Raises:
            UserError: x not finite, wrong shapes, labels outside 0..K-1, or a model that the bound cannot cover.
        """
        check_batch(x, y)
        with derivatives_in_eval_mode(model):
            x, y = constant(x), constant(y).long()
            self.check_model(model, x)
            with torch.no_grad():
                logits = check_logits(model(x.clone()), x, y)
            self.check_classes(logits)
            correct = ~misclassified(logits, y)
            value, parts = x.new_zeros(len(x), dtype=torch.float64), {}
            if correct.any():
                right, found = self.at(model, x[correct], y[correct])
                value[correct] = right.detach().double().nan_to_num(0, torch.inf, 0).clamp_min(0)
                for name, part in found.items():
                    parts[name] = torch.full_like(value, torch.nan)
                    parts[name][correct] = part.detach().double()
        return Radius(value, correct, self.kind, self.norm, parts)

    def check_classes(self, logits: Float[Tensor, "b c"]) -> None:
        """Raise where the model has another number of classes than the bound is about."""
        if self.classes not in (None, logits.shape[1]):
            raise UserError(
                f"{self.name} is about {self.classes} classes, and the model has {logits.shape[1]}. Use a bound that "
                "takes any number of them."
            )

    def check_model(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        """Raise where the bound cannot cover the model, whatever it predicts; by default every model is fine."""
        return None

    @abstractmethod
    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return distances and parts of examples that are classified correctly; the model is in eval mode."""

    @property
    def name(self) -> str:
        """A short name for tables."""
        return type(self).__name__


class Certificate(RadiusBound):
    """A sound bound: no input nearer than the distance is classified otherwise."""

    kind: ClassVar[Kind] = "sound"


class Estimate(RadiusBound):
    """A bound that would be sound if its constants, seen at sampled points, held in the whole ball."""

    kind: ClassVar[Kind] = "estimate"


class Proxy(RadiusBound):
    """The distance in a simplified model of the classifier: neither an upper nor a lower bound of the true one."""

    kind: ClassVar[Kind] = "proxy"


def check_norm(norm: str) -> None:
    """Raise unless the setting `norm` of a bound is that of a threat."""
    if norm not in ("Linf", "L2", "L1"):
        raise UserError(f"`norm` must be Linf, L2 or L1, got {norm!r}.")
