"""The margins of each example to its rivals, with their slopes."""

from collections.abc import Callable, Iterator
from typing import Self

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, leaf
from meseta.autodiff.scalar_fields import Model, rivals
from meseta.linalg.norms import norm
from meseta.shapes import Float, Int

EXAMPLES = 32
"""Examples whose derivatives are held together."""
PAIRS = 1024
"""Pairs of label and rival that are bounded together."""


class RivalMargins:
    """f_j = z_y - z_j for every rival j of every example: T = K - 1, in order of the classes.

    Args:
        model: inputs to logits. x: (B, *input). y: (B,). q: exponent of the slopes' norm.
        rounding: what is taken off every margin, relative to the largest logit, and added to every slope, relatively.

    Attributes:
        x, y: as given. rival: j, (B, T). value: f_j, (B, T). slope: ||grad f_j||_q, (B, T).

    Cost: one forward and K backwards; the gradients are not held.
    """

    def __init__(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"], q: float = 2, *, rounding: float = 0
    ) -> None:
        slabs = zip(torch.split(x, EXAMPLES), torch.split(y, EXAMPLES), strict=True)
        logits, slopes = (torch.cat(found) for found in zip(*(_slopes(model, *slab, q) for slab in slabs), strict=True))
        self.x, self.y, self.classes = x, y, logits.shape[1]
        self.rival = rivals(y, self.classes)
        taken = rounding * logits.abs().amax(1, keepdim=True)
        self.value = logits.gather(1, y[:, None]) - logits.gather(1, self.rival) - taken
        self.slope = slopes.gather(1, self.rival) * (1 + rounding)

    @property
    def linear_distance(self) -> Float[Tensor, "b r"]:
        """Where the tangent of each margin vanishes, f_j / ||grad f_j||_q away; infinite where it is flat."""
        return torch.where(self.slope == 0, torch.inf, self.value / self.slope)

    @property
    def rows(self) -> Float[Tensor, "b r c"]:
        """The margins as combinations of the logits, e_y - e_j."""
        unit = torch.eye(self.classes, dtype=self.x.dtype, device=self.x.device)
        return unit[self.y][:, None] - unit[self.rival]

    def pick(self, chosen: Int[Tensor, "b t"]) -> Self:
        """Return the same of some rivals of each example."""
        return self._part(self.x, self.y, *(t.gather(1, chosen) for t in (self.rival, self.value, self.slope)))

    def slabs(self) -> Iterator[Self]:
        """Yield the same of a few examples at a time."""
        columns = (self.x, self.y, self.rival, self.value, self.slope)
        for few in zip(*(torch.split(column, EXAMPLES) for column in columns), strict=True):
            yield self._part(*few)

    def _part(self, x: Tensor, y: Tensor, rival: Tensor, value: Tensor, slope: Tensor) -> Self:
        part = object.__new__(type(self))
        part.x, part.y, part.rival, part.value, part.slope, part.classes = x, y, rival, value, slope, self.classes
        return part

    def that_may_decide(self, distance: Tensor, most: Tensor) -> Int[Tensor, "b t"]:
        """Return the rivals of smallest `distance` (B, T), as many as any example has below its `most` (B,)."""
        return distance.argsort(1)[:, : int((distance < most[:, None]).sum(1).amax().clamp_min(1))]

    def of_pairs(self, bound: Callable[[Tensor], Tensor]) -> Float[Tensor, "b t"]:
        """Return what `bound`, of rows (P, K) to (P,), says of each pair of label and rival; every pair once."""
        pairs, place = torch.unique(self.y[:, None] * self.classes + self.rival, return_inverse=True)
        unit = torch.eye(self.classes, dtype=self.x.dtype, device=self.x.device)
        found = [bound(unit[some // self.classes] - unit[some % self.classes]) for some in torch.split(pairs, PAIRS)]
        return torch.cat(found)[place]


def _slopes(model: Model, x: Tensor, y: Tensor, q: float) -> tuple[Tensor, Tensor]:
    """Return the logits, and ||grad (z_y - z_k)||_q for every class k, (B, K) each."""
    with derivatives_of_derivatives():
        point = leaf(x)
        logits = model(point.clone())
        own = _gradient(logits.gather(1, y[:, None]), point)
        slopes = [norm(own - _gradient(column, point), q) for column in logits.unbind(1)]
    return logits.detach(), torch.stack(slopes, 1)


def _gradient(column: Tensor, point: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(column.sum(), point, retain_graph=True, materialize_grads=True)
    return gradient
