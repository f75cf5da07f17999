"""Certified L2 radii from bounds of the margins' curvature."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.ball_search import largest_ball
from meseta.certificates.base import Certificate
from meseta.certificates.chain import Chain, read_chain
from meseta.certificates.dual import dual_radius
from meseta.certificates.enclosure import Enclosure
from meseta.certificates.published_curvature import published_curvature
from meseta.certificates.rival_margins import RivalMargins
from meseta.certificates.taylor import taylor_radius
from meseta.checks import whole
from meseta.errors import unknown_name
from meseta.shapes import Float, Int
from meseta.threat import Norm

Bound = Literal["published", "interval", "local"]
EXAMPLES = 32
"""Examples whose Jacobians are held together."""
PAIRS = 1024
"""Pairs of label and rival whose global bounds are taken together."""


@dataclass(frozen=True, kw_only=True)
class CurvatureCertificate(Certificate):
    """No input within L2 distance R is classified otherwise, by Taylor's theorem with a bound of the curvature.

    f_j(x + delta) >= f_j - g_j ||delta|| - m_j ||delta||^2 / 2 for each margin f_j = z_y - z_j, g_j = ||grad f_j||
    and -m_j a lower bound of its Hessian's eigenvalues; so R = min_j 2 f_j / (g_j + sqrt(g_j^2 + 2 m_j f_j)).

    Args:
        bound: where m_j comes from.
            "published", of |eigenvalues| everywhere: sum_I h r_I^2 max_i S_{I,i}, by products of layer norms.
            "interval", of the negative ones everywhere: signed intervals of sigma' and sigma'', and the eigenvalues of
            W^T diag(w) W where a layer is small enough to be written as a matrix.
            "local", the same within a ball around the example, whose radius is bisected until the bound in the ball
            certifies the ball: the intervals of the pre-activations follow the ball, and so does the Jacobian.
        dual: bound the distance by the Lagrangian dual as well, which evaluates the network away from x. Costs some
            hundred forwards and backwards for every rival, and as many again for every radius that "local" tries.
        steps: radii that "local" tries, at least 1.

    Parts: margin, slope, curvature: f_j, g_j and m_j of the rival that decides; for "local", m_j in the final ball.
    Cost: K backwards, then eigenproblems of the layers' width: for the global bounds one per layer, label and rival,
    for "local" one per example, layer, step and rival that may decide.

    Raises:
        UserError: the model is no chain of linear layers, convolutions, average pooling, BatchNorm and activations with
            a second derivative; every layer in the way is named.

    Sound for the network as a real function of its stored parameters: the arithmetic is float64, every norm is an upper
    bound by factorisation, and all are enlarged by 1e-9 for rounding. The bounds of valid inputs are not used: the ball
    may leave [0, 1].

    Source: Singla & Feizi 2020, Theorems 1 and 4, for "published" and the dual. Differs: in the other two only negative
    curvature counts, convolutions are bounded with their zero padding, and all rivals are certified. The closed form is
    Mustafa 2020, Theorem 2 and Corollary 1, with a constant that is sound.
    """

    bound: Bound = "local"
    dual: bool = False
    steps: int = 8

    def __post_init__(self) -> None:
        if self.bound not in get_args(Bound):
            raise unknown_name("bound", str(self.bound), get_args(Bound))
        whole("steps", self.steps, 1)

    @property
    def norm(self) -> Norm:
        """The Hessian's eigenvalues bound the margins in L2."""
        return "L2"

    @property
    def name(self) -> str:
        """The certificate with its bound."""
        return f"{type(self).__name__}({self.bound}{', dual' if self.dual else ''})"

    def check_model(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        """Raise where the network cannot be read, whatever it predicts."""
        read_chain(model, x, type(self).__name__, curved=True)

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the certified radius and its parts."""
        chain = read_chain(model, x, type(self).__name__, curved=True)
        slabs = zip(torch.split(x.double(), EXAMPLES), torch.split(y, EXAMPLES), strict=True)
        margins = [RivalMargins(chain, inputs, labels) for inputs, labels in slabs]
        everywhere = self._everywhere(chain, torch.cat([m.rows for m in margins]), x[:1].double())
        curvatures = zip(*(torch.split(side, EXAMPLES) for side in everywhere), strict=True)
        found = [self._certify(chain, m, *pair) for m, pair in zip(margins, curvatures, strict=True)]
        radius, *parts = (torch.cat(column) for column in zip(*found, strict=True))
        return radius, dict(zip(("margin", "slope", "curvature"), parts, strict=True))

    def _everywhere(self, chain: Chain, rows: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high (B, T): the eigenvalues of every margin's Hessian lie in [-low, high] at all inputs."""
        distinct, place = torch.unique(rows.flatten(0, 1), dim=0, return_inverse=True)
        found = [self._of_rows(chain, some, x) for some in torch.split(distinct, PAIRS)]
        low, high = (torch.cat(column)[place].view(rows.shape[:2]) for column in zip(*found, strict=True))
        return low, high

    def _of_rows(self, chain: Chain, rows: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.bound == "published":
            curvature = published_curvature(chain, rows)
            return curvature, curvature
        low, high = self._sides(Enclosure(chain, x, None), rows[None])
        return low[0], high[0]

    def _sides(self, enclosure: Enclosure, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high; only the dual has a use for the latter."""
        low = enclosure.curvature(-rows)
        return low, enclosure.curvature(rows) if self.dual else low

    def _certify(
        self, chain: Chain, margins: RivalMargins, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return radius, margin, slope and curvature."""
        reached = self._reach(chain, margins, low, high, torch.full_like(low[:, 0], torch.inf))
        radius = reached.amin(1)
        if self.bound == "local":
            # In closed form no radius reaches past the nearest tangent, by the dual few do by much: rivals whose bound
            # everywhere is above that cannot decide.
            most = margins.linear_distance.amin(1) * (2 if self.dual else 1)
            chosen = reached.argsort(1)[:, : int((reached < most[:, None]).sum(1).amax().clamp_min(1))]
            margins, low, high = margins.pick(chosen), low.gather(1, chosen), high.gather(1, chosen)
            nearer, everywhere = margins, (low, high)

            def within(ball: Tensor) -> tuple[Tensor, Tensor]:
                local = self._sides(Enclosure(chain, nearer.x, ball), nearer.rows)
                return torch.minimum(local[0], everywhere[0]), torch.minimum(local[1], everywhere[1])

            def reach(ball: Tensor) -> Tensor:
                return self._reach(chain, nearer, *within(ball), ball).amin(1)

            radius = largest_ball(reach, radius, most, self.steps)
            low, high = within(radius)
            reached = self._reach(chain, margins, low, high, radius)
        nearest = reached.argmin(1, keepdim=True)
        value, slope, curvature = (t.gather(1, nearest).squeeze(1) for t in (margins.value, margins.slope, low))
        return radius, value, slope, curvature

    def _reach(self, chain: Chain, margins: RivalMargins, low: Tensor, high: Tensor, ball: Tensor) -> Tensor:
        """Return how far each margin is certain to stay positive with curvature in [-low, high], (B, T)."""
        distance = torch.where(margins.value > 0, taylor_radius(margins.value, margins.slope, low), 0)
        return self._with_dual(chain, margins, distance, low, high, ball) if self.dual else distance

    def _with_dual(
        self, chain: Chain, margins: RivalMargins, distance: Tensor, low: Tensor, high: Tensor, ball: Tensor
    ) -> Tensor:
        """Raise the distances that decide by the dual: from the smallest upwards, until the next is no smaller."""
        distance, order = distance.clone(), distance.argsort(1)
        nearest = torch.full_like(ball, torch.inf)
        for rival in order.unbind(1):
            deciding = torch.arange(len(rival), device=rival.device)
            deciding = deciding[(distance[deciding, rival] < nearest) & (distance[deciding, rival] > 0)]
            if not len(deciding):
                break
            at = deciding, rival[deciding]
            rows = margins.rows[at]
            dual = dual_radius(
                lambda z, u=rows: (chain(z) * u).sum(1),  # type: ignore[misc]
                margins.x[deciding],
                low[at],
                high[at],
                ball[deciding],
            )
            distance[at] = torch.maximum(distance[at], dual)
            nearest[deciding] = torch.minimum(nearest[deciding], distance[at])
        return distance
