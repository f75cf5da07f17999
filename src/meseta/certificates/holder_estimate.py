"""The distance that slope and curvature of the margins allow."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import BoundField
from meseta.certificates.ball_estimate import BallEstimate, differentiable_gradient
from meseta.certificates.taylor import taylor_radius
from meseta.checks import check_curved, instance_of
from meseta.errors import UserError
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import norm, per_example
from meseta.linalg.operator_norm import OperatorNorm
from meseta.linalg.solver import Eigensolver, Solver
from meseta.shapes import Float
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class HolderEstimate(BallEstimate):
    """The distance within which slope and curvature keep every margin positive, with the curvature seen at points.

    min over rivals j of the largest R with R (||grad f_j(x)||_q + R K_j(R) / 2) <= f_j(x),
    K_j(R) = max ||H_{f_j}(x + gamma)||_{p->q} over ||gamma||_p <= R,  f_j = z_y - z_j, 1/p + 1/q = 1

    A theorem for the true K_j(R). Here it is the largest curvature seen at x and at `samples` points of the ball, each
    from an iterative solver: from below, so that the distance is an estimate, not a certificate.

    Args:
        norm: of the perturbation; L2, Linf or L1.
        solver: what gives the curvature at a point. None for Lanczos() in L2 and OperatorNorm() elsewhere.
            OperatorNorm looks for ||H||_{p->q} itself, from below; for Linf that problem is NP-hard. An eigensolver
            goes through the spectral norm, |v^T H v| <= ||v||_2^2 ||H||_2 <= c ||H||_2 for ||v||_p <= 1 with c = d for
            Linf and 1 for L2 and L1: from above up to its tolerance. Lanczos(which="smallest") takes only curvature
            that lowers the margin, c max(-lambda_min, 0): enough for the theorem, and never a smaller distance.
        samples: points of the ball at which the curvature is looked for beside x; 0 for x alone.
        steps: of projected gradient ascent on ||Hv||_q from each of them, v held fixed in a step.
        seed: of the points.
        slab: pairs of example and rival at a time; memory is that of the solver for so many inputs.

    Parts: margin, slope, curvature: of the rival that decides, the curvature at the point that decides.
    Cost: per rival and point, a forward, a backward and the solver's products; with ascent one third derivative a step.

    Raises:
        UserError: the margins' Hessian is exactly zero on a slab, as on every piecewise-linear network, or a solver
            that does not know the norm.

    Source: Mustafa 2020, Theorem 2 and Corollary 1; the minimum over j is taken of the radii, which is the same number.
    Yu 2018, eq. 9 is the case Linf with x alone, once the averages of |J_i| and |lambda_i| that it is read as are
    replaced: to second order |L(x + delta) - L(x)| <= eps ||J||_1 + eps^2 ||H||_{inf->1} / 2. Differs: every rival, not
    the runner-up alone.
    """

    solver: Solver | None = None

    looked_for: ClassVar[str] = "curvature"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver is None:
            return
        instance_of("solver", self.solver, Solver)
        if getattr(self.solver, "which", None) == "largest":
            raise UserError(
                f"`solver` must look for the eigenvalue of largest magnitude or the smallest, got {self.solver}: "
                "curvature that raises a margin bounds nothing."
            )

    def constant(self, f: BoundField, x: Float[Tensor, "b *input"]) -> BoundField:
        """Return the curvature along the direction that the solver finds at x."""
        threat = Threat(self.norm)
        solver = self.solver or (Lanczos() if self.norm == "L2" else OperatorNorm())
        spectral = isinstance(solver, Eigensolver)
        p, q = (2.0, 2.0) if spectral else (threat.p, threat.dual)
        widening = x[0].numel() if spectral and self.norm == "Linf" else 1  # max ||v||_2^2 over ||v||_p = 1
        hessian = Hessian(f, x)
        gradient = hessian.gradient.detach()
        v = solver.direction(hessian, torch.where(per_example(norm(gradient) > 0, gradient), gradient, 1), p, q)
        check_curved(hessian.gradient, norm(hessian(v)), type(self).__name__, "take LinearPiece(), exact on each piece")

        def along(points: Tensor) -> Tensor:
            slope = differentiable_gradient(f, points)
            if not slope.requires_grad:  # f is linear
                return torch.zeros_like(points).flatten(1).sum(1)
            (bend,) = torch.autograd.grad(slope, points, v, create_graph=True, materialize_grads=True)
            if getattr(solver, "which", None) == "smallest":
                return widening * -(v * bend).flatten(1).sum(1).clamp_max(0)
            return widening * norm(bend, q)

        return along

    def distance(self, margin: Tensor, slope: Tensor, constant: Tensor) -> Tensor:
        """Return the largest R with R (slope + R curvature / 2) <= margin."""
        return taylor_radius(margin, slope, constant)
