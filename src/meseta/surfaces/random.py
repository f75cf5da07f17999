"""A random direction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.checks import whole
from meseta.linalg.norms import norm, per_example
from meseta.linalg.random import randn
from meseta.surfaces.base import Axis, InputOrigin, ParameterOrigin


@dataclass(frozen=True, kw_only=True)
class Random(Axis):
    """A random direction: what noise sees.

    At an input, with z ~ N(0, I): sign(z) in Linf, where it goes to a corner of the ball, as attacks do; z / ||z||_p
    elsewhere. At parameters z is filter-normalised: each filter d of z gets the length of the model's own filter w,
    d <- d ||w|| / ||d||, and what has no filters (biases, scales of normalisations) stays where it is.

    Args:
        seed: of z; a second axis with the same seed takes the numbers that follow.

    Source: Yu 2018, section 3.2; Li et al. 2018, section 4, for the filters.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0)

    def of_input(self, origin: InputOrigin, occurrence: int) -> Tensor:
        """Return the direction."""
        noise = self._noise(origin.x, occurrence)
        return origin.unit(noise.sign() if origin.threat.norm == "Linf" else noise, type(self).__name__)

    def of_parameters(self, origin: ParameterOrigin, occurrence: int) -> Tensor:
        """Return the filter-normalised direction."""
        noise = origin.split(self._noise(origin.vector, occurrence))
        return torch.cat([like_filters(noise[name], w).flatten() for name, w in origin.parameters.items()])

    def _noise(self, like: Tensor, occurrence: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(occurrence):
            randn(like.shape, like, generator)
        return randn(like.shape, like, generator)


def like_filters(direction: Tensor, weight: Tensor) -> Tensor:
    """Return the direction with each filter as long as the weight's; zero where the parameter has none.

    A filter is what makes one output: an entry of the first axis of a weight of two or more.
    """
    if weight.dim() < 2:
        return torch.zeros_like(direction)
    return direction * per_example(norm(weight) / norm(direction), direction)
