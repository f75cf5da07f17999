"""How far a function stays positive whose value, slope and curvature are bounded: the closed form all bounds share."""

import torch
from torch import Tensor


def taylor_radius(value: Tensor, slope: Tensor, curvature: Tensor) -> Tensor:
    """Return the largest R with R (slope + R curvature / 2) <= value.

    f(x + delta) >= f - ||grad f||_q ||delta||_p - K ||delta||_p^2 / 2, so f stays positive while ||delta||_p < R with

        R = 2 f / (g + sqrt(g^2 + 2 K f)),

    the maximiser of min{R, f / (g + R K / 2)} for a constant K. This form is stable: it tends to f / g as K -> 0, where
    the textbook root (sqrt(g^2 + 2 K f) - g) / K loses every digit.

    Args:
        value: f > 0. slope: g = ||grad f||_q >= 0. curvature: K >= 0. Of shapes that broadcast.

    Returns:
        R; infinite where g = K = 0, NaN where an argument is.

    Source: Mustafa 2020, Theorem 2 and Corollary 1; Guo 2020, Lemma 3.1.
    """
    root = slope + (slope**2 + 2 * curvature * value).sqrt()
    return torch.where(root > 0, 2 * value / root, torch.where(root == 0, torch.inf, torch.nan))
