"""The spectral norm of the Jacobian of the logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.jacobian import LogitJacobian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_logits, instance_of, whole
from meseta.geometry.base import Measure, Measurement
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.random import randn
from meseta.linalg.solver import Eigensolver, check_end


@dataclass(frozen=True, kw_only=True)
class JacobianSpectral(Measure):
    """The spectral norm ||V||_2 of the Jacobian of the logits, V = [v_0 ... v_{K-1}], v_k = grad_x z_k.

    ||V||_2 = max ||V^T delta||_2 over ||delta||_2 = 1 = lambda_max(V^T V)^(1/2)

    The local Lipschitz constant of the logits in L2: to first order, no perturbation of length eps moves them by more
    than eps ||V||_2, and one does. Products u -> V^T V u act on K entries, so that Lanczos ends in at most K of them
    and holds nothing of size K d. An estimate from below; ||V||_F / K^(1/2) <= ||V||_2 <= ||V||_F.

    Args:
        solver: the eigensolver for V^T V.
        seed: of the start, one random direction of K entries that all examples share.

    Units: of the logits per unit of input, also of the residual: a singular value of V lies within it of `value`.
    Cost: one forward and two backwards, then one backward and one through a backward per product.
    """

    solver: Eigensolver = Lanczos()
    seed: int = 0

    def __post_init__(self) -> None:
        instance_of("solver", self.solver, Eigensolver)
        check_end(self.solver, "largest_magnitude", "largest")
        whole("seed", self.seed, 0)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return ||V||_2 per example, with residual and convergence."""
        jacobian = LogitJacobian(model, x)
        logits = check_logits(jacobian.logits, x, y).detach()
        start = randn((1, logits.shape[1]), logits, torch.Generator().manual_seed(self.seed)).expand_as(logits)
        pair = self.solver(lambda u: jacobian.transposed_times(jacobian.times(u)), start)
        value = pair.value.clamp_min(0).sqrt()
        # |a - b| = |a^2 - b^2| / (a + b) for singular values, and at most |a^2 - b^2|^(1/2).
        root = pair.residual.sqrt()
        residual = torch.where(value > root, pair.residual / value, root)
        return Measurement(value, residual, pair.converged, pair.products)
