"""How the set of inputs of equal f bends."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, random_direction
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import norm, normalized, per_example
from meseta.linalg.solver import check_end


@dataclass(frozen=True, kw_only=True)
class LevelSetCurvature(FieldMeasure):
    """The principal curvature of largest magnitude of the level set {f = f(x)} at x.

    The extreme eigenvalue of P H P / ||g||_2 with g = grad f(x) and P = I - g g^T / ||g||_2^2: 1 / radius of the circle
    that fits the level set best in its most bent direction.

    Signed: positive where the set bends towards lower f, around {f <= f(x)}, as the sphere of radius r does for
    f = ||x||^2 (value 1 / r). For a margin, negative curvature is a boundary that closes in on the correct side.

    A property of the set, not of the function: f and phi(f) with phi' > 0 have the same, so that a well fitted loss is
    no flatter here than its margin is; phi' < 0 turns the sign. At a distance from the decision boundary it is the
    bend of the level set through x, not of the boundary.

    Args:
        field: f; the cross-entropy loss by default.
        solver: Lanczos for the largest magnitude. Curvatures of both signs are of similar size here, and a loose
            tolerance may settle on the wrong one.

    Parts: gradient: ||g||_2.
    Undefined, and NaN: where g = 0 (no level set), and for inputs of one value (its level sets are points).
    Units: 1 per unit of input. Cost: as `SpectralCurvature`, with about 17 products on a trained CNN, whatever f.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).

    Source: Moosavi-Dezfooli et al. 2019 and Fawzi et al. 2018 on the curvature of decision boundaries.
    """

    solver: Lanczos = Lanczos(tol=1e-3)

    def __post_init__(self) -> None:
        instance_of("solver", self.solver, Lanczos)
        check_end(self.solver, "largest_magnitude")  # an end may be the 0 that P H P has along the gradient

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the curvature per example, with residual and convergence."""
        hessian = Hessian(self.field.bind(model, x, y), x)
        gradient = hessian.gradient.detach()
        slope, normal = norm(gradient), normalized(gradient)

        def tangential(v: Tensor) -> Tensor:
            return v - per_example((normal * v).flatten(1).sum(1), v) * normal

        def product(v: Tensor) -> Tensor:
            return tangential(hessian(tangential(v))) / per_example(torch.where(slope > 0, slope, 1), v)

        pair = self.solver(product, tangential(random_direction(x)))
        # Planes are no sign of blindness: f may bend along its gradient alone.
        check_seen(self, hessian, pair.value.abs() + norm(hessian(normal)))
        defined = (slope > 0) & (x[0].numel() > 1)
        return Measurement(
            torch.where(defined, pair.value, torch.nan),
            torch.where(defined, pair.residual, torch.nan),
            pair.converged & defined,
            pair.products + 1,
            {"gradient": slope},
        )
