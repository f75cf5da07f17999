"""How far a function stays positive whose value, slope and curvature are bounded: the closed form all bounds share."""

import math

import torch
from torch import Tensor

from meseta.shapes import Float, Int


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


def loss_gap(logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Return xi = log 2 - l, l the cross-entropy of the label: how far the loss is from where the model may err.

    Where the model errs, p_y <= 1/2 and l >= log 2, whatever the number of classes K; it may err long before l = log K.
    In float64, and to full relative precision also where l is near log 2: with s = logsumexp_{j != y}(z_j) - z_y,
    l = log(1 + e^s) and xi = -log(1 + (e^s - 1) / 2).
    """
    logits = logits.double()
    own = logits.gather(1, y[:, None])
    s = (logits - own).scatter(1, y[:, None], -torch.inf).logsumexp(1)
    return torch.where(s < 0, -(s.clamp_max(0).expm1() / 2).log1p(), math.log(2) - s - (-s.abs()).exp().log1p())
