"""How a power iteration for the input Hessian converges, on exact products and on finite differences."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import FiniteDifferenceHessian, Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_curved, positive, whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.linalg.norms import norm, normalized, per_example
from meseta.linalg.random import randn
from meseta.linalg.solver import Matvec


@dataclass(frozen=True, kw_only=True)
class PowerConvergence(FieldMeasure):
    """How far the unit vectors of a power iteration u <- Hu / ||Hu||_2 still move in its last step, up to sign.

    value = min(||u_n - u_{n-1}||_2, ||u_n + u_{n-1}||_2),  n = steps

    Falls as |lambda_2 / lambda_1|^n where the iteration finds the eigenvector. The first step of a random start is
    about 2^(1/2), whatever H is. On differences that are nothing but rounding the curve stays at 1: all share the error
    of grad f(x), so that two of them have the cosine 1/2. A vanishing movement says that the iteration has settled, not
    that its eigenvalue is the largest one.

    Args:
        field: f; the cross-entropy loss by default.
        steps: iterations n, at least 1.
        radius: h of the differences (grad f(x + hu) - grad f(x)) / h, in input units; as published. It is not guarded:
            where it is below the resolution of the inputs, the curve of `difference` shows what rounding does.
        seed: of the start, one random direction that all examples share.

    Parts:
        exact: (B, steps), the movement of every step on exact products; its last entry is the value. NaN from where Hu
            is zero, as in all of these curves.
        difference: the same on the differences.
        exact_as_published, difference_as_published: ||u_i - u_{i-1}||_2, which tends to 2 and not to 0 where the
            dominant eigenvalue is negative.

    Units: none; 0 to 2^(1/2), as published to 2. Cost: two forwards and backwards, then per step two backwards for the
    exact product and one forward and one backward for the difference.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch.

    Source: Mei 2022, section 5.1 and Figure 5. Differs: up to sign, and with the exact curve beside it. That their
    iteration mostly did not converge is in good part a finding about h = 1e-6 in float32: a small CNN on CIFAR-10
    stayed at 1 before training and at 0.26 after, where exact products went to 0.72 and below 0.01 in 12 steps.
    """

    steps: int = 10
    radius: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        positive("radius", self.radius)
        whole("seed", self.seed, 0)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the last movement per example, and the curves."""
        f = self.field.bind(model, x, y)
        noise = randn((1, *x.shape[1:]), x, torch.Generator().manual_seed(self.seed))
        start = normalized(noise).expand_as(x)
        hessian = Hessian(f, x)
        if self.field.linear_in_logits:
            instead = "measure CrossEntropy(), whose Hessian is not zero there"
            check_curved(hessian.gradient, norm(hessian(start)), type(self).__name__, instead)
        exact, exact_as_published = self._movements(hessian, start)
        differences = FiniteDifferenceHessian(f, x, self.radius, guarded=False)
        difference, difference_as_published = self._movements(differences, start)
        parts = {
            "exact": exact,
            "difference": difference,
            "exact_as_published": exact_as_published,
            "difference_as_published": difference_as_published,
        }
        return Measurement(exact[:, -1], products=2 * self.steps, parts=parts)

    def _movements(self, matvec: Matvec, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return the movements (B, steps) up to sign, and as they are."""
        u, apart, opposite = start, [], []
        for _ in range(self.steps):
            hu = matvec(u).detach()
            moved = torch.where(per_example(norm(hu) > 0, hu), normalized(hu), torch.nan)
            apart.append(norm(moved - u))
            opposite.append(norm(moved + u))
            u = moved
        as_published = torch.stack(apart, 1)
        return torch.minimum(as_published, torch.stack(opposite, 1)), as_published
