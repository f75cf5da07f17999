"""What every measure takes and returns: one value per example, with the evidence where it is iterative."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField
from meseta.checks import check_batch, constant, derivatives_in_eval_mode


@dataclass(frozen=True)
class Measurement:
    """One value per example.

    Attributes:
        value: (B,); NaN where the model gave no finite answer.
        residual: (B,) the error that the measure knows of, in the units of the value: the residual of an iteration, the
            standard error of a sampled mean; None for direct measures.
        converged: (B,) whether the iteration met its tolerance; None for measures without one.
        products: products spent with the Hessian, or whatever matrix is measured, each over the batch; 0 for measures
            without.
        parts: what else was found on the way, by name: (B,) one number per example, (B, m) a curve per example (a
            spectrum, the steps of an iteration).
    """

    value: Tensor
    residual: Tensor | None = None
    converged: Tensor | None = None
    products: int = 0
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measure(ABC):
    """A per-example number about the geometry of the classifier at an input.

    The model runs in eval mode and gets its mode back; its parameters and x stay as they were.
    """

    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the measure at each example of x (B, *input) with labels y (B,).

        Raises:
            UserError: x not finite, wrong shapes, labels outside 0..K-1, or a model that the measure is blind on.
        """
        check_batch(x, y)
        with derivatives_in_eval_mode(model):
            return self.at(model, constant(x), constant(y).long())

    @abstractmethod
    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the measure; inputs are checked, the model is in eval mode and autograd is on."""

    @property
    def name(self) -> str:
        """A short name for tables."""
        return type(self).__name__


@dataclass(frozen=True, kw_only=True)
class FieldMeasure(Measure):
    """A measure of one scalar field, such as the loss or a margin.

    Args:
        field: the scalar field whose geometry is measured.
    """

    field: ScalarField = CrossEntropy()

    @property
    def name(self) -> str:
        """The measure and its field."""
        return f"{super().name}({type(self.field).__name__})"
