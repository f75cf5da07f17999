"""The best of many random points."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from meseta.attacks.random_search import RandomSearch
from meseta.checks import whole
from meseta.errors import unknown_name
from meseta.linalg.random import randn

Where = Literal["ball", "surface"]


@dataclass(frozen=True, kw_only=True)
class UniformSearch(RandomSearch):
    """Draw points of the threat at random and keep the one with the lowest margin; one draw is random noise.

    A model whose gradients are right is broken by far fewer of these points than by a gradient attack: where it is not,
    the gradients mislead.

    Args:
        threat: norm, eps and bounds.
        draws: points tried, at least 1.
        where: `surface` draws a direction s ~ N(0, I) and takes the point of the threat that is farthest along it: a
            random corner for Linf, the sphere for L2, few entries moved as far as they go for L1. `ball` draws
            uniformly from the ball and clips to the bounds.

    Cost: one forward at the input, then one a draw, of the examples that still stand.
    """

    draws: int = 100
    where: Where = "surface"

    def __post_init__(self) -> None:
        whole("draws", self.draws, 1)
        if self.where not in get_args(Where):
            raise unknown_name("where", str(self.where), get_args(Where))

    @property
    def name(self) -> str:
        """For example `UniformSearch-100`, `UniformSearch-100 ball`."""
        return f"UniformSearch-{self.draws}" + (" ball" if self.where == "ball" else "")

    @property
    def proposals(self) -> int:
        """As many as draws."""
        return self.draws

    def propose(self, number: int, points: Tensor, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return fresh random points, whatever was found before."""
        if self.where == "ball":
            return self.threat.sample(x, generator=generator)
        return self.threat.farthest(randn(x.shape, x, generator), x)
