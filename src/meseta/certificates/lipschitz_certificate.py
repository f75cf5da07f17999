"""Certified L2 radii from bounds of the margins' slope."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.ball_search import largest_ball
from meseta.certificates.base import Certificate
from meseta.certificates.chain import Chain, read_chain
from meseta.certificates.enclosure import Enclosure
from meseta.certificates.rival_margins import RivalMargins
from meseta.checks import whole
from meseta.shapes import Float, Int
from meseta.threat import Norm

EXAMPLES = 32
"""Examples whose Jacobians are held together."""


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
    steps: int = 8

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)

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
        found = [
            self._certify(chain, RivalMargins(chain, inputs, labels))
            for inputs, labels in zip(torch.split(x.double(), EXAMPLES), torch.split(y, EXAMPLES), strict=True)
        ]
        radius, margin, slope = (torch.cat(column) for column in zip(*found, strict=True))
        return radius, {"margin": margin, "slope": slope}

    def _certify(self, chain: Chain, margins: RivalMargins) -> tuple[Tensor, Tensor, Tensor]:
        """Return radius, margin and slope."""
        rows, place = torch.unique(margins.rows.flatten(0, 1), dim=0, return_inverse=True)
        slope = Enclosure(chain, margins.x[:1], None).slope(rows[None])[0][place].view_as(margins.value)

        def within(ball: Tensor) -> Tensor:
            return torch.minimum(slope, Enclosure(chain, margins.x, ball).slope(margins.rows))

        radius = _distance(margins, slope).amin(1)
        if self.local:
            most = margins.linear_distance.amin(1)
            radius = largest_ball(lambda ball: _distance(margins, within(ball)).amin(1), radius, most, self.steps)
            slope = within(radius)
        nearest = _distance(margins, slope).argmin(1, keepdim=True)
        return radius, margins.value.gather(1, nearest).squeeze(1), slope.gather(1, nearest).squeeze(1)


def _distance(margins: RivalMargins, slope: Tensor) -> Tensor:
    """Return f_j / slope, 0 where the margin is not positive, infinite where the slope is 0."""
    return torch.where(margins.value > 0, margins.value / slope, 0).nan_to_num(torch.inf)
