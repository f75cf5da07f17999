"""Batched linear algebra on a matvec: eigensolvers and norms. Knows nothing of models."""

from meseta.linalg.eigensolver import Eigenpair, Eigensolver, Matvec, Which
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import dual_exponent, dual_vector, norm, normalized, per_example
from meseta.linalg.power import HessianAscent, PowerIteration

__all__ = [
    "Eigenpair",
    "Eigensolver",
    "HessianAscent",
    "Lanczos",
    "Matvec",
    "PowerIteration",
    "Which",
    "dual_exponent",
    "dual_vector",
    "norm",
    "normalized",
    "per_example",
]
