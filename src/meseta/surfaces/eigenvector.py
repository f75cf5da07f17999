"""A direction of principal curvature."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.gradient import full_precision
from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import CrossEntropy, ScalarField
from meseta.checks import check_curved, instance_of
from meseta.errors import UserError
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import norm
from meseta.shapes import Float
from meseta.surfaces.base import Axis, InputOrigin, ParameterOrigin, uphill


@dataclass(frozen=True, kw_only=True)
class Eigenvector(Axis):
    """An eigenvector of the field's Hessian at the origin, where the surface bends most; a second axis is the next one.

    Of its two signs the one along which the field first gets worse, as the gradient says.

    Args:
        field: the cross-entropy by default.
        solver: its `which` says in what order the eigenvectors come.

    Cost: one forward and one backward, then two backwards per product.

    Raises:
        UserError: the Hessian is exactly zero, as that of margins is on piecewise-linear networks, or has no more
            eigenvectors.
    """

    field: ScalarField = CrossEntropy()
    solver: Lanczos = Lanczos()

    def __post_init__(self) -> None:
        instance_of("field", self.field, ScalarField)
        instance_of("solver", self.solver, Lanczos)

    @property
    def name(self) -> str:
        """The axis and its field."""
        return f"Eigenvector({type(self.field).__name__})"

    def of_input(self, origin: InputOrigin, occurrence: int) -> Tensor:
        """Return the eigenvector of the input Hessian."""
        hessian = Hessian(self.field.bind(origin.model, origin.x, origin.y), origin.x)
        return origin.unit(self._vector(hessian, occurrence), self.name)

    @full_precision()
    def of_parameters(self, origin: ParameterOrigin, occurrence: int) -> Tensor:
        """Return the eigenvector of the mean's Hessian in the parameters."""
        hessian = Hessian(origin.mean(self.field), origin.vector[None])
        return origin.scaled(self._vector(hessian, occurrence)[0], self.name)

    def _vector(self, hessian: Hessian, occurrence: int) -> Float[Tensor, "1 *shape"]:
        gradient = hessian.gradient.detach()
        found = self.solver.pairs(hessian, gradient, occurrence + 1)
        if found.vectors.shape[1] <= occurrence:
            raise UserError(f"`axes`: {self.name} has no {occurrence + 1} eigenvectors. Give another second axis.")
        if self.field.linear_in_logits:
            check_curved(hessian.gradient, norm(found.values), self.name, "look at field=CrossEntropy()")
        vector = found.vectors[:, occurrence]
        return vector * (-1 if uphill(self.field) * (vector * gradient).sum() < 0 else 1)
