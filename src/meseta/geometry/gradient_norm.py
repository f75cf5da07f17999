"""The norm of the input gradient."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.gradient import value_and_gradient
from meseta.autodiff.scalar_fields import Model
from meseta.checks import exponent
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.linalg.norms import norm


@dataclass(frozen=True, kw_only=True)
class GradientNorm(FieldMeasure):
    """The gradient norm ||grad f(x)||_q: how fast f changes, to first order.

    An attack of size eps in the p-norm changes f by about eps ||grad f||_q with 1/p + 1/q = 1: q = 1 for Linf, 2 for
    L2.

    Args:
        field: f; the cross-entropy loss by default.
        q: the exponent, 1 <= q <= inf.

    Units: of f per unit of input. Cost: one forward and one backward to the input.
    """

    q: float = 2.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "q", exponent("q", self.q))

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return ||grad f(x)||_q per example."""
        _, gradient = value_and_gradient(self.field.bind(model, x, y), x)
        return Measurement(norm(gradient, self.q))

    @property
    def name(self) -> str:
        """The measure with its field, and the exponent where it is not 2."""
        return super().name if self.q == 2 else f"{super().name}, q={self.q:g}"
