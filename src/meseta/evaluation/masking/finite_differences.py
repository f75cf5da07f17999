"""Is the gradient that autograd gives the slope of the function?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks import Attack, Square
from meseta.autodiff.gradient import full_precision, value_and_gradient
from meseta.autodiff.scalar_fields import Model, margin_to, runner_up
from meseta.checks import positive, whole
from meseta.evaluation.judge import predict
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation, check_thresholds, graded, percent, share
from meseta.linalg.norms import norm, normalized
from meseta.linalg.random import randn

LENGTHS = (1e-4, 1e-6, 1e-2)
"""L2 lengths of the differences, relative to the range of the inputs; the last for models that work in float32."""


@dataclass(frozen=True, kw_only=True)
class FiniteDifferences(MaskingCheck):
    """Autograd's slope of the margin along a direction is not the difference quotient's.

    |g^T u - (f(x + h u) - f(x - h u)) / 2h|, the least over several h, so that neither rounding nor the kinks of
    piecewise-linear networks count. Fails where the backward is another function's: straight-through rounding, clamps
    and detached branches; and where forwards are noisy.

    Args:
        directions: random ones; the gradient's own comes besides.
        tolerance: what the two slopes may differ by, relative to the larger one.
        suspicious, broken: shares of the examples where they differ by more along any direction.

    Cost: one forward and one backward, then 2 forwards a direction, 6 where the slopes differ; in float64 where the
    model can be copied into it.
    Source: Carlini et al. 2019, section 4.4 (verify gradients numerically); Athalye, Carlini & Wagner 2018, section 3.
    """

    directions: int = 2
    tolerance: float = 0.2
    suspicious: float = 0.1
    broken: float = 0.5

    def __post_init__(self) -> None:
        whole("directions", self.directions, 1)
        positive("tolerance", self.tolerance)
        check_thresholds(self.suspicious, self.broken)

    @full_precision()
    def examine(self, case: Case) -> Observation:
        """Compare the slopes."""
        errors = slope_errors(case, self.directions, self.tolerance)
        differ = share((errors > self.tolerance).any(0))
        return Observation(
            graded(differ, self.suspicious, self.broken),
            f"Slopes by autograd and by differences disagree on {percent(differ)} of the examples; the median error of "
            f"the slope along the gradient is {float(errors[0].median()):.1g}.",
            {"disagree": differ, "median_error": float(errors[0].median())},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"Along the gradient or any of {self.directions} random directions the slopes differ by more than "
            f"{percent(self.tolerance)}, on more than {percent(self.suspicious)} (suspicious) or "
            f"{percent(self.broken)} (broken) of the examples."
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """A search without gradients."""
        return (Square(queries=5000),)


def slope_errors(case: Case, directions: int, tolerance: float) -> Tensor:
    """Return the relative errors of the slopes (1 + directions, B), the gradient's own direction first.

    The least over the lengths; those after the first are tried where the error is above the tolerance.
    """
    case.need_gradients()
    model, points = (case.model, case.inside) if case.in_double is None else (case.in_double, case.inside.double())
    low, high = case.threat.bounds or (float(points.min()), float(points.max()))
    generator = case.generator()

    def errors(x: Tensor, y: Tensor) -> Tensor:
        rival = runner_up(predict(model, x, y), y)
        _, gradient = value_and_gradient(lambda points: margin_to(model(points), y, rival), x)
        slopes = _Slopes(model, x, y, rival, gradient)
        rows = [gradient, *(randn(x.shape, x, generator) for _ in range(directions))]
        return torch.stack([slopes.errors(normalized(u), high - low, tolerance) for u in rows], 1)

    return case.in_batches(errors, points, case.y).T


@dataclass(frozen=True)
class _Slopes:
    """The margin at x and its gradient there."""

    model: Model
    x: Tensor
    y: Tensor
    rival: Tensor
    gradient: Tensor

    @torch.no_grad()
    def errors(self, u: Tensor, span: float, tolerance: float) -> Tensor:
        """Return what autograd's slope along u misses of the difference quotient, relative to the larger one."""
        least = self.x.new_full((len(self.x),), torch.inf)
        for length in LENGTHS:
            index = (least > tolerance).nonzero().squeeze(1)
            if len(index) > 0:
                least[index] = torch.minimum(least[index], self._error(index, u[index], length * span))
        return least

    def _error(self, index: Tensor, u: Tensor, h: float) -> Tensor:
        x, y, rival, gradient = (t[index] for t in (self.x, self.y, self.rival, self.gradient))
        ahead, behind = (margin_to(self.model(x + move * u), y, rival) for move in (h, -h))
        slope, quotient = (gradient * u).flatten(1).sum(1), (ahead - behind) / (2 * h)
        typical = norm(gradient) / x[0].numel() ** 0.5  # the size of a slope along a random direction
        larger = torch.stack([slope.abs(), quotient.abs(), typical]).amax(0)
        return torch.where(larger > 0, (slope - quotient).abs() / larger, 0).nan_to_num(torch.inf)
