"""Batched Lanczos iteration with full reorthogonalisation for symmetric, indefinite matrices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.checks import positive, whole
from meseta.errors import UserError
from meseta.linalg.krylov import KrylovSpace
from meseta.linalg.solver import Eigenpair, Eigenpairs, Eigensolver, Matvec, Which


@dataclass(frozen=True, kw_only=True)
class Lanczos(Eigensolver):
    """The extreme eigenpair from the Krylov space of the start vector.

    Builds an orthonormal basis Q of span{v, Hv, H^2 v, ...} with Q^T H Q = T tridiagonal and returns the Ritz pair
    (theta, Q s) of T asked for. Its residual is |beta_k s_k|. Signed: the eigenvalue of largest magnitude may be
    negative. From below: |theta| never exceeds ||H||_2 by more than rounding.

    Where the Krylov space of an example is exhausted (its start lies in an invariant subspace, or is zero), that
    example goes on from a fresh random direction orthogonal to its basis; its neighbours are not touched. As with every
    Krylov method, a small residual proves that an eigenvalue is near, not that no larger one hides in directions nearly
    orthogonal to the start.

    Args:
        steps: most products, at least 1; capped at the dimension, where the answer is exact.
        tol: an example has converged when its residual is at most `tol` |theta|, and, for `largest_magnitude`, when the
            other end of the spectrum cannot lie farther out by more than that as far as its own residual tells.
        which: `largest_magnitude`, `largest` or `smallest` (most negative).
        seed: of the fresh directions.

    Cost: one product a step, until every example has converged; memory (B, steps, d).
    """

    steps: int = 64
    tol: float = 1e-2
    which: Which = "largest_magnitude"
    seed: int = 0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        positive("tol", self.tol)
        if self.which not in ("largest_magnitude", "largest", "smallest"):
            raise UserError(f"`which` must be largest_magnitude, largest or smallest, got {self.which!r}.")

    @torch.no_grad()
    def __call__(self, matvec: Matvec, start: Tensor) -> Eigenpair:
        """Return the eigenpair of each example, from `start` (B, *shape)."""
        found = self.pairs(matvec, start, 1)
        return Eigenpair(
            found.values[:, 0], found.vectors[:, 0], found.residuals[:, 0], found.converged[:, 0], found.products
        )

    @torch.no_grad()
    def pairs(self, matvec: Matvec, start: Tensor, k: int) -> Eigenpairs:
        """Return the first k eigenpairs of each example in the order of `which`, or all d where there are fewer.

        An eigenvalue of multiplicity m shows once in the Krylov space of one start, so that its other m - 1 copies are
        missed unless that space is exhausted and fresh directions find them, as they do for matrices of few distinct
        eigenvalues (of low rank, for one), and as far as `steps` reaches.

        Raises:
            UserError: k above `steps`, which is all that so many products can show.
        """
        whole("k", k, 1)
        if k > self.steps:
            raise UserError(
                f"`k` must be at most the {self.steps} steps of Lanczos, got {k}. Use Lanczos(steps={4 * k})."
            )
        most = min(self.steps, start[0].numel())
        k = min(k, most)
        space = KrylovSpace(matvec, start, most, self.seed)
        while True:
            space.extend()
            if space.size < k:
                continue
            theta, ritz = torch.linalg.eigh(space.tridiagonal())
            index = self._order(theta)[:, :k]
            values = theta.gather(1, index)
            weights = ritz.gather(2, index[:, None].expand(-1, space.size, -1))
            residuals = space.beta[:, None] * weights[:, -1].abs()
            rounding = 10 * torch.finfo(start.dtype).eps * theta.abs().amax(1, keepdim=True)
            converged = space.settled(k)[:, None] & (residuals <= self.tol * values.abs() + rounding)
            if self.which == "largest_magnitude":
                converged = converged & ~self._may_be_overtaken(theta, space.beta[:, None] * ritz[:, -1].abs(), values)
            if space.complete or bool(converged.all()):
                break
        finite = space.finite[:, None]
        return Eigenpairs(
            values=torch.where(finite, values, torch.nan).to(start.dtype),
            vectors=torch.stack([space.combine(w.to(start.dtype)) for w in weights.unbind(2)], 1),
            residuals=torch.where(finite, residuals, torch.nan).to(start.dtype),
            converged=converged & finite,
            products=space.size,
        )

    def _may_be_overtaken(self, theta: Tensor, residuals: Tensor, values: Tensor) -> Tensor:
        """Return where an end of the spectrum without a value among those chosen may still grow beyond the last.

        A Ritz value at an end only moves outwards, and an eigenvalue lies within its residual: an end that is still
        uncertain must not be passed over because the other end is certain, and nearly as far out.
        """
        ends, errors = theta[:, [0, -1]], residuals[:, [0, -1]]
        chosen = torch.stack([(values <= 0).any(1), (values > 0).any(1)], 1)
        least = values[:, -1:].abs()
        return ((ends.abs() + errors > (1 + self.tol) * least) & ~chosen).any(1, keepdim=True)

    def _order(self, theta: Tensor) -> Tensor:
        if self.which == "largest_magnitude":
            return theta.abs().argsort(1, descending=True)
        return theta.argsort(1, descending=self.which == "largest")
