"""The operator norm of the input Hessian between two norms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import exponent, instance_of, whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, check_small, dense, few_at_a_time, start
from meseta.linalg.dense import symmetric_eigenvalues
from meseta.linalg.norms import INFINITY, dual_exponent, norm
from meseta.linalg.operator_norm import OperatorNorm
from meseta.linalg.solver import Solver, check_end
from meseta.shapes import Float


@dataclass(frozen=True, kw_only=True)
class HessianNorm(FieldMeasure):
    """The operator norm of the input Hessian, ||H||_{p->q} = max ||Hv||_q over ||v||_p = 1, from below.

    How far the gradient can turn: for a perturbation delta, ||grad f(x + delta) - grad f(x)||_q is about
    ||H||_{p->q} ||delta||_p at most, and |delta^T H delta| <= ||H||_{p->q} ||delta||_p^2 where 1/p + 1/q = 1.

    value = ||Hv||_q at the v that the solver finds: a lower bound whatever v is, exact for p = q = 2 up to
    convergence. inf -> 1 is NP-hard: restarts help and prove nothing; `upper` says how much may be missing (on a
    trained CNN the value was 0.93 of it for the loss, 0.51 for margins).

    Args:
        field: f; the cross-entropy loss by default.
        p: of the perturbation: inf, 2 or 1 as the threat is Linf, L2 or L1; any in [1, inf].
        q: of the gradient's change; the dual of p in Taylor's bounds.
        solver: the search for v.
        upper: whether to add an upper bound, from the dense Hessian: the least of
            || (||row_i||_{p*})_i ||_q, || (||column_j||_q)_j ||_{p*} and d^a ||H||_2 with p* the dual of p and
            a = max(0, 1/2 - 1/p) + max(0, 1/q - 1/2). For inf -> 1 these are sum |H_ij| and d ||H||_2. It equals the
            norm for p = 1 (the longest column), q = inf (the longest row) and p = q = 2.
        most: values of an input, above which `upper` is refused.

    Parts: upper, where asked for; a bound on the norm of the matrix as computed, that is, up to rounding.
    Units: of f per squared unit of input, lengths in the p-norm. Cost: one forward and one backward, then two backwards
    per product: 21 for each restart of the default solver and one more; `upper` takes d and an eigendecomposition.

    Raises:
        UserError: a solver that does not know these norms; `upper` on inputs of more than `most` values; f is linear in
            the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).

    Source: Mustafa 2020, eq. 4, K at the point; differs: the nonlinear power method, not gradient ascent
    (`solver=HessianAscent()`).
    """

    p: float = INFINITY
    q: float = 1.0
    solver: Solver = OperatorNorm(restarts=5)
    upper: bool = False
    most: int = 1024

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", exponent("p", self.p))
        object.__setattr__(self, "q", exponent("q", self.q))
        instance_of("solver", self.solver, Solver)
        check_end(self.solver, "largest_magnitude")
        instance_of("upper", self.upper, bool)
        whole("most", self.most, 1)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the norm from below per example, and from above where asked for."""
        if self.upper:
            check_small(self, x, self.most, "Leave `upper` out")
        hessian = Hessian(self.field.bind(model, x, y), x)
        products = 0

        def product(v: Tensor) -> Tensor:
            nonlocal products
            products += 1
            return hessian(v)

        v = self.solver.direction(product, start(hessian.gradient.detach()), self.p, self.q)
        value = norm(product(v), self.q)
        check_seen(self, hessian, value)
        parts = {"upper": self._upper(model, x, y)} if self.upper else {}
        return Measurement(value, products=products + (x[0].numel() if self.upper else 0), parts=parts)

    def _upper(self, model: Model, x: Tensor, y: Tensor) -> Tensor:
        bounds = []
        for some, labels in few_at_a_time(x, y, x[0].numel() ** 2):
            matrix = dense(Hessian(self.field.bind(model, some, labels), some), some)
            bounds.append(norm_bound(matrix, self.p, self.q).to(x.dtype))
        return torch.cat(bounds)

    @property
    def name(self) -> str:
        """The measure with its field and its two norms."""
        return f"{super().name}, {self.p:g} -> {self.q:g}"


def norm_bound(matrix: Float[Tensor, "b d d"], p: float, q: float) -> Float[Tensor, "b"]:
    """Return an upper bound of ||H||_{p->q} of symmetric matrices, in float64; see `HessianNorm`."""
    matrix, dual = matrix.double(), dual_exponent(p)

    def mixed(inner: float, outer: float) -> Tensor:
        # Rows are columns: H is symmetric.
        return norm(torch.linalg.vector_norm(matrix, inner, 2), outer)

    widening = max(0, 0.5 - 1 / p) + max(0, 1 / q - 0.5)
    spectral = matrix.shape[1] ** widening * symmetric_eigenvalues(matrix).abs().amax(1)
    return mixed(dual, q).minimum(mixed(q, dual)).minimum(spectral)
