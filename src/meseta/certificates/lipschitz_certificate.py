"""Certified L2 radii from bounds of the margins' slope."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.ball_search import largest_ball
from meseta.certificates.base import Certificate
from meseta.certificates.chain import Chain, read_chain
from meseta.certificates.enclosure import Enclosure
from meseta.certificates.rival_margins import EXAMPLES, RivalMargins
from meseta.checks import instance_of, whole
from meseta.errors import UserError
from meseta.linalg.upper_bounds import OUTWARD
from meseta.shapes import Float, Int
from meseta.threat import Norm

STEPS = 8


@dataclass(frozen=True, kw_only=True)
class LipschitzCertificate(Certificate):
    """No input within L2 distance R is classified otherwise: R = max_r min{r, min_j f_j / max_{ball r} ||grad f_j||}.

    f_j = z_y - z_j; the maximum of the slope over the ball is bounded from above, by intervals of the pre-activations
    that follow the ball and by the centred Jacobian of every layer that is small enough to be written as a matrix.

    Args:
        local: follow the ball, whose radius is bisected. False bounds the slope over all inputs at once.
        steps: radii that are tried, at least 1.

    Parts: margin, slope: f_j and the bound of its slope in the certified ball, for the rival that decides.
    Cost: K backwards, then products and eigenproblems of the layers' width for every example and step.

    Raises:
        UserError: the model is no chain of linear layers, convolutions, average pooling, BatchNorm and activations;
            ReLU and LeakyReLU are covered here.

    Sound in the sense of `CurvatureCertificate`.
    Source: Hein & Andriushchenko 2017, Theorem 2.1 (Mustafa 2020, Theorem 1), with a sound bound of the maximum.
    """

    local: bool = True
    steps: int = STEPS

    def __post_init__(self) -> None:
        instance_of("local", self.local, bool)
        whole("steps", self.steps, 1)
        if not self.local and self.steps != STEPS:
            raise UserError(f"`steps` belongs to local = True, got {self.steps} without. Leave it out.")

    @property
    def norm(self) -> Norm:
        """Slopes are bounded in L2."""
        return "L2"

    @property
    def name(self) -> str:
        """The certificate, and whether it is the global one."""
        return type(self).__name__ + ("" if self.local else "(global)")

    def check_model(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        """Raise where the network cannot be read, whatever it predicts."""
        read_chain(model, x, type(self).__name__, curved=False)

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the certified radius and its parts."""
        chain = read_chain(model, x, type(self).__name__, curved=False)
        margins = RivalMargins(chain, x.double(), y, rounding=OUTWARD)
        enclosure = Enclosure(chain, margins.x[:1], None)
        everywhere = margins.of_pairs(lambda rows: enclosure.slope(rows[None])[0])
        slopes = torch.split(everywhere, EXAMPLES)
        found = [self._certify(chain, few, slope) for few, slope in zip(margins.slabs(), slopes, strict=True)]
        radius, margin, slope = (torch.cat(column) for column in zip(*found, strict=True))
        return radius, {"margin": margin, "slope": slope}

    def _certify(self, chain: Chain, margins: RivalMargins, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return radius, margin and slope, from bounds of the slope everywhere."""
        distance = _distance(margins, slope)
        radius = distance.amin(1)
        if self.local:
            most = margins.linear_distance.amin(1)  # which no slope in a ball around x can exceed
            chosen = margins.that_may_decide(distance, most)
            margins, everywhere = margins.pick(chosen), slope.gather(1, chosen)
            nearer, rows = margins, margins.rows

            def within(ball: Tensor) -> Tensor:
                return torch.minimum(everywhere, Enclosure(chain, nearer.x, ball).slope(rows))

            radius = largest_ball(lambda ball: _distance(nearer, within(ball)).amin(1), radius, most, self.steps)
            slope = within(radius)
        nearest = _distance(margins, slope).argmin(1, keepdim=True)
        return radius, margins.value.gather(1, nearest).squeeze(1), slope.gather(1, nearest).squeeze(1)


def _distance(margins: RivalMargins, slope: Tensor) -> Tensor:
    """Return f_j / slope, 0 where the margin is not positive, infinite where the slope is 0."""
    return torch.where(margins.value > 0, margins.value / slope, 0)
