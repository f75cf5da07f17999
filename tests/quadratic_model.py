"""The exact distance in a quadratic model of the loss, to compare bounds of it with."""

import torch
from torch import Tensor


def exact_distance(g: Tensor, h: Tensor, gap: Tensor) -> Tensor:
    """Return min ||r||_2 with g^T r + r^T H r / 2 >= gap per example, for H with lambda_max >= 0.

    By strong duality of the trust-region problem, min ||r||^2 = max (2 gap - g^T (mu I - H)^-1 g) / mu over
    mu > lambda_max, which is quasi-concave: a ternary search in log(mu - lambda_max).
    """
    eigenvalues, vectors = torch.linalg.eigh(h)
    weights = (vectors.mT @ g[:, :, None]).squeeze(2) ** 2
    top = eigenvalues[:, -1:]
    below = top - eigenvalues

    def squared(log_above: Tensor) -> Tensor:
        above = log_above.exp()
        return (2 * gap[:, None] - (weights / (above + below)).sum(1, keepdim=True)) / (above + top)

    scale = (g.norm(dim=1, keepdim=True) + top).clamp_min(1e-100).log()
    low, high = scale - 60, scale + 60
    for _ in range(300):
        third = (high - low) / 3
        left, right = squared(low + third), squared(high - third)
        low, high = torch.where(left < right, low + third, low), torch.where(left < right, high, high - third)
    return squared((low + high) / 2).squeeze(1).clamp_min(0).sqrt()
