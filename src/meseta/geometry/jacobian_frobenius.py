"""The Frobenius norm of the Jacobian of the logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.jacobian import LogitJacobian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_logits
from meseta.geometry.base import Measure, Measurement
from meseta.linalg.norms import norm


@dataclass(frozen=True, kw_only=True)
class JacobianFrobenius(Measure):
    """The Frobenius norm mu = ||V||_F of the Jacobian of the logits, V = [v_0 ... v_{K-1}], v_k = grad_x z_k.

    mu = (sum_k ||v_k||_2^2)^(1/2)

    To first order a perturbation delta moves the logits by at most ||V||_2 ||delta||_2 <= mu ||delta||_2. It also
    counts what all logits share, which no prediction sees: mu^2 = (K/2) nu^2 + K ||mean_k v_k||_2^2, with nu of
    `CrossLipschitz`.

    Units: of the logits per unit of input. Cost: one forward and K backwards to the input, one logit after the other.

    Source: Guo 2020, section 3.3, the local Lipschitz constant mu; `JacobianSpectral` is the smallest such constant.
    """

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return ||V||_F per example."""
        jacobian = LogitJacobian(model, x)
        logits = check_logits(jacobian.logits, x, y).detach()
        mu = torch.zeros_like(logits[:, 0])
        for e_k in torch.eye(logits.shape[1]).to(logits):
            mu = torch.hypot(mu, norm(jacobian.times(e_k.expand_as(logits))))
        return Measurement(mu)
