"""The trust-region problem: the maximum of a quadratic in a ball, from products with its matrix alone."""

import torch
from torch import Tensor

from meseta.linalg.krylov import KrylovSpace
from meseta.linalg.norms import norm, per_example
from meseta.linalg.solver import Matvec
from meseta.shapes import Float

BISECTIONS = 64
"""Of the logarithm of the multiplier: to the resolution of float64."""


@torch.no_grad()
def trust_region_step(
    matvec: Matvec, gradient: Float[Tensor, "b *input"], radius: float, products: int, *, seed: int = 0
) -> Float[Tensor, "b *input"]:
    """Return the maximiser of g^T e + e^T H e / 2 over ||e||_2 <= radius, in the Krylov space of H and g.

    In the basis of Lanczos the problem is one with H = T, tridiagonal, and g = ||g|| e_1, which `maximizer` solves
    exactly: GLTR (Gould, Lucidi, Roma & Toint 1999). Exact where `products` reaches the dimension, from below
    elsewhere. Where the Krylov space is exhausted or g is 0, random directions are added, so that maxima beside that
    space are found as well (the hard case). A product that is not finite counts as 0.

    Args:
        matvec: v -> Hv per example. gradient: g, finite.
        products: Hessian products, at most the dimension are taken. seed: of the random directions.
    """
    space = KrylovSpace(matvec, gradient, min(products, gradient[0].numel()), seed)
    while not space.complete:
        space.extend()
    slope = torch.zeros_like(space.tridiagonal()[:, 0])
    slope[:, 0] = norm(gradient)
    weights = maximizer(slope, space.tridiagonal(), radius)
    return per_example(norm(weights), gradient).to(gradient.dtype) * space.combine(weights.to(gradient.dtype))


def maximizer(g: Float[Tensor, "b k"], h: Float[Tensor, "b k k"], radius: float) -> Float[Tensor, "b k"]:
    """Return the maximiser of g^T s + s^T h s / 2 over ||s||_2 <= radius, for dense h.

    (lambda I - h) s = g with lambda >= max(theta_max, 0), and ||s|| = radius unless lambda = 0. The length of s falls
    as lambda grows, so lambda - max(theta_max, 0) is bisected on a logarithmic scale. In the hard case, where s is too
    short for every lambda > theta_max, the eigenvector of theta_max makes up for the rest.
    """
    theta, vectors = torch.linalg.eigh(h)
    c = torch.einsum("bij,bi->bj", vectors, g)
    least = theta[:, -1:].clamp_min(0)
    gaps = least - theta

    def solution(log_above: Tensor) -> Tensor:
        return torch.where(c == 0, 0, c / (log_above.exp() + gaps))

    high = (norm(c)[:, None] / radius).clamp_min(torch.finfo(c.dtype).tiny).log()  # s is short enough there
    low = torch.full_like(high, torch.finfo(c.dtype).tiny).log()
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fits = (solution(middle) ** 2).sum(1, keepdim=True) <= radius**2
        low, high = torch.where(fits, low, middle), torch.where(fits, middle, high)
    s = solution(high)
    # The length is met along the top eigenvector, where it is most sensitive: all of it in the hard case.
    top = (radius**2 - (s[:, :-1] ** 2).sum(1)).clamp_min(0).sqrt() * torch.where(c[:, -1] < 0, -1, 1)
    s[:, -1] = torch.where(theta[:, -1] >= 0, top, s[:, -1])
    return torch.einsum("bij,bj->bi", vectors, s)
