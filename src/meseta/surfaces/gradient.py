"""The gradient of a field."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.gradient import value_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, ScalarField
from meseta.checks import instance_of
from meseta.surfaces.base import Axis, InputOrigin, ParameterOrigin, once, uphill


@dataclass(frozen=True, kw_only=True)
class Gradient(Axis):
    """The gradient of a field at the origin, towards higher loss or lower margin.

    Args:
        field: the cross-entropy by default.

    At an input it has length 1 in the threat's norm; at parameters, of the mean over the examples, the length of the
    parameters. Cost: one forward and one backward.
    """

    field: ScalarField = CrossEntropy()

    def __post_init__(self) -> None:
        instance_of("field", self.field, ScalarField)

    @property
    def name(self) -> str:
        """The axis and its field."""
        return f"Gradient({type(self.field).__name__})"

    def of_input(self, origin: InputOrigin, occurrence: int) -> Tensor:
        """Return the gradient."""
        once(self, occurrence)
        _, gradient = value_and_gradient(self.field.bind(origin.model, origin.x, origin.y), origin.x)
        return origin.unit(uphill(self.field) * gradient, self.name)

    def of_parameters(self, origin: ParameterOrigin, occurrence: int) -> Tensor:
        """Return the gradient of the mean."""
        once(self, occurrence)
        _, gradient = value_and_gradient(origin.mean(self.field), origin.vector[None])
        return origin.scaled(uphill(self.field) * gradient[0], self.name)
