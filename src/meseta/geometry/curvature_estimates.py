"""How well cheap estimates see the curvature."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of, whole
from meseta.geometry.base import FieldMeasure, Measurement
from meseta.geometry.second_order import check_seen, random_direction, start
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import norm, normalized
from meseta.linalg.power import HessianAscent
from meseta.linalg.solver import Eigensolver, check_end


@dataclass(frozen=True, kw_only=True)
class CurvatureEstimates(FieldMeasure):
    """The spectral norm of the input Hessian, ||H||_2, beside the estimates of it that regularisers use.

    The value is |lambda| from the solver, the truth up to its residual; estimates never exceed ||H||_2.

    Args:
        field: f; the cross-entropy loss by default. The paper does not say which it took.
        solver: of the truth.
        ascent: the gradient ascent of the paper.
        seed: of the ascent's start, a normal vector that is the same for every example.

    Parts:
        gradient_direction: ||Hg|| / ||g||, the curvature along the gradient g, as CURE takes it; NaN where g = 0.
        hessian_ascent: ||Hv||, v from `ascent`.
        ascent_minus_gradient: their difference.
        gradient_direction_ratio, hessian_ascent_ratio: each over the value; NaN where the value is 0.

    Units: of f per squared unit of input; ratios have none. Cost: one forward and one backward, then two backwards per
    product: those of the solver, 21 of the ascent with its default 10 steps, and one.

    Raises:
        UserError: f is linear in the logits and its Hessian is exactly zero on the whole batch (`SpectralCurvature`).

    Source: Mustafa 2020, appendix C.1 and Figure 3, who take `hessian_ascent` for the truth; differs: Lanczos for the
    truth, because the ascent sees the less of a curvature the smaller it is (`meseta.linalg.HessianAscent`). On a
    trained SiLU CNN (MNIST) the mean ratios of gradient and ascent were 0.61 and 0.98 for margins, whose norm is about
    6, and 0.99 and 0.17 for the loss, whose norm is about 2e-4.
    """

    solver: Eigensolver = Lanczos(tol=1e-3)
    ascent: HessianAscent = HessianAscent()
    seed: int = 0

    def __post_init__(self) -> None:
        instance_of("solver", self.solver, Eigensolver)
        check_end(self.solver, "largest_magnitude")
        instance_of("ascent", self.ascent, HessianAscent)
        whole("seed", self.seed, 0)

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the norm and its estimates per example."""
        hessian = Hessian(self.field.bind(model, x, y), x)
        gradient = hessian.gradient.detach()
        pair = self.solver(hessian, start(gradient))
        check_seen(self, hessian, pair.value)
        truth = pair.value.abs()
        along = torch.where(norm(gradient) == 0, torch.nan, norm(hessian(normalized(gradient))))
        climbed = norm(hessian(self.ascent.direction(hessian, random_direction(x, self.seed))))
        parts = {
            "gradient_direction": along,
            "hessian_ascent": climbed,
            "ascent_minus_gradient": climbed - along,
            "gradient_direction_ratio": along / truth,
            "hessian_ascent_ratio": climbed / truth,
        }
        parts = {name: torch.where(truth.isfinite(), part, torch.nan) for name, part in parts.items()}
        products = pair.products + 2 * self.ascent.steps + 2
        return Measurement(truth, pair.residual, pair.converged, products, parts)
