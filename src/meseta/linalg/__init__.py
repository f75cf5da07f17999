"""Batched linear algebra on a matvec: eigensolvers and norms. Knows nothing of models."""

from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import dual_exponent, dual_vector, norm, normalized, per_example
from meseta.linalg.operator_norm import OperatorNorm
from meseta.linalg.power import HessianAscent, PowerIteration
from meseta.linalg.solver import Eigenpair, Eigensolver, Matvec, Solver, Which

__all__ = [
    "Eigenpair",
    "Eigensolver",
    "HessianAscent",
    "Lanczos",
    "Matvec",
    "OperatorNorm",
    "PowerIteration",
    "Solver",
    "Which",
    "dual_exponent",
    "dual_vector",
    "norm",
    "normalized",
    "per_example",
]
