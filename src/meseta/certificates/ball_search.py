"""The search for the largest ball in which a bound that holds in the whole ball certifies just that ball."""

from collections.abc import Callable

import torch
from torch import Tensor

from meseta.shapes import Float


def largest_ball(
    reach: Callable[[Tensor], Tensor], low: Float[Tensor, "b"], high: Float[Tensor, "b"], steps: int
) -> Float[Tensor, "b"]:
    """Return the largest min{R, reach(R)} among the radii that a bisection between `low` and `high` tries.

    reach(R) is the radius that constants valid in the ball of radius R give; it falls as R grows, and min{R, reach(R)}
    is certified for every R, so that stopping early costs size, never soundness. This is the maximum over R of Mustafa
    2020, Theorems 1 and 2.

    Args:
        reach: radii (B,) to radii (B,). low: certified already. high: no radius above it can come out.
        steps: of the bisection, one call of `reach` each.
    """
    best = low
    high = torch.where(high.isfinite(), high, low)
    for _ in range(steps):
        radius = (low + high) / 2
        found = reach(radius).nan_to_num(0, torch.inf, 0)
        best = torch.maximum(best, torch.minimum(radius, found))
        low, high = torch.where(found >= radius, radius, low), torch.where(found >= radius, high, radius)
    return best
