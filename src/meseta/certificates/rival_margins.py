"""The margins of each example to its rivals, with their slopes, in float64."""

from typing import Self

import torch
from torch import Tensor

from meseta.autodiff.jacobian import logits_and_jacobian
from meseta.autodiff.scalar_fields import Model, rivals
from meseta.linalg.norms import norm
from meseta.shapes import Float, Int


class RivalMargins:
    """f_j = z_y - z_j for every rival j of every example: T = K - 1, in order of the classes.

    Attributes:
        x: (B, *input). value: f_j, (B, T). slope: ||grad f_j||_q, (B, T). rows: e_y - e_j, (B, T, K).
    """

    def __init__(self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"], q: float = 2) -> None:
        logits, jacobian = logits_and_jacobian(model, x)
        others = rivals(y, logits.shape[1])
        every = torch.arange(len(y), device=y.device)
        self.x = x
        self.value = logits.gather(1, y[:, None]) - logits.gather(1, others)
        own = jacobian[every, y]
        self.slope = torch.stack([norm(own - jacobian[every, j], q) for j in others.unbind(1)], 1)
        unit = torch.eye(logits.shape[1], dtype=x.dtype, device=x.device)
        self.rows = unit[y][:, None] - unit[others]

    @property
    def linear_distance(self) -> Float[Tensor, "b r"]:
        """Where the tangent of each margin vanishes, f_j / ||grad f_j||_q away; infinite where it is flat."""
        return torch.where(self.slope == 0, torch.inf, self.value / self.slope)

    def pick(self, chosen: Int[Tensor, "b t"]) -> Self:
        """Return the same of some rivals of each example."""
        part = object.__new__(type(self))
        part.x = self.x
        part.value, part.slope = self.value.gather(1, chosen), self.slope.gather(1, chosen)
        part.rows = self.rows.gather(1, chosen[:, :, None].expand(-1, -1, self.rows.shape[2]))
        return part
