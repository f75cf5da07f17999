"""Curvature over slope."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of, positive
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, start
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import norm
from meseta.linalg.solver import Eigensolver, check_end


@dataclass(frozen=True, kw_only=True)
class NormalizedCurvature(FieldMeasure):
    """The curvature relative to the slope, ||H||_2 / (||g||_2 + floor), g = grad f(x) and H its Hessian.

    Does not change when f is multiplied by a constant (but for the floor), as curvature alone does. Its inverse is the
    length of the step over which the gradient may change by as much as it is. ||H||_2 from the solver is from below.

    Args:
        field: f; the cross-entropy loss by default. It is not invariant under monotone changes of f: the loss and a
            margin of the same model differ, by the term that the second derivative adds along the gradient.
        solver: the eigensolver.
        floor: keeps the ratio finite where g = 0, in units of f per unit of input. Where the loss is so well fitted
            that its gradient is below it, the value is the floor's and reads flat: measure margins there.

    Parts: curvature, gradient: ||H||_2 and ||g||_2.
    Units: 1 per unit of input. Cost: as `SpectralCurvature`.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).

    Source: Srinivas et al. 2022, Efficient training of low-curvature neural networks: their normalised curvature.
    """

    solver: Eigensolver = Lanczos()
    floor: float = 1e-6

    def __post_init__(self) -> None:
        instance_of("solver", self.solver, Eigensolver)
        check_end(self.solver, "largest_magnitude")
        positive("floor", self.floor)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the ratio per example, with the residual of the curvature over the same slope."""
        hessian = Hessian(self.field.bind(model, x, y), x)
        gradient = hessian.gradient.detach()
        pair = self.solver(hessian, start(gradient))
        check_seen(self, hessian, pair.value)
        curvature, slope = pair.value.abs(), norm(gradient)
        scale = slope + self.floor
        parts = {"curvature": curvature, "gradient": slope}
        return Measurement(curvature / scale, pair.residual / scale, pair.converged, pair.products, parts)
