"""How many entries of the input gradient are next to nothing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.gradient import value_and_gradient
from meseta.autodiff.scalar_fields import Decision, Model, ScalarField
from meseta.checks import positive
from meseta.errors import UserError
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.linalg.norms import norm

RANKS = 1024
"""Most entries that the sorted curve holds."""


@dataclass(frozen=True, kw_only=True)
class GradientSparsity(FieldMeasure):
    """The share of entries of the input gradient J = grad f(x) that are next to nothing beside the largest one.

    value = |{i : |J_i| < fraction max_j |J_j|}| / d

    The same for f and c f: a model whose logits are small is not sparse for that. NaN where J = 0.

    Args:
        field: f; the decision function z_y - max_{j != y} z_j by default.
        fraction: of the largest magnitude, between 0 and 1.
        zero: the magnitude below which an entry is zero in the part `below_zero`, in units of f per unit of input.

    Parts:
        below_zero: the share of entries of magnitude below `zero`, as published: it depends on the scale of f.
        hoyer: (sqrt d - ||J||_1 / ||J||_2) / (sqrt d - 1), 0 where all magnitudes are equal and 1 where a single entry
            is not zero; no threshold. NaN where J = 0, and for inputs of one value.
        magnitudes: a curve, |J_i| from the smallest to the largest; of larger inputs 1024 of them, evenly spaced in
            rank.

    Units: none, `magnitudes` of f per unit of input. Cost: one forward and one backward to the input.

    Source: Yu 2018, section 4.3 and footnote 3, whose threshold is printed as 10e-3. Differs: the value is relative to
    the largest entry, because robust training also shrinks J as a whole. Hoyer 2004 for the measure without threshold.
    """

    field: ScalarField = Decision()
    fraction: float = 0.01
    zero: float = 1e-2

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise UserError(f"`fraction` must lie between 0 and 1, got {self.fraction!r}.")
        positive("zero", self.zero)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the share per example, with the published one, Hoyer's and the sorted magnitudes."""
        _, gradient = value_and_gradient(self.field.bind(model, x, y), x)
        magnitude = gradient.flatten(1).abs().sort(1).values
        d, largest, finite = magnitude.shape[1], magnitude[:, -1:], magnitude.isfinite().all(1)
        root = torch.tensor(float(d), dtype=torch.float64).sqrt()
        hoyer = (root - norm(gradient, 1).double() / norm(gradient).double()) / (root - 1)
        ranks = torch.linspace(0, d - 1, min(d, RANKS)).round().long()
        seen = finite & (largest.squeeze(1) > 0)

        def share(small: Tensor, where: Tensor) -> Tensor:
            return torch.where(where, small.double().mean(1), torch.nan).to(x.dtype)

        parts = {
            "below_zero": share(magnitude < self.zero, finite),
            "hoyer": torch.where(seen, hoyer, torch.nan).to(x.dtype),
            "magnitudes": magnitude[:, ranks.to(magnitude.device)],
        }
        return Measurement(share(magnitude < self.fraction * largest, seen), parts=parts)
