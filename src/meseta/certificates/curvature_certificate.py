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
from meseta.certificates.rival_margins import EXAMPLES, RivalMargins
from meseta.certificates.taylor import taylor_radius
from meseta.checks import instance_of, whole
from meseta.errors import UserError, unknown_name
from meseta.linalg.upper_bounds import OUTWARD
from meseta.shapes import Float, Int
from meseta.threat import Norm

Bound = Literal["published", "interval", "local"]
STEPS = 8


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

    Sound for the network as a real function of its stored parameters (torch's softplus has a jump of 2e-9 / beta): the
    arithmetic is float64, each norm is an upper bound by factorisation, norms and slopes are enlarged by 1e-9, and 1e-9
    of the largest logit is taken off every margin, for rounding. The bounds of valid inputs are not used: the ball may
    leave [0, 1].

    Source: Singla & Feizi 2020, Theorems 1 and 4, for "published" and the dual. Differs: in the other two only negative
    curvature counts, convolutions are bounded with their zero padding, and all rivals are certified. The closed form is
    Mustafa 2020, Theorem 2 and Corollary 1, with a constant that is sound.
    """

    bound: Bound = "local"
    dual: bool = False
    steps: int = STEPS

    def __post_init__(self) -> None:
        if self.bound not in get_args(Bound):
            raise unknown_name("bound", str(self.bound), get_args(Bound))
        instance_of("dual", self.dual, bool)
        whole("steps", self.steps, 1)
        if self.bound != "local" and self.steps != STEPS:
            raise UserError(f"`steps` belongs to bound 'local', got {self.steps} with {self.bound!r}. Leave it out.")

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
        margins = RivalMargins(chain, x.double(), y, rounding=OUTWARD)
        sides = torch.split(torch.stack(self._everywhere(chain, margins), 1), EXAMPLES)
        found = [self._certify(chain, few, *side.unbind(1)) for few, side in zip(margins.slabs(), sides, strict=True)]
        radius, *parts = (torch.cat(column) for column in zip(*found, strict=True))
        return radius, dict(zip(("margin", "slope", "curvature"), parts, strict=True))

    def _everywhere(self, chain: Chain, margins: RivalMargins) -> tuple[Tensor, Tensor]:
        """Return low and high (B, T): the eigenvalues of every margin's Hessian lie in [-low, high] at all inputs."""
        if self.bound == "published":
            curvature = margins.of_pairs(lambda rows: published_curvature(chain, rows))
            return curvature, curvature
        enclosure = Enclosure(chain, margins.x[:1], None)
        low = margins.of_pairs(lambda rows: enclosure.curvature(-rows[None])[0])
        return low, margins.of_pairs(lambda rows: enclosure.curvature(rows[None])[0]) if self.dual else low

    def _certify(
        self, chain: Chain, margins: RivalMargins, low: Tensor, high: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return radius, margin, slope and curvature, from bounds of the curvature everywhere."""
        reached = self._reach(chain, margins, low, high, torch.full_like(low[:, 0], torch.inf))
        radius = reached.amin(1)
        if self.bound == "local":
            # In closed form no radius reaches past the nearest tangent, by the dual few do by much: rivals whose bound
            # everywhere is above that cannot decide.
            most = margins.linear_distance.amin(1) * (2 if self.dual else 1)
            chosen = margins.that_may_decide(reached, most)
            nearer, low, high = margins.pick(chosen), low.gather(1, chosen), high.gather(1, chosen)
            local = _Ball(chain, nearer, low, high, self.dual)

            def reach(ball: Tensor) -> Tensor:
                return self._reach(chain, nearer, *local(ball), ball).amin(1)

            radius = largest_ball(reach, radius, most, self.steps)
            margins, (low, high) = nearer, local(radius)
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
        unit = torch.eye(margins.classes, dtype=ball.dtype, device=ball.device)
        for rival in order.unbind(1):
            deciding = torch.arange(len(rival), device=rival.device)
            deciding = deciding[(distance[deciding, rival] < nearest) & (distance[deciding, rival] > 0)]
            if not len(deciding):
                break
            at = deciding, rival[deciding]
            rows = unit[margins.y[deciding]] - unit[margins.rival[at]]
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


class _Ball:
    """Bounds of the curvature of some margins in a ball around each example, no larger than those everywhere."""

    def __init__(self, chain: Chain, margins: RivalMargins, low: Tensor, high: Tensor, both: bool) -> None:
        self._chain, self._x, self._rows = chain, margins.x, margins.rows
        self._low, self._high, self._both = low, high, both

    def __call__(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Return low and high in the balls of these radii (B,); only the dual has a use for the latter."""
        enclosure = Enclosure(self._chain, self._x, radius)
        low = torch.minimum(self._low, enclosure.curvature(-self._rows))
        return low, torch.minimum(self._high, enclosure.curvature(self._rows)) if self._both else low
