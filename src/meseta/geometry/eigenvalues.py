"""The first few eigenvalues of the input Hessian."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of, whole
from meseta.errors import UserError
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, start
from meseta.linalg.lanczos import Lanczos


@dataclass(frozen=True, kw_only=True)
class Eigenvalues(FieldMeasure):
    """The first k eigenvalues of the input Hessian H = grad^2 f(x), with their signs; the value is the first.

    Lanczos from the gradient. An eigenvalue of H lies within its residual of each; one of multiplicity m counts once,
    unless the Krylov space ends before `steps` (`meseta.linalg.Lanczos.pairs`).

    Args:
        field: f; the cross-entropy loss by default.
        k: how many, at most the solver's steps; inputs of fewer values have that many.
        solver: its `which` says which eigenvalues and in what order: by magnitude, from the largest, or from the
            smallest.

    Parts: eigenvalues, residuals: (B, k) each, in the order of `which`.
    Units: of f per squared unit of input. Cost: one forward and one backward, then two backwards per product; about 5 k
    products on a trained CNN. An example has converged when all its k have.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).
    """

    k: int = 5
    solver: Lanczos = Lanczos()

    def __post_init__(self) -> None:
        whole("k", self.k, 1)
        instance_of("solver", self.solver, Lanczos)
        if self.k > self.solver.steps:
            raise UserError(
                f"`k` must be at most the {self.solver.steps} steps of the solver, got {self.k}. "
                f"Use Lanczos(steps={4 * self.k})."
            )

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the eigenvalues per example, with residuals and convergence."""
        hessian = Hessian(self.field.bind(model, x, y), x)
        found = self.solver.pairs(hessian, start(hessian.gradient.detach()), self.k)
        check_seen(self, hessian, found.values[:, 0])
        parts = {"eigenvalues": found.values, "residuals": found.residuals}
        return Measurement(found.values[:, 0], found.residuals[:, 0], found.converged.all(1), found.products, parts)
