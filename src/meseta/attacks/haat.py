"""The inner attack of Hessian approximation for adversarial training (HAAT)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack
from meseta.autodiff.hessian import FiniteDifferenceHessian, Hessian
from meseta.autodiff.scalar_fields import BoundField, CrossEntropy, Model
from meseta.checks import at_least, instance_of, positive, whole
from meseta.errors import UserError
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import normalized, per_example
from meseta.linalg.random import randn
from meseta.linalg.solver import Eigensolver, check_end


@dataclass(frozen=True, kw_only=True)
class Haat(Attack):
    """Iterated steps along the loss gradient and the most curved direction together.

    x <- project(x + w1 eps s(g) + w2 eps sigma u / ||u||_p),  sigma = sign(g^T u)

    with g the gradient of the cross-entropy at x, s(g) the steepest step of the threat's norm p (sign(g) for Linf), and
    u the eigenvector that the solver finds for the Hessian at x, from a start drawn anew in every step, as published.
    An eigenvector has no sign: sigma takes the one that the loss rises along.

    As published: `Haat(solver=PowerIteration(steps=6), radius=1e-6, guarded=False)`, five iterations u <- Hu / ||Hu||
    (the solver's sixth product is its estimate of the eigenvalue) on differences of gradients at 1e-6. In float32 these
    are rounding noise and so is u, which explains why its iterates did not converge; besides, power iteration goes to
    the eigenvalue of largest magnitude, where the second-order term is largest at the largest one.

    Args:
        threat: norm, eps and bounds.
        steps: moves, at least 1.
        w1: share of eps of a move along the gradient.
        w2: share of eps of a move along the eigenvector.
        solver: finds u.
        radius: None for the exact Hessian; a length h, in input units, for differences of gradients h apart.
        guarded: refuse a radius below the resolution of the inputs; False needs a radius.

    Cost: a step takes one forward and one backward, then the solver's products: each one backward through the gradient,
    or with a radius one forward and one backward.

    Raises:
        UserError: a guarded radius below 100 times the resolution of the inputs.

    Source: Mei 2022, Algorithm 1. Differs: printed, it mixes u and d, moves inside the power iteration, moves by the
    gradient itself, takes u with an arbitrary sign, and stretches it by sqrt(d), which saturates every pixel. w1 is
    published, w2 = w1 is ours, and so are the norms other than Linf.
    """

    steps: int = 10
    w1: float = 0.25
    w2: float = 0.25
    solver: Eigensolver = Lanczos(steps=5, which="largest")
    radius: float | None = None
    guarded: bool = True

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        at_least("w1", self.w1, 0)
        at_least("w2", self.w2, 0)
        instance_of("solver", self.solver, Eigensolver)
        check_end(self.solver, "largest", "largest_magnitude")
        if self.radius is not None:
            positive("radius", self.radius)
        elif not self.guarded:
            raise UserError("`guarded` is False, and without a `radius` there is nothing to guard. Give a radius.")

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the last iterate."""
        f = CrossEntropy().bind(model, x, y)
        points = x
        for _ in range(self.steps):
            hessian = self._hessian(f, points)
            g = hessian.gradient.detach().nan_to_num(0, 0, 0)
            u = self.solver(hessian, randn(x.shape, x, generator)).vector.nan_to_num(0, 0, 0)
            rising = torch.where((g * u).flatten(1).sum(1) < 0, -1, 1)
            curved = per_example(rising, u) * normalized(u, self.threat.p)
            move = self.w1 * self.threat.steepest(g, points) + self.w2 * curved
            points = self.threat.project(points + self.threat.eps * move, x)
        return points

    def _hessian(self, f: BoundField, x: Tensor) -> Hessian | FiniteDifferenceHessian:
        if self.radius is None:
            return Hessian(f, x)
        return FiniteDifferenceHessian(f, x, self.radius, guarded=self.guarded)
