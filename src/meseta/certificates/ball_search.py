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
    2020, Theorems 1 and 2. Radii are bisected by their ratio, for the bounds to either side may be far apart.

    Args:
        reach: radii (B,) to radii (B,). low: certified already. high: where to stop; infinity for 2^steps
            times `low`.
        steps: of the bisection, one call of `reach` each.
    """
    best = low
    low = torch.maximum(low, torch.where(high.isfinite(), high, 0) * 2.0**-steps)
    high = torch.minimum(high, low * 2.0**steps)
    for _ in range(steps):
        radius = (low * high).sqrt()
        found = reach(radius).nan_to_num(0, torch.inf, 0)
        best = torch.maximum(best, torch.minimum(radius, found))
        low, high = torch.where(found >= radius, radius, low), torch.where(found >= radius, high, radius)
    return best
