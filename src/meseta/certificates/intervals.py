"""Intervals of tensors, entry by entry, as lowest and highest value."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.certificates.affine import AffineMap


@dataclass(frozen=True)
class Interval:
    """All tensors t with low <= t <= high, entry by entry."""

    low: Tensor
    high: Tensor

    def __mul__(self, other: "Interval") -> "Interval":
        """Return the products of any member of one with any of the other."""
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        low, high = corners[0], corners[0]
        for corner in corners[1:]:
            low, high = torch.minimum(low, corner), torch.maximum(high, corner)
        return Interval(low, high)

    @property
    def centre(self) -> Tensor:
        """The midpoint."""
        return (self.low + self.high) / 2

    @property
    def spread(self) -> Tensor:
        """Half the width, at least 0."""
        return (self.high - self.low) / 2

    @property
    def size(self) -> Tensor:
        """The largest absolute value of any member."""
        return torch.maximum(self.low.abs(), self.high.abs())


def pull_back(interval: Interval, affine: AffineMap) -> Interval:
    """Return an interval that holds W^T t for every member t; tensors are (B, *out_shape) of the map."""
    centre, spread = affine.transposed(interval.centre), affine.absolute_transposed(interval.spread)
    return Interval(centre - spread, centre + spread)
