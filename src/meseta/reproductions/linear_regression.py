"""Linear regression with more weights than its data can tell: the example of Ma et al. 2020, section 2.

x = (x_1, 0, ..., 0) with x_1 ~ N(1, 1), the target is x_1, and f(x) = w^T x. All is in closed form in the moments of
x_1; weights are (..., d), so that many initial ones go together.
"""

from math import pi

import torch
from torch import Tensor

MEAN, SQUARE = 1.0, 2.0
"""E[x_1] and E[x_1^2]."""
STILL = 1e-12
"""The longest move of a weight at which descent has come to rest."""


def unused(w: Tensor) -> Tensor:
    """Return sum_{j >= 2} |w_j|, (...): how far the attack of section 2 moves the output, over eps."""
    return w[..., 1:].abs().sum(-1)


def loss_under_attack(w: Tensor, eps: float) -> Tensor:
    """Return E[l(x + Delta; w)], Delta = eps (0, sign w_2, ..., sign w_d): the robustified loss, clean at eps = 0."""
    off, s = w[..., 0] - 1, unused(w)
    return (off**2 * SQUARE + 2 * eps * off * MEAN * s + eps**2 * s**2) / 2


def descend(start: Tensor, *, ridge: float = 0.0, eps: float = 0.0, steps: int = 3000) -> Tensor:
    """Return where descent on loss_under_attack + ridge/2 ||w||^2 ends up, from weights of its own.

    The absolute values take a proximal step, so that a weight stops at 0 and does not jump over it. With
    both ridge and eps the sum is not convex, and a weight at 0 may stay where it would do better moved. It takes at
    most so many steps, and fewer where no weight moves any more.
    """
    w = start.clone()
    rate = 1 / (SQUARE + ridge + eps**2 * w.shape[-1])
    for _ in range(steps):
        before, off, s = w, w[..., 0] - 1, unused(w)
        push = eps**2 * s + eps * off * MEAN
        w = w - rate * ridge * w
        w[..., 0] -= rate * (off * SQUARE + eps * MEAN * s)
        rest = w[..., 1:]
        w[..., 1:] = rest.sign() * (rest.abs() - rate * push[..., None]).clamp_min(0)
        if (w - before).abs().max() <= STILL:
            break
    return w


def expected_loss(counted: int, eps: float, sigma: float = 1.0) -> float:
    """Return eps^2/2 E[(sum of `counted` |w_j|)^2] for w ~ N(0, sigma^2 I).

    The attack moves d - 1 coordinates; the paper counts all d.
    """
    return eps**2 / 2 * sigma**2 * (counted + counted * (counted - 1) * 2 / pi)


def drawn(draws: int, d: int, seed: int = 0) -> Tensor:
    """Return initial weights (draws, d) from N(0, I)."""
    return torch.randn(draws, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
