"""What every solver takes and returns: a matvec and start vectors in, one direction or eigenpair per example out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from meseta.errors import UserError

Matvec = Callable[[Tensor], Tensor]
"""A batch of symmetric matrices as a product (B, *shape) -> (B, *shape)."""

Which = Literal["largest_magnitude", "largest", "smallest"]


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """A search for the direction that each symmetric matrix H of a batch stretches most."""

    @abstractmethod
    def direction(self, matvec: Matvec, start: Tensor, p: float = 2, q: float = 2) -> Tensor:
        """Return v (B, *shape), ||v||_p = 1, that makes ||Hv||_q large; ||Hv||_q <= ||H||_{p->q} whatever v is.

        Raises:
            UserError: the solver does not know these norms.
        """


@dataclass(frozen=True)
class Eigenpair:
    """One eigenpair per example, with the evidence for it.

    Attributes:
        value: (B,) signed eigenvalue; NaN where the product gave NaN or infinity.
        vector: (B, *shape) of unit L2 norm.
        residual: (B,) ||Hv - value v||_2: an eigenvalue of H lies within it of `value`.
        converged: (B,) whether the residual met the tolerance.
        products: how many products with H were spent, each over the whole batch.
    """

    value: Tensor
    vector: Tensor
    residual: Tensor
    converged: Tensor
    products: int


@dataclass(frozen=True)
class Eigenpairs:
    """Several eigenpairs per example, the one asked for first; fields as of `Eigenpair`.

    Attributes:
        values: (B, k). vectors: (B, k, *shape), orthonormal. residuals, converged: (B, k). products: over the batch.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    converged: Tensor
    products: int


def check_end(solver: Solver, *ends: Which) -> None:
    """Raise where a solver with a choice looks for another end of the spectrum than one of those named."""
    found = getattr(solver, "which", ends[0])
    if found not in ends:
        raise UserError(f"`solver` must look for the {' or '.join(ends)} eigenvalue, got which={found!r}. Set that.")


@dataclass(frozen=True, kw_only=True)
class Eigensolver(Solver):
    """An iteration for an extreme eigenpair of each symmetric matrix in a batch."""

    @abstractmethod
    def __call__(self, matvec: Matvec, start: Tensor) -> Eigenpair:
        """Return an eigenpair per example, iterating from `start` (B, *shape)."""

    def direction(self, matvec: Matvec, start: Tensor, p: float = 2, q: float = 2) -> Tensor:
        """Return the eigenvector; of the eigenvalue of largest magnitude it gives ||H||_2 itself."""
        if (p, q) != (2, 2):
            raise UserError(
                f"`solver`: {type(self).__name__} finds eigenvectors, which give the norm for p = q = 2 alone, and the "
                f"norm asked for is {p:g} -> {q:g}. Use OperatorNorm()."
            )
        return self(matvec, start).vector
