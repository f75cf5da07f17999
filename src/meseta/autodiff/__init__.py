"""Per-example calculus: scalar fields of the input and their first and second derivatives."""

from meseta.autodiff.dense import dense_gauss_newton, dense_hessian, dense_jacobian
from meseta.autodiff.gauss_newton import GaussNewton
from meseta.autodiff.gradient import full_precision, value_and_gradient
from meseta.autodiff.hessian import FiniteDifferenceHessian, Hessian
from meseta.autodiff.jacobian import LogitJacobian, logits_and_jacobian
from meseta.autodiff.scalar_fields import (
    DLR,
    CrossEntropy,
    Decision,
    Logit,
    Margin,
    Model,
    ScalarField,
    bind_all_rivals,
    runner_up,
)

__all__ = [
    "DLR",
    "CrossEntropy",
    "Decision",
    "FiniteDifferenceHessian",
    "GaussNewton",
    "Hessian",
    "Logit",
    "LogitJacobian",
    "Margin",
    "Model",
    "ScalarField",
    "bind_all_rivals",
    "dense_gauss_newton",
    "dense_hessian",
    "dense_jacobian",
    "full_precision",
    "logits_and_jacobian",
    "runner_up",
    "value_and_gradient",
]
