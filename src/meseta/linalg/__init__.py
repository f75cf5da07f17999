"""Batched linear algebra on a matvec: eigensolvers and norms. Knows nothing of models."""

from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import dual_exponent, dual_vector, norm, normalized, per_example
from meseta.linalg.operator_norm import OperatorNorm
from meseta.linalg.power import HessianAscent, PowerIteration
from meseta.linalg.solver import Eigenpair, Eigenpairs, Eigensolver, Matvec, Solver, Which
from meseta.linalg.trace import Sampled, hutchinson_frobenius, hutchinson_trace, lanczos_quadrature

__all__ = [
    "Eigenpair",
    "Eigenpairs",
    "Eigensolver",
    "HessianAscent",
    "Lanczos",
    "Matvec",
    "OperatorNorm",
    "PowerIteration",
    "Sampled",
    "Solver",
    "Which",
    "dual_exponent",
    "dual_vector",
    "hutchinson_frobenius",
    "hutchinson_trace",
    "lanczos_quadrature",
    "norm",
    "normalized",
    "per_example",
]
