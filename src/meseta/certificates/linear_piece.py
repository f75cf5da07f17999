"""The distance to the boundary of the linear function that agrees with the network at the input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.jacobian import logits_and_jacobian
from meseta.autodiff.scalar_fields import Model, rivals
from meseta.certificates.base import Proxy
from meseta.errors import UserError
from meseta.linalg.norms import norm
from meseta.shapes import Float, Int
from meseta.threat import Norm, Threat


@dataclass(frozen=True, kw_only=True)
class LinearPiece(Proxy):
    """The distance to the decision boundary of the linear piece, min over rivals j of f_j(x) / ||grad f_j(x)||_q.

    f_j = z_y - z_j, 1/p + 1/q = 1. Exact for linear models, and for piecewise-linear networks as long as the nearest
    boundary point lies on the piece of x. For a binary classifier it is log(p / (1 - p)) / nu, nu the local
    cross-Lipschitz constant, of which Guo 2020, Proposition 3.1 gives a larger value.

    Args:
        norm: of the perturbation; Linf, L2 or L1.

    Parts: margin, slope: f_j and its gradient norm for the rival that gives the minimum.
    Cost: one forward and K backwards to the input.
    Source: the linear case of Hein & Andriushchenko 2017, Theorem 2.1 (Mustafa 2020, Theorem 1).
    """

    norm: Norm = "L2"

    def __post_init__(self) -> None:
        if self.norm not in ("Linf", "L2", "L1"):
            raise UserError(f"`norm` must be Linf, L2 or L1, got {self.norm!r}.")

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the distance with the margin and the slope towards the nearest rival."""
        margin, slope = margins_and_slopes(model, x, y, Threat(self.norm).dual)
        distance = margin / slope
        nearest = distance.argmin(1, keepdim=True)
        parts = {"margin": margin.gather(1, nearest).squeeze(1), "slope": slope.gather(1, nearest).squeeze(1)}
        return distance.gather(1, nearest).squeeze(1), parts


def margins_and_slopes(
    model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"], q: float
) -> tuple[Float[Tensor, "b r"], Float[Tensor, "b r"]]:
    """Return f_j(x) and ||grad f_j(x)||_q for every rival j of the label, in order: (B, K-1) each."""
    logits, jacobian = logits_and_jacobian(model, x)
    others = rivals(y, logits.shape[1])
    own = jacobian[torch.arange(len(y)), y]
    slopes = [norm(own - jacobian[torch.arange(len(y)), j], q) for j in others.unbind(1)]
    return logits.gather(1, y[:, None]) - logits.gather(1, others), torch.stack(slopes, 1)
