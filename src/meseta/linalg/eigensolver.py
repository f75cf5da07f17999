"""What every batched eigensolver takes and returns: a matvec and start vectors in, one eigenpair per example out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Matvec = Callable[[Tensor], Tensor]
"""A batch of symmetric matrices as a product (B, *shape) -> (B, *shape)."""

Which = Literal["largest_magnitude", "largest", "smallest"]


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


@dataclass(frozen=True, kw_only=True)
class Eigensolver(ABC):
    """An iteration for an extreme eigenpair of each symmetric matrix in a batch."""

    @abstractmethod
    def __call__(self, matvec: Matvec, start: Tensor) -> Eigenpair:
        """Return an eigenpair per example, iterating from `start` (B, *shape)."""
