"""Rotations and translations of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import pi
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from meseta.attacks.transformation import Transformation
from meseta.checks import at_least, whole
from meseta.errors import UserError
from meseta.linalg.random import rand


@dataclass(frozen=True, kw_only=True)
class Spatial(Transformation):
    """Rotate and shift images, at random or along a grid, and keep the worst.

    x'(p) = x(R^-1 (p - s)),  R a rotation by at most `rotation` about the centre, |s| <= `translation` of each side,

    with p in pixels, bilinear between them. What comes from beyond the edge is the lower of the bounds (black), or 0
    without bounds. Positive angles turn counterclockwise.

    Args:
        bounds: valid input values.
        rotation: largest angle, in degrees.
        translation: largest shift, as a share of the image's side, in [0, 1].
        draws: random candidates for each image, uniform in angle and shifts; 0 for the grid alone.
        grid: how many angles, and shifts along each side, to go through as well: all their combinations, evenly spaced
            and odd in number, so that the image itself is among them; None for none.

    `Spatial.weak()`, `medium()` and `strong()` are SOAR's three strengths, with its one random draw.
    Cost: `draws` forwards, and angles x shifts^2 for the grid, of the images that still stand.
    Raises: UserError for inputs that are not images (B, C, H, W).
    Source: Engstrom et al. 2019, section 3 (their grid is 31 angles and 5 shifts, and their random search the worst of
    10); Ma, Faghri & Farahmand 2020 (SOAR), appendix D and Table 6, for the strengths.
    """

    rotation: float = 30.0
    translation: float = 0.1
    draws: int = 1
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("rotation", self.rotation, 0)
        at_least("translation", self.translation, 0)
        if self.translation > 1:
            raise UserError(f"`translation` must be a share of the side in [0, 1], got {self.translation!r}.")
        whole("draws", self.draws, 0)
        if self.grid is None:
            if self.draws == 0:
                raise UserError("`draws` is 0 and `grid` is None, so there is nothing to try. Give one of them.")
            return
        pair = tuple(self.grid) if isinstance(self.grid, tuple | list) else ()
        if len(pair) != 2:
            raise UserError(f"`grid` must be (angles, shifts), such as (31, 5), got {self.grid!r}.")
        for number in pair:
            whole("grid", number, 1)
            if number % 2 == 0:
                raise UserError(f"`grid` must hold odd numbers, so that it holds the image itself, got {self.grid!r}.")
        object.__setattr__(self, "grid", pair)

    @classmethod
    def weak(cls, *, draws: int = 1, grid: tuple[int, int] | None = None) -> Self:
        """Return rotations of 10 degrees and shifts of 5 %."""
        return cls(rotation=10.0, translation=0.05, draws=draws, grid=grid)

    @classmethod
    def medium(cls, *, draws: int = 1, grid: tuple[int, int] | None = None) -> Self:
        """Return rotations of 30 degrees and shifts of 10 %."""
        return cls(rotation=30.0, translation=0.1, draws=draws, grid=grid)

    @classmethod
    def strong(cls, *, draws: int = 1, grid: tuple[int, int] | None = None) -> Self:
        """Return rotations of 50 degrees and shifts of 30 %."""
        return cls(rotation=50.0, translation=0.3, draws=draws, grid=grid)

    @property
    def name(self) -> str:
        """For example `Spatial 30° 10% x10 grid 31x5x5`."""
        draws = f" x{self.draws}" if self.draws > 1 else ""
        grid = f" grid {self.grid[0]}x{self.grid[1]}x{self.grid[1]}" if self.grid else ""
        return f"Spatial {self.rotation:g}° {100 * self.translation:g}%{draws}{grid}"

    def candidates(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Yield the random candidates, then those of the grid."""
        if x.dim() != 4:
            raise UserError(f"`x` must be images (B, C, H, W) to be rotated and shifted, got shape {tuple(x.shape)}.")
        reach = x.new_tensor([self.rotation, self.translation, self.translation], dtype=torch.float64)
        for _ in range(self.draws):
            yield self.moved(x, reach * (2 * rand((len(x), 3), reach, generator).to(x.device) - 1))
        if self.grid:
            angles, shifts = (_evenly(number) for number in self.grid)
            for point in product(angles, shifts, shifts):
                yield self.moved(x, (reach * reach.new_tensor(point)).expand(len(x), 3))

    def moved(self, x: Tensor, by: Tensor) -> Tensor:
        """Return images rotated by by[:, 0] degrees, then shifted down and right by shares by[:, 1:] of the sides."""
        height, width = x.shape[2:]
        angle, down, right = (by * by.new_tensor([pi / 180, 1, 1])).unbind(1)
        cos, sin = angle.cos(), angle.sin()
        # Coordinates (right, down) from -1 to 1 over each side, so a shift by a share of a side is twice that share,
        # and a rotation of pixels is one of the sides' lengths apart.
        inverse = torch.stack([cos, -sin * height / width, sin * width / height, cos], 1).view(-1, 2, 2)
        offset = -inverse @ torch.stack([2 * right, 2 * down], 1)[:, :, None]
        where = F.affine_grid(torch.cat([inverse, offset], 2), list(x.shape), align_corners=False).to(x.dtype)
        edge = 0.0 if self.bounds is None else self.bounds[0]
        return F.grid_sample(x - edge, where, padding_mode="zeros", align_corners=False) + edge


def _evenly(number: int) -> list[float]:
    """Return an odd number of evenly spaced points of [-1, 1], 0 among them."""
    half = number // 2
    return [i / max(half, 1) for i in range(-half, half + 1)]
