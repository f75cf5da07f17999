"""What every measure takes and returns: one value per example, with the evidence where it is iterative."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField
from meseta.checks import check_batch, constant, derivatives_in_eval_mode, instance_of


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

    def only(self, finite: Tensor) -> "Measurement":
        """Return the same with NaN where the model gave no finite answer: a logit may be NaN without a NaN gradient."""

        def masked(found: Tensor) -> Tensor:
            return torch.where(finite.view(-1, *[1] * (found.dim() - 1)), found, torch.nan)

        return replace(
            self,
            value=masked(self.value),
            residual=None if self.residual is None else masked(self.residual),
            converged=None if self.converged is None else self.converged & finite,
            parts={name: masked(part) for name, part in self.parts.items()},
        )


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
        self.check()
        with derivatives_in_eval_mode(model):
            x, y = constant(x), constant(y).long()
            found = self.at(model, x, y)
            with torch.no_grad():
                finite = model(x.clone()).isfinite().all(1)
        return found if finite.all() else found.only(finite)

    def check(self) -> None:
        """Raise where a setting is of the wrong kind."""
        return None

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

    def check(self) -> None:
        """Raise where the field is none."""
        instance_of("field", self.field, ScalarField)

    @property
    def name(self) -> str:
        """The measure and its field."""
        return f"{super().name}({type(self.field).__name__})"
