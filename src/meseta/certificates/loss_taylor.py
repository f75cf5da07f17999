"""The distance at which the second-order model of the loss says that the classifier may err."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.certificates.base import Proxy
from meseta.certificates.taylor import loss_gap, taylor_radius
from meseta.errors import UserError
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import dual_vector, norm
from meseta.linalg.solver import Eigensolver
from meseta.shapes import Float, Int
from meseta.threat import Norm, Threat


@dataclass(frozen=True, kw_only=True)
class LossTaylor(Proxy):
    """A lower bound on the distance at which the quadratic model of the loss reaches log 2.

    2 xi / (||g||_q + sqrt(||g||_q^2 + 2 c lambda xi)),  xi = log 2 - l(x), g = grad l(x), lambda = max(lambda_max, 0)

    lambda_max is that of the Hessian H of the loss, and c = max ||r||_2^2 over ||r||_p <= 1: 1 in L2, d in Linf. It
    bounds min ||r||_p with l + g^T r + r^T H r / 2 >= log 2, a distance in the quadratic model: the loss itself may get
    there earlier or later. An example that is right at p_y <= 1/2 (K > 2) has xi <= 0 and distance 0.

    Args:
        norm: of the perturbation; L2 or Linf.
        solver: finds the largest eigenvalue, from below, so that its tolerance is one of the distance.

    Parts: gap xi; slope ||g||_q; curvature c lambda; upper, a distance at which the model does reach log 2: along w = u
    in L2 and sign(u) in Linf, u the eigenvector, 2 xi / (|g^T w| + sqrt((g^T w)^2 + 2 w^T H w xi)), infinite where it
    never does.
    Cost: one forward and one backward, then two backwards per product.

    Raises:
        UserError: a solver that does not look for the largest eigenvalue.

    Source: Guo 2020, Lemma 3.1 and eq. 40. Differs: xi from log 2 for any number of classes, where the paper takes
    log K for K > 2: the model errs at losses below log K; lambda_max in place of ||H||_2, since only curvature that
    raises the loss counts; the stable form of the root; in Linf d lambda in place of d ||H||_1, which is never smaller.
    """

    norm: Norm = "L2"
    solver: Eigensolver = Lanczos(which="largest")

    def __post_init__(self) -> None:
        if self.norm not in ("L2", "Linf"):
            raise UserError(f"`norm` must be L2 or Linf, got {self.norm!r}.")
        if not isinstance(self.solver, Eigensolver) or getattr(self.solver, "which", None) != "largest":
            raise UserError(
                f'`solver` must look for the largest eigenvalue, as Lanczos(which="largest"): {self.solver}.'
            )

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the distance, with the gap, the slope, the curvature and the upper form."""
        with torch.no_grad():
            gap = loss_gap(model(x.clone()), y)
        q = Threat(self.norm).dual
        hessian = Hessian(CrossEntropy().bind(model, x, y), x)
        gradient = hessian.gradient.detach()
        pair = self.solver(hessian, gradient)
        slope = norm(gradient, q).double()
        curvature = (1 if self.norm == "L2" else x[0].numel()) * pair.value.double().clamp_min(0)
        w = dual_vector(pair.vector, q)
        along = (gradient * w).flatten(1).sum(1).double().abs()
        bend = (w * hessian(w)).flatten(1).sum(1).double()
        upper = torch.where(along**2 + 2 * bend * gap < 0, torch.inf, taylor_radius(gap, along, bend))
        parts = {"gap": gap, "slope": slope, "curvature": curvature, "upper": torch.where(gap > 0, upper, 0)}
        return torch.where(gap > 0, taylor_radius(gap, slope, curvature), gap.clamp_max(0)), parts
