"""The extreme eigenvalue of the input Hessian."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.hessian import FiniteDifferenceHessian, Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import positive
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, start
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.power import rayleigh
from meseta.linalg.solver import Eigensolver

RADIUS_TOLERANCE = 0.1
"""At a radius, a direction has converged when its residual is within this share of its value."""


@dataclass(frozen=True, kw_only=True)
class SpectralCurvature(FieldMeasure):
    """The eigenvalue of largest magnitude of the input Hessian H = grad^2 f(x), with its sign: |value| = ||H||_2.

    Lanczos from the gradient, on exact Hessian-vector products. An estimate from below: |value| <= ||H||_2 up to
    rounding, and an eigenvalue lies within `residual` of it.

    Args:
        field: f; the cross-entropy loss by default.
        solver: the eigensolver; `Lanczos(which="smallest")` for the most negative eigenvalue, which is what a small
            L2 perturbation that lowers a margin meets.
        radius: None for the Hessian at the point. A length h in input units for the curvature at that scale: then
            value = v^T D_h(v), the mean second derivative of f from x - hv to x + hv along the unit direction v that
            the solver finds, by central differences of gradients. D_h is no linear map, so this is no eigenvalue and
            no bound; residual = ||D_h(v) - value v|| says how far it is from one.

    Units: of f per squared unit of input. Cost: one forward and one backward, then two backwards per product; about 3
    products converge for the cross-entropy of a trained CNN, about 20 for its margins.

    Raises:
        UserError: f is linear in the logits (margins, logits) and its Hessian is exactly zero on the whole batch, as on
            every piecewise-linear network: the measure would be silently blind.

    Source: the quantity of Mustafa 2020, eq. 4 for p = q = 2; differs: exact products and Lanczos in place of their
    gradient ascent (`meseta.linalg.HessianAscent`).
    """

    solver: Eigensolver = Lanczos()
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None:
            positive("radius", self.radius)
            object.__setattr__(self, "radius", float(self.radius))

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the eigenvalue per example, with residual and convergence."""
        f = self.field.bind(model, x, y)
        if self.radius is not None:
            return self._at_radius(FiniteDifferenceHessian(f, x, self.radius, central=True))
        hessian = Hessian(f, x)
        pair = self.solver(hessian, start(hessian.gradient.detach()))
        check_seen(self, hessian, pair.value, ", or give a radius")
        return Measurement(pair.value, pair.residual, pair.converged, pair.products)

    def _at_radius(self, difference: FiniteDifferenceHessian) -> Measurement:
        """Return the curvature along the solver's direction, evaluated there, not taken from its iteration."""
        pair = self.solver(difference, start(difference.gradient.detach()))
        end = rayleigh(difference, pair.vector, RADIUS_TOLERANCE, pair.products + 1)
        return Measurement(end.value, end.residual, end.converged, end.products)
