"""An orthonormal Krylov basis per example, which restarts in a fresh direction where it is exhausted."""

import torch
from torch import Tensor

from meseta.linalg.norms import norm, normalized
from meseta.linalg.random import randn
from meseta.linalg.solver import Matvec
from meseta.shapes import Bool, Float


class KrylovSpace:
    """An orthonormal Krylov basis of each example and the tridiagonal matrix of H in it.

    Attributes:
        size: basis vectors so far. beta: (B,) norm of the next one before normalisation, 0 where exhausted.
        finite: (B,) whether every product was finite.
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
        self._exhausted = torch.zeros_like(self._random)
        self._shown = torch.zeros_like(self._age)  # random directions that were exhausted
        self.size = 0
        self.finite = flat.isfinite().all(1)
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
        self._exhausted = exhausted
        self._shown = self._shown + (exhausted & self._random).long()
        self._next = normalized(w)
        if not self.complete:
            self._refresh(exhausted)

    def settled(self, k: int) -> Bool[Tensor, "b"]:
        """Return where the current direction had a chance to show k larger eigenvalues.

        k + 2 steps since the start or the last fresh direction; or k random directions exhausted, each of which has
        shown every eigenvalue that there is outside the earlier basis, once; or nothing left to find.
        """
        seen = torch.where(self._exhausted, self._shown >= k, self._age >= k + 2)
        return seen | (self.size == self._basis.shape[2])

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
        # One draw a step for all, needed or not, so that no example's direction depends on its neighbours.
        noise = randn((1, self._next.shape[1]), self._next, self._generator)
        if not where.any():
            return
        fresh = normalized(self._orthogonalize(noise.expand_as(self._next)))
        self._next = torch.where(where[:, None], fresh, self._next)
        self._age = torch.where(where, 0, self._age)
        self._random = self._random | where
