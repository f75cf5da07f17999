"""The Frobenius norm of the input Hessian, sampled."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen
from meseta.linalg.trace import hutchinson_frobenius


@dataclass(frozen=True, kw_only=True)
class HessianFrobenius(FieldMeasure):
    """The Frobenius norm of the input Hessian, ||H||_F = (E ||Hz||_2^2)^(1/2) with z of random signs.

    The root mean square of curvature over all directions, times sqrt(d): ||H||_2 <= ||H||_F <= sqrt(rank) ||H||_2. The
    square is unbiased; its root is a little below in the mean, by about residual^2 / (2 value).

    Args:
        field: f; the cross-entropy loss by default.
        samples: probes, at least 2. seed: of the probes, which are the same for every example.

    The residual is the standard error: of the mean square, over 2 ||H||_F. With one dominant eigenvalue it is about
    (2 samples)^(-1/2) of the value.
    Units: of f per squared unit of input. Cost: one forward and one backward, then two backwards per sample.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).

    Source: Hutchinson 1990 on H^2; the norm that Ma 2020 bounds by (its eq. 11 takes E ||Hz|| for it, which is less).
    """

    samples: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        whole("samples", self.samples, 2)
        whole("seed", self.seed, 0)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the norm per example, with its standard error."""
        hessian = Hessian(self.field.bind(model, x, y), x)
        square = hutchinson_frobenius(hessian, x, samples=self.samples, seed=self.seed)
        value = square.mean.sqrt()
        check_seen(self, hessian, value)
        error = torch.where(value == 0, 0, square.standard_error / (2 * value))
        return Measurement(value.to(x.dtype), error.to(x.dtype), products=square.products)
