"""All eigenvalues of the input Hessian of small inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, check_small, dense, few_at_a_time
from meseta.linalg.dense import symmetric_eigenvalues

SMALL = 0.01
"""Of the largest magnitude; eigenvalues below that count as small."""


@dataclass(frozen=True, kw_only=True)
class HessianSpectrum(FieldMeasure):
    """All eigenvalues of the input Hessian H = grad^2 f(x); the value is the one of largest magnitude, with its sign.

    The truth that the estimates are judged by, on small inputs: d exact products and an eigendecomposition in float64.
    Eigenvalues below about 1e-7 ||H||_2 are rounding where the model works in float32; in float64 below 1e-15.

    Args:
        field: f; the cross-entropy loss by default.
        most: values of an input d, above which the measure is refused.

    Parts:
        eigenvalues: (B, d), ascending.
        trace, frobenius, nuclear: their sum, the root of the sum of squares, the sum of magnitudes.
        negative: the share of the curvature that is negative, sum |lambda_-| / sum |lambda|; NaN where H = 0.
        small: the share of eigenvalues below 1 % of the largest magnitude; NaN where H = 0.

    Units: of f per squared unit of input, but for `negative` and `small`. Cost: one forward and one backward, then d
    times two backwards, and an eigendecomposition per example, O(d^3). Examples are taken a few at a time, so that the
    matrices hold 2^24 numbers at most.

    Raises:
        UserError: inputs of more than `most` values; f is linear in the logits and its Hessian is exactly zero on the
            whole batch (`SpectralCurvature`).
    """

    most: int = 1024

    def __post_init__(self) -> None:
        whole("most", self.most, 1)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the spectrum per example."""
        check_small(self, x, self.most, "Use Eigenvalues, HessianTrace and HessianFrobenius")
        found = []
        for some, labels in few_at_a_time(x, y, x[0].numel() ** 2):
            hessian = Hessian(self.field.bind(model, some, labels), some)
            found.append(symmetric_eigenvalues(dense(hessian, some)))
            check_seen(self, hessian, found[-1].abs().amax(1))
        eigenvalues = torch.cat(found)
        magnitude = eigenvalues.abs()
        nuclear, largest = magnitude.sum(1), magnitude.amax(1, keepdim=True)
        parts = {
            "eigenvalues": eigenvalues,
            "trace": eigenvalues.sum(1),
            "frobenius": eigenvalues.square().sum(1).sqrt(),
            "nuclear": nuclear,
            "negative": (-eigenvalues).clamp_min(0).sum(1) / nuclear,
            "small": torch.where(nuclear > 0, (magnitude < SMALL * largest).double().mean(1), torch.nan),
        }
        value = eigenvalues.gather(1, magnitude.argmax(1, keepdim=True)).squeeze(1)
        parts = {name: part.to(x.dtype) for name, part in parts.items()}
        return Measurement(value.to(x.dtype), products=x[0].numel(), parts=parts)
