"""Steps to the maximiser of the quadratic model of the loss."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, asked
from meseta.attacks.frank_wolfe import quadratic
from meseta.autodiff.hessian import Hessian
from meseta.autodiff.scalar_fields import BoundField, Decision, Model, ScalarField
from meseta.checks import instance_of, whole
from meseta.linalg.norms import per_example
from meseta.linalg.trust_region import trust_region_step

SHARES = (1, 1 / 2, 1 / 4)
"""How far along each step the loss itself is asked for: where the model overshoots, a part of the step is better."""


@dataclass(frozen=True, kw_only=True)
class SecondOrder(Attack):
    """Step to the maximiser of the quadratic model of the loss, and keep what raises the loss itself.

    At each point x_t, with g and H the gradient and the Hessian of the loss there,

        e = argmax q(x + e) over ||e||_2 <= r,   q(z) = g^T (z - x_t) + (z - x_t)^T H (z - x_t) / 2,

    where r is the radius of the smallest L2 ball around the threat's ball: a trust-region problem, solved in the Krylov
    space of g + H(x - x_t) (`linalg.trust_region`). Then z = project(x + e) goes uphill inside ball and bounds by
    Frank-Wolfe steps, z <- z + gamma (v - z) with v the vertex that is farthest along the slope of q and gamma in
    [0, 1] the best one, so that q never falls; x_{t+1} is the point with the highest loss among x_t and those 1, 1/2
    and 1/4 of the way from x_t to z.

    lambda_max([[r^2 H, r g], [r g^T, 0]]), which the `lifted_spectral` form of `Soar` penalises, is a relaxation of the
    same problem: its quadratic form at (e/r, 1) is twice the model, and all vectors of square length 2 compete, not
    only those that end in 1. Here the maximiser itself is wanted, which costs no more products.

    Exact on quadratics in L2 without bounds once `products` reaches the dimension; with one polishing step exact on
    binary linear models in every norm. The Hessian of a margin vanishes on piecewise-linear networks: with such a
    `loss` the steps are of first order there; with the cross-entropy they see its curvature in the logits.

    Args:
        threat: norm, eps and bounds.
        steps: points x_t, at least 1.
        products: Hessian products for the trust-region problem.
        polish: Frank-Wolfe steps, at least 1.
        loss: the field that is raised, or lowered where it falls under attack (margins). The margin, because far from
            the boundary the cross-entropy is no quadratic: 3 steps on a PGD-trained MNIST network at its eps in Linf
            left 51 % standing, with the cross-entropy 67 %, where PGD-60 on the margin left 53 %.

    An example leaves the batch once it is broken. Deterministic.
    Cost: a step takes one forward and one backward, `products` + `polish` + 2 Hessian products, each one backward
    through the gradient, and 3 forwards; and one forward at x.
    Source: ours.
    """

    steps: int = 3
    products: int = 8
    polish: int = 4
    loss: ScalarField = Decision()

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("products", self.products, 1)
        whole("polish", self.polish, 1)
        instance_of("loss", self.loss, ScalarField)

    @property
    def name(self) -> str:
        """For example `SecondOrder-3 CrossEntropy`."""
        return f"SecondOrder-{self.steps} {type(self.loss).__name__}"

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the points with the highest loss."""
        result, points, active = x.clone(), x, torch.arange(len(x), device=x.device)
        highest, broken = asked(model, x, y, self.loss)
        for _ in range(self.steps):
            if broken.any():
                result[active[broken]] = points[broken]
                active, points, highest, x, y = (t[~broken] for t in (active, points, highest, x, y))
                if len(active) == 0:
                    return result
            goal = self._goal(self._rising(model, points, y), points, x)
            start, broken = points, torch.zeros_like(y, dtype=torch.bool)
            for share in SHARES:
                candidate = self.threat.project(start + share * (goal - start), x)  # for the rounding
                value, errs = asked(model, candidate, y, self.loss)
                better = torch.where(errs == broken, value > highest, errs)
                points = torch.where(per_example(better, x), candidate, points)
                highest, broken = torch.where(better, value, highest), broken | errs
        result[active] = points
        return result

    def _goal(self, f: BoundField, points: Tensor, x: Tensor) -> Tensor:
        """Return a point of the threat where the quadratic model at `points` is high."""
        hessian = Hessian(f, points)
        g = hessian.gradient.detach().nan_to_num(0, 0, 0)

        def product(v: Tensor) -> Tensor:
            return hessian(v).detach().nan_to_num(0, 0, 0)

        step = trust_region_step(product, g + product(x - points), self.threat.l2_radius(x[0].numel()), self.products)
        goal = self.threat.project(x + step, x)
        slope = g + product(goal - points)
        for _ in range(self.polish):
            way = self.threat.farthest(slope, x) - goal
            curve = product(way)
            gamma = _best_share(quadratic(slope, 0 * curve, way), quadratic(0 * slope, 2 * curve, way))
            goal, slope = goal + per_example(gamma, x) * way, slope + per_example(gamma, x) * curve
        return goal

    def _rising(self, model: Model, x: Tensor, y: Tensor) -> BoundField:
        sign, field = 1 if self.loss.rises_under_attack else -1, self.loss.bind(model, x, y)
        return lambda inputs: sign * field(inputs)


def _best_share(slope: Tensor, curvature: Tensor) -> Tensor:
    """Return the gamma in [0, 1] with the highest gamma slope + gamma^2 curvature / 2, for slope >= 0."""
    falling = curvature < 0
    inner = slope / torch.where(falling, -curvature, 1)
    return torch.where(falling, inner.clamp(0, 1), 1)
