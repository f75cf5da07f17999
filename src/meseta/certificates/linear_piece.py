"""The distance to the boundary of the linear function that agrees with the network at the input."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.base import Proxy, check_norm
from meseta.certificates.rival_margins import RivalMargins
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
        check_norm(self.norm)

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the distance with the margin and the slope towards the nearest rival."""
        margins = RivalMargins(model, x, y, Threat(self.norm).dual)
        distance = margins.linear_distance
        nearest = distance.argmin(1, keepdim=True)
        parts = {
            name: t.gather(1, nearest).squeeze(1) for name, t in (("margin", margins.value), ("slope", margins.slope))
        }
        return distance.gather(1, nearest).squeeze(1), parts
