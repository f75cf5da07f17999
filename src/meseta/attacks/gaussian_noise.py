"""Gaussian noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.transformation import Transformation
from meseta.checks import positive, whole
from meseta.linalg.random import randn


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Transformation):
    """Add Gaussian noise to every entry.

    x' = clip(x + sigma n),  n ~ N(0, I); of several draws the worst.

    Args:
        bounds: valid input values.
        sigma: standard deviation, in units of the input.
        draws: noises tried for each input.

    Cost: `draws` forwards, of the inputs that still stand.
    Source: Ford et al. 2019; Ma, Faghri & Farahmand 2020 (SOAR), appendix E and Table 7, with one draw. Differs: is
    clipped to the bounds, since no image lies outside them; SOAR says nothing of it.
    """

    sigma: float = 0.1
    draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("sigma", self.sigma)
        whole("draws", self.draws, 1)

    @property
    def name(self) -> str:
        """For example `GaussianNoise 0.1 x10`."""
        return f"GaussianNoise {self.sigma:g}" + (f" x{self.draws}" if self.draws > 1 else "")

    def candidates(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Yield noisy inputs."""
        for _ in range(self.draws):
            yield x + self.sigma * randn(x.shape, x, generator)
