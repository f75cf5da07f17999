"""Simpler eigensolvers to compare Lanczos with: power iteration, and the gradient ascent of Mustafa 2020."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.checks import positive, whole
from meseta.linalg.norms import dual_vector, norm, normalized, per_example
from meseta.linalg.solver import Eigenpair, Eigensolver, Matvec


@dataclass(frozen=True, kw_only=True)
class PowerIteration(Eigensolver):
    """The eigenvalue of largest magnitude by v <- Hv / ||Hv||; its value is the Rayleigh quotient v^T H v.

    Args:
        steps: products, at least 1; the last one evaluates the quotient.
        tol: an example has converged when its residual is at most `tol` |value|.
    """

    steps: int = 10
    tol: float = 1e-2

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        positive("tol", self.tol)

    @torch.no_grad()
    def __call__(self, matvec: Matvec, start: Tensor) -> Eigenpair:
        """Return the eigenpair of each example, from `start` (B, *shape)."""
        v = normalized(start)
        for _ in range(self.steps - 1):
            v = normalized(matvec(v))
        return rayleigh(matvec, v, self.tol, self.steps)


@dataclass(frozen=True, kw_only=True)
class HessianAscent(Eigensolver):
    """Gradient ascent on ||Hv||_2, as published: v <- v + rate H(Hv) / ||Hv||, then v <- v / ||v||.

    Kept to reproduce the paper. The iteration matrix is I + (rate / ||Hv||) H^2, so its accuracy depends on the scale
    of H: the smaller the curvature, the less of it this sees.

    Args:
        steps: iterations of two products each; one more product evaluates the value.
        rate: the step o.
        tol: an example has converged when its residual is at most `tol` |value|.

    Source: Mustafa 2020, Algorithm 1; differs: starts where it is told to, and as an eigensolver (p = q = 2) reports
    v^T H v, which keeps the sign, beside the residual.
    """

    steps: int = 10
    rate: float = 0.1
    tol: float = 1e-2

    def __post_init__(self) -> None:
        whole("steps", self.steps, 0)
        positive("rate", self.rate)
        positive("tol", self.tol)

    @torch.no_grad()
    def __call__(self, matvec: Matvec, start: Tensor) -> Eigenpair:
        """Return the eigenpair of each example, from `start` (B, *shape)."""
        return rayleigh(matvec, self.direction(matvec, start), self.tol, 2 * self.steps + 1)

    @torch.no_grad()
    def direction(self, matvec: Matvec, start: Tensor, p: float = 2, q: float = 2) -> Tensor:
        """Return v after all steps; for other norms, v <- v + rate H d_q(Hv) with d_q the dual vector, ||v||_p = 1."""
        v = normalized(start, p)
        for _ in range(self.steps):
            v = normalized(v + self.rate * matvec(dual_vector(matvec(v), q)), p)
        return v


def rayleigh(matvec: Matvec, v: Tensor, tol: float, products: int) -> Eigenpair:
    """Return the Rayleigh quotient of unit vectors v with its residual, by one product."""
    hv = matvec(v)
    value = (v * hv).flatten(1).sum(1)
    residual = norm(hv - per_example(value, v) * v)
    return Eigenpair(value, v, residual, residual <= tol * value.abs(), products)
