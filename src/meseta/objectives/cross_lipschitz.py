"""Cross-Lipschitz regularisation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.jacobian import vector_jacobian
from meseta.checks import exponent
from meseta.linalg.norms import norm, normalized
from meseta.linalg.random import randn
from meseta.objectives.jacobian import JacobianRegularizer


@dataclass(frozen=True, kw_only=True)
class CrossLipschitz(JacobianRegularizer):
    """Penalise the differences between the logits' input gradients.

    mean_i l(x_i) + weight Omega(x_i),  Omega = (1/K^2) sum_{l,m} ||v_l - v_m||_q^2,  v_k = grad_x z_k

    Args:
        weight: in loss units per squared (logit per input unit), at least 0.
        q: exponent of the norm, the dual of the threat's p.
        estimator: `sampled`, an unbiased estimate of Omega from one vector-Jacobian product, or `exact`, from all K.
            For q = 2, Omega = (2/K) ||V C||_F^2 with C = I - 11^T/K, and the sample is (2/K)(K-1) ||V u||^2 with u
            uniform on the unit sphere of centred vectors, which is exact for K = 2. For other q it is one pair of
            classes drawn uniformly, times (K-1)/K.

    Terms: cross_entropy, cross_lipschitz = Omega or its estimate.
    Cost: sampled, one double backward, 2.0 plain steps' arithmetic; exact, one for each class, 11 with 10 classes.
    Source: Hein & Andriushchenko 2017, eq. 5, as used by Mustafa 2020; differs: the sampled estimator is ours; on the
    sphere it has less variance than with a Gaussian u, and the same mean.
    """

    weight: float = 0.02
    q: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "q", exponent("q", self.q))

    @property
    def term(self) -> str:
        """The name of Omega."""
        return "cross_lipschitz"

    def of_jacobian(self, jacobian: Tensor) -> Tensor:
        """Return Omega."""
        return cross_lipschitz(jacobian, self.q)

    def sample(self, logits: Tensor, point: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the estimate of Omega."""
        classes = logits.shape[1]
        noise = randn(logits.shape, logits, generator)
        if self.q == 2:
            u = normalized(noise - noise.mean(1, keepdim=True))
            return 2 / classes * (classes - 1) * norm(vector_jacobian(logits, point, u)) ** 2
        pair = noise.argsort(1)[:, :2]  # two different classes, uniformly
        u = torch.zeros_like(logits).scatter(1, pair[:, :1], 1).scatter(1, pair[:, 1:], -1)
        return (classes - 1) / classes * norm(vector_jacobian(logits, point, u), self.q) ** 2


def cross_lipschitz(jacobian: Tensor, q: float = 2) -> Tensor:
    """Return Omega = (1/K^2) sum_{l,m} ||v_l - v_m||_q^2 per example, from the Jacobian (B, K, *input)."""
    v = jacobian.flatten(2)
    classes = v.shape[1]
    if q == 2:
        return 2 / classes * norm(v - v.mean(1, keepdim=True)) ** 2
    pairs = [norm(v[:, k] - v[:, m], q) ** 2 for k in range(classes) for m in range(k)]
    return 2 / classes**2 * torch.stack(pairs, 1).sum(1)
