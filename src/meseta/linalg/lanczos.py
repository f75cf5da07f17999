"""Batched Lanczos iteration with full reorthogonalisation for symmetric, indefinite matrices."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.checks import positive, whole
from meseta.errors import UserError
from meseta.linalg.norms import norm, normalized
from meseta.linalg.random import randn
from meseta.linalg.solver import Eigenpair, Eigensolver, Matvec, Which
from meseta.shapes import Bool, Float


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
        tol: an example has converged when its residual is at most `tol` |theta|.
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
        space = _KrylovSpace(matvec, start, min(self.steps, start[0].numel()), self.seed)
        while True:
            space.extend()
            theta, ritz = torch.linalg.eigh(space.tridiagonal())
            index = self._select(theta)[:, None]
            value = theta.gather(1, index).squeeze(1)
            weights = ritz.gather(2, index[:, None].expand(-1, space.size, -1)).squeeze(2)
            residual = space.beta * weights[:, -1].abs()
            rounding = 10 * torch.finfo(start.dtype).eps * theta.abs().amax(1)
            converged = space.settled & (residual <= self.tol * value.abs() + rounding)
            if space.complete or bool(converged.all()):
                break
        return Eigenpair(
            value=torch.where(space.finite, value, torch.nan).to(start.dtype),
            vector=space.combine(weights.to(start.dtype)),
            residual=torch.where(space.finite, residual, torch.nan).to(start.dtype),
            converged=converged & space.finite,
            products=space.size,
        )

    def _select(self, theta: Tensor) -> Tensor:
        if self.which == "largest_magnitude":
            return theta.abs().argmax(1)
        return theta.argmax(1) if self.which == "largest" else theta.argmin(1)


class _KrylovSpace:
    """An orthonormal Krylov basis of each example and the tridiagonal matrix of H in it.

    Attributes:
        size: basis vectors so far. beta: (B,) norm of the next one before normalisation, 0 where exhausted.
        finite: (B,) whether every product was finite. settled: (B,) whether the current direction had a chance to
        show a larger eigenvalue: three steps since the start or the last fresh direction, or nothing left to find.
    """

    def __init__(self, matvec: Matvec, start: Tensor, most: int, seed: int) -> None:
        self._matvec, self._shape, self._most = matvec, start.shape, most
        flat = start.detach().flatten(1)
        self._basis = flat.new_zeros(len(flat), most, flat.shape[1])
        self._diagonal: list[Tensor] = []
        self._off_diagonal: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(seed)
        self._next = normalized(torch.where(flat.isfinite().all(1, keepdim=True), flat, 0))
        self._scale = flat.new_zeros(len(flat))
        self._age = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
        self._random = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        self.size = 0
        self.finite = flat.isfinite().all(1)
        self.settled = torch.zeros_like(self.finite)
        self.beta = flat.new_zeros(len(flat))
        self._refresh(norm(self._next) == 0)

    @property
    def complete(self) -> bool:
        """Whether no further step is allowed."""
        return self.size == self._most

    def extend(self) -> None:
        """Add a basis vector, at the cost of one product."""
        q = self._next
        self._basis[:, self.size] = q
        self.size += 1
        w = self._matvec(q.view(self._shape)).detach().flatten(1)
        finite = w.isfinite().all(1)
        self.finite = self.finite & finite
        w = torch.where(finite[:, None], w, 0)  # one bad example must not spoil the batched eigenproblem
        alpha = (q * w).sum(1)
        w = self._orthogonalize(w)
        beta = norm(w)
        self._scale = torch.maximum(self._scale, alpha.abs() + beta)
        exhausted = beta <= 10 * torch.finfo(w.dtype).eps * w.shape[1] ** 0.5 * self._scale
        self.beta = torch.where(exhausted, 0, beta).double()
        self._diagonal.append(alpha.double())
        self._off_diagonal.append(self.beta)
        self._age += 1
        # A random direction that is exhausted has shown every eigenvalue there is outside the earlier basis.
        self.settled = torch.where(exhausted, self._random, self._age >= 3) | (self.size == w.shape[1])
        self._next = normalized(w)
        if not self.complete:
            self._refresh(exhausted)

    def tridiagonal(self) -> Float[Tensor, "b k k"]:
        """Return T in float64."""
        matrix = torch.diag_embed(torch.stack(self._diagonal, 1))
        if self.size > 1:
            off = torch.stack(self._off_diagonal[:-1], 1)
            matrix = matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        return matrix

    def combine(self, weights: Float[Tensor, "b k"]) -> Tensor:
        """Return the unit vectors Q s, in the shape of the start."""
        return normalized(torch.einsum("bkd,bk->bd", self._basis[:, : self.size], weights)).view(self._shape)

    def _orthogonalize(self, w: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        basis = self._basis[:, : self.size]
        for _ in range(2):  # once leaves an error of eps ||w|| / ||w_orthogonal||; twice is enough
            w = w - torch.einsum("bkd,bk->bd", basis, torch.einsum("bkd,bd->bk", basis, w))
        return w

    def _refresh(self, where: Bool[Tensor, "b"]) -> None:
        """Replace the next direction of some examples by a random one orthogonal to their basis."""
        if not where.any():
            return
        fresh = normalized(self._orthogonalize(randn(self._next.shape, self._next, self._generator)))
        self._next = torch.where(where[:, None], fresh, self._next)
        self._age = torch.where(where, 0, self._age)
        self._random = self._random | where
