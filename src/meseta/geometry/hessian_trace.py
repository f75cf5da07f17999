"""The trace of the input Hessian, sampled."""

from dataclasses import dataclass

from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen
from meseta.linalg.norms import norm
from meseta.linalg.trace import hutchinson_trace


@dataclass(frozen=True, kw_only=True)
class HessianTrace(FieldMeasure):
    """The trace of the input Hessian, tr H = E z^T H z with z of random signs: the Laplacian of f.

    The curvature averaged over all directions, times d. Signed: where positive and negative curvature cancel it is
    small on a surface that is not flat. On piecewise-linear networks the cross-entropy's is positive, and bounds
    ||H||_2 from above.

    Args:
        field: f; the cross-entropy loss by default.
        samples: probes, at least 2. seed: of the probes, which are the same for every example.

    The residual is the standard error.
    Units: of f per squared unit of input. Cost: one forward and one backward, then two backwards per sample.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).

    Source: Hutchinson 1990.
    """

    samples: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        whole("samples", self.samples, 2)
        whole("seed", self.seed, 0)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the trace per example, with its standard error."""
        hessian = Hessian(self.field.bind(model, x, y), x)
        largest = x.new_zeros(len(x))

        def product(z: Tensor) -> Tensor:
            hz = hessian(z)
            largest.copy_(largest.maximum(norm(hz)))  # z^T H z can be zero where Hz is not
            return hz

        trace = hutchinson_trace(product, x, samples=self.samples, seed=self.seed)
        check_seen(self, hessian, largest)
        return Measurement(trace.mean.to(x.dtype), trace.standard_error.to(x.dtype), products=trace.products)
