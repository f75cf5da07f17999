"""Jacobian regularisation, and what it shares with the other penalties on the Jacobian of the logits."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, leaf
from meseta.autodiff.jacobian import logits_and_jacobian, vector_jacobian
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import check_logits
from meseta.errors import UserError
from meseta.linalg.norms import norm, normalized
from meseta.linalg.random import randn
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class JacobianRegularizer(Regularizer):
    """A penalty on the Jacobian of the logits, from all its rows or from one random combination of them.

    Args:
        estimator: `sampled`, an unbiased estimate from one vector-Jacobian product, or `exact`, from all K.
    """

    estimator: Literal["sampled", "exact"] = "sampled"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimator not in ("sampled", "exact"):
            raise UserError(f"`estimator` must be sampled or exact, got {self.estimator!r}.")

    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the penalty or its estimate; the loss comes from the same forward."""
        with derivatives_of_derivatives():
            if self.estimator == "exact":
                logits, jacobian = logits_and_jacobian(model, x, create_graph=True)
                check_logits(logits, x, y)
                value = self.of_jacobian(jacobian)
            else:
                point = leaf(x)
                logits = check_logits(model(point.clone()), x, y)
                value = self.sample(logits, point, generator)
            return Penalty(value, CrossEntropy().of_logits(logits, y), {self.term: value.detach()})

    @property
    @abstractmethod
    def term(self) -> str:
        """What the penalty is called in logs."""

    @abstractmethod
    def of_jacobian(self, jacobian: Tensor) -> Tensor:
        """Return the penalty per example, from the Jacobian (B, K, *input)."""

    @abstractmethod
    def sample(self, logits: Tensor, point: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return an unbiased estimate of the penalty per example, from logits (B, K) that `point` made."""


@dataclass(frozen=True, kw_only=True)
class Jacobian(JacobianRegularizer):
    """Penalise the Frobenius norm of the Jacobian of the logits.

    mean_i l(x_i) + weight ||V(x_i)||_F^2,  V = [v_0 ... v_{K-1}],  v_k = grad_x z_k

    Unlike Omega of `CrossLipschitz` it also counts what all logits share, which the softmax does not see:
    ||V||_F^2 = (K/2) Omega + K ||mean_k v_k||_2^2.

    Args:
        weight: in loss units per squared (logit per input unit), at least 0; half of lambda_JR in the paper.
        estimator: `sampled`, K ||V u||^2 with u uniform on the unit sphere, which is unbiased and takes one
            vector-Jacobian product, or `exact`, from all K.

    Terms: cross_entropy, jacobian = ||V||_F^2 or its estimate.
    Cost: that of `CrossLipschitz`.
    Source: Hoffman, Roberts & Yaida 2019, Algorithm 1 with one projection.
    """

    weight: float = 0.005

    @property
    def term(self) -> str:
        """The name of ||V||_F^2."""
        return "jacobian"

    def of_jacobian(self, jacobian: Tensor) -> Tensor:
        """Return ||V||_F^2."""
        return norm(jacobian) ** 2

    def sample(self, logits: Tensor, point: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return K ||V u||^2."""
        u = normalized(randn(logits.shape, logits, generator))
        return logits.shape[1] * norm(vector_jacobian(logits, point, u)) ** 2
