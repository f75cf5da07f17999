"""Yu's robustness indicator: average magnitudes of the gradient's entries and of the Hessian's eigenvalues."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Decision, Model, ScalarField
from meseta.checks import is_flat, positive, whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import dense, few_at_a_time
from meseta.linalg.dense import symmetric_eigenvalues
from meseta.linalg.norms import norm
from meseta.linalg.trace import lanczos_quadrature
from meseta.shapes import Float


@dataclass(frozen=True, kw_only=True)
class RobustnessIndicator(FieldMeasure):
    """Yu's robustness indicator: the mean magnitude of the gradient's entries, and of the Hessian's eigenvalues.

    mean_i |J_i| and mean_i |lambda_i|, J = grad f(x) and lambda the spectrum of H = grad^2 f(x). The value is the
    former: it is exact at any size, defined on every network, and what the paper goes on to penalise. The two have
    different units and are not added.

    It is an indicator, not a bound: the second-order change of f under ||delta||_inf <= eps is at most
    eps ||J||_1 + eps^2 / 2 ||H||_{inf->1} (`HessianNorm`), whereas eq. 9 weighs |lambda_i| by squares y_i^2 that depend
    on delta, so that the largest |lambda| decides, not the mean.

    Args:
        field: f; the decision function z_y - max_{j != y} z_j by default.
        most: values of an input d, up to which the spectrum is exact, by d products; above, sum |lambda| is sampled.
        samples, steps: of the sampling, by stochastic Lanczos quadrature: samples times steps products.
        seed: of the probes, which are the same for every example.
        gradient_zero, eigenvalue_zero: magnitudes below which an entry and an eigenvalue count as zero.

    Parts:
        mean_gradient, gradient_l1: mean and sum of |J_i|. zero_gradient: the share that counts as zero.
        mean_eigenvalue, eigenvalue_l1: mean and sum of |lambda_i|. All of the eigenvalues' parts are NaN, which is not
            flat, where H is exactly zero on the whole batch: on a piecewise-linear network the second derivative of
            the decision function sits on the kinks, where it cannot be seen. Measure CrossEntropy() there.
        zero_eigenvalues: up to `most` alone: quadrature sees no share of zeros. NaN where `eigenvalue_zero` is below
            the resolution of the dtype times the largest |lambda|: in float32 eigenvalues below about 1e-7 ||H||_2 are
            rounding, so that the paper's threshold needs a model and inputs in float64.
        mean_eigenvalue_error: above `most` alone: the standard error of mean_eigenvalue. It does not know of the
            quadrature's own error, which is none where H has at most `steps` distinct eigenvalues.

    Units: gradient, of f per unit of input; eigenvalues, of f per squared unit. Cost: one forward and one backward,
    then two backwards per product, d or samples times steps of them.

    Source: Yu 2018, section 4.1 (eq. 9) and section 4.3, whose thresholds are printed as 10e-3 and 10e-10. Their
    nonzero Hessians of ReLU networks cannot be those of eq. 4's decision function, which is linear between the kinks.
    """

    field: ScalarField = Decision()
    most: int = 1024
    samples: int = 8
    steps: int = 32
    seed: int = 0
    gradient_zero: float = 1e-2
    eigenvalue_zero: float = 1e-9

    def __post_init__(self) -> None:
        whole("most", self.most, 0)
        whole("samples", self.samples, 2)
        whole("steps", self.steps, 1)
        whole("seed", self.seed, 0)
        positive("gradient_zero", self.gradient_zero)
        positive("eigenvalue_zero", self.eigenvalue_zero)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the mean magnitude of the gradient per example, with all other parts."""
        d = x[0].numel()
        exact = d <= self.most
        found: list[dict[str, Tensor]] = []
        for some, labels in few_at_a_time(x, y, d**2 if exact else d * self.steps):
            hessian = Hessian(self.field.bind(model, some, labels), some)
            curvature = self._exact(hessian, some) if exact else self._sampled(hessian, some)
            if self.field.linear_in_logits and is_flat(hessian.gradient, curvature["eigenvalue_l1"]):
                curvature = {name: torch.full_like(part, torch.nan) for name, part in curvature.items()}
            found.append(self._slope(hessian.gradient.detach()) | curvature)
        parts = {name: torch.cat([some[name] for some in found]).to(x.dtype) for name in found[0]}
        return Measurement(
            parts["mean_gradient"], products=d if exact else self.samples * min(d, self.steps), parts=parts
        )

    def _slope(self, gradient: Float[Tensor, "b *input"]) -> dict[str, Tensor]:
        total = norm(gradient, 1)
        return {
            "mean_gradient": total / gradient[0].numel(),
            "gradient_l1": total,
            "zero_gradient": _share(gradient.flatten(1).abs() < self.gradient_zero, total.isfinite()),
        }

    def _exact(self, hessian: Hessian, x: Float[Tensor, "b *input"]) -> dict[str, Tensor]:
        magnitude = symmetric_eigenvalues(dense(hessian, x)).abs()
        seen = torch.finfo(x.dtype).eps * magnitude.amax(1) <= self.eigenvalue_zero
        return {
            "mean_eigenvalue": magnitude.mean(1),
            "eigenvalue_l1": magnitude.sum(1),
            "zero_eigenvalues": _share(magnitude < self.eigenvalue_zero, seen),
        }

    def _sampled(self, hessian: Hessian, x: Float[Tensor, "b *input"]) -> dict[str, Tensor]:
        d = x[0].numel()
        total = lanczos_quadrature(torch.abs, hessian, x, samples=self.samples, steps=self.steps, seed=self.seed)
        return {
            "mean_eigenvalue": total.mean / d,
            "eigenvalue_l1": total.mean,
            "mean_eigenvalue_error": total.standard_error / d,
        }


def _share(zero: Tensor, seen: Tensor) -> Tensor:
    """Return the share of zeros per example; NaN where it cannot be seen."""
    return torch.where(seen, zero.double().mean(1), torch.nan)
