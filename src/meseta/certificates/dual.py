"""The distance to a boundary from below, by the Lagrangian dual of a function whose curvature is bounded."""

from collections.abc import Callable

import torch
from torch import Tensor

from meseta.linalg.norms import norm, normalized, per_example
from meseta.shapes import Float

RISE = 8.0
"""The multiplier is looked for up to this many times that of a linear function."""


def dual_radius(
    f: Callable[[Tensor], Tensor],
    x: Float[Tensor, "b *input"],
    low: Float[Tensor, "b"],
    high: Float[Tensor, "b"],
    radius: Float[Tensor, "b"],
    *,
    multipliers: int = 8,
    steps: int = 15,
) -> Float[Tensor, "b"]:
    """Return a lower bound of the distance from x to {f <= 0}, for -low I <= grad^2 f <= high I within `radius`.

    For 0 <= eta < 1 / low the Lagrangian ||z - x||^2 / 2 + eta f(z) is strongly convex in the ball, with modulus
    mu = 1 - eta low, so that at any point z of the ball, with r its gradient there,

        min_{f(z') <= 0} ||z' - x||^2 / 2  >=  ||z - x||^2 / 2 + eta f(z) - ||r||^2 / (2 mu).

    z descends by steps of 1 / (1 + eta high) and eta is bisected on the sign of f(z), the derivative of the dual; the
    best bound met is returned. Whatever z and eta are, the bound holds; where the ball ends the bound does, so at most
    `radius` comes out.

    Args:
        f: (B, *input) -> (B,), positive at x. x: (B, *input).
        low, high: (B,) at least 0. radius: (B,), infinite where the curvature is bounded everywhere.
        multipliers: values of eta that are tried. steps: descents for each; a forward and a backward each.

    Source: Singla & Feizi 2020, Theorem 1 (curvature-based robustness certificate); the form with a remaining gradient
    is sound before convergence, and the ball is ours.
    """
    value, gradient = _at(f, x)
    least = x.new_zeros(len(x))
    most = torch.minimum(0.999 / low, RISE * value / norm(gradient).clamp_min(1e-30) ** 2).clamp_max(1e30)
    best = torch.zeros_like(value)
    z = x.clone()
    for _ in range(multipliers):
        eta = (least + most) / 2
        for _ in range(steps):
            value, gradient = _at(f, z)
            residual = z - x + per_example(eta, x) * gradient
            inside = norm(z - x) <= radius
            distance = norm(z - x) ** 2 / 2 + eta * value - norm(residual) ** 2 / (2 * (1 - eta * low))
            best = torch.maximum(best, torch.where(inside, distance.nan_to_num(0, 0, 0), 0))
            z = _into_ball(z - residual / per_example(1 + eta * high, x), x, radius)
        positive = value > 0
        least, most = torch.where(positive, eta, least), torch.where(positive, most, eta)
    return torch.minimum((2 * best).sqrt(), radius)


def _at(f: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor]:
    """Return f and its gradient."""
    with torch.enable_grad():
        point = z.detach().requires_grad_()
        value = f(point)
        (gradient,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), gradient


def _into_ball(z: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """Return z, drawn to just inside the ball."""
    length = norm(z - x)
    outside = length > radius * (1 - 1e-9)
    drawn = x + per_example(torch.where(outside, radius * (1 - 1e-9), 0), x) * normalized(z - x)
    return torch.where(per_example(outside, x), drawn, z)
