"""Eigenvalues of dense symmetric matrices, of which one bad example spoils no neighbour."""

import torch
from torch import Tensor

from meseta.shapes import Float


def symmetric_eigenvalues(matrix: Float[Tensor, "b d d"]) -> Float[Tensor, "b d"]:
    """Return all eigenvalues in ascending order, in float64; NaN where a matrix has an entry that is not finite.

    What rounding has made unsymmetric is averaged with its transpose. Eigenvalues below the resolution of the dtype
    that the entries were computed in, times ||H||_2, are rounding: float64 here cannot bring them back.
    """
    matrix = matrix.double()
    finite = matrix.flatten(1).isfinite().all(1)
    matrix = torch.where(finite[:, None, None], (matrix + matrix.mT) / 2, 0)
    return torch.where(finite[:, None], torch.linalg.eigvalsh(matrix), torch.nan)
