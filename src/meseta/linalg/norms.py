"""Per-example norms that are safe to differentiate at zero and do not under- or overflow."""

import torch
from torch import Tensor

from meseta.errors import UserError
from meseta.shapes import Float

INFINITY = float("inf")


def norm(v: Float[Tensor, "b *shape"], p: float = 2) -> Float[Tensor, "b"]:
    """Return ||v_i||_p of each example, over all its entries.

    Zero vectors have norm 0 and gradient 0, also in second derivatives; NaN and infinity stay what they are; where
    several entries tie for the maximum, p = inf takes the mean of their subgradients.

    Args:
        v: (B, *shape).
        p: 1 <= p <= inf.
    """
    if not p >= 1:
        raise UserError(f"`p` must be in [1, inf], got {p}.")
    flat = v.flatten(1)
    largest = flat.detach().abs().amax(1)
    nonzero = (largest > 0) & largest.isfinite()
    # The norm is homogeneous, so dividing by a constant scale changes neither value nor gradient.
    scale = torch.where(nonzero, largest, 1)
    entries = torch.where(nonzero[:, None], flat / scale[:, None], 0).abs()
    if p == 1:
        total = entries.sum(1)
    elif p == INFINITY:
        total = entries.amax(1)
    else:
        # 1 replaces the sum of a zero vector, whose root would have an infinite derivative.
        powers = torch.where(nonzero, (entries**p).sum(1), 1)
        total = torch.where(nonzero, powers ** (1 / p), 0)
    return torch.where(nonzero, total * scale, largest)  # `largest` is 0, inf or NaN itself there


def normalized(v: Float[Tensor, "b *shape"], p: float = 2) -> Float[Tensor, "b *shape"]:
    """Return v_i / ||v_i||_p, and 0 for zero vectors; exact down to subnormal vectors."""
    largest = v.detach().flatten(1).abs().amax(1)
    unit = v / per_example(torch.where(largest > 0, largest, 1), v)  # first, so that no length underflows
    length = norm(unit, p)
    return unit / per_example(torch.where(length > 0, length, 1), v)


def dual_vector(v: Float[Tensor, "b *shape"], q: float = 2) -> Float[Tensor, "b *shape"]:
    """Return the u_i with ||u_i||_p = 1, 1/p + 1/q = 1, along which v_i is longest: <v_i, u_i> = ||v_i||_q.

    u = sign(v) |v|^(q-1) / ||v||_q^(q-1): sign(v) for q = 1, v / ||v||_2 for q = 2, and for q = inf the signed unit
    vector of the largest entry, the first where several tie. Zero vectors give 0.
    """
    flat = v.flatten(1)
    if q == INFINITY:
        index = flat.abs().argmax(1, keepdim=True)
        unit = torch.zeros_like(flat).scatter(1, index, flat.gather(1, index).sign())
    else:
        scaled = normalized(flat, INFINITY)  # first, so that no power underflows as a whole
        unit = normalized(scaled.sign() * scaled.abs() ** (q - 1), dual_exponent(q))
    return unit.view_as(v)


def per_example(values: Tensor, like: Float[Tensor, "b *shape"]) -> Tensor:
    """Return one value per example, shaped to multiply `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))


def dual_exponent(p: float) -> float:
    """Return q with 1/p + 1/q = 1."""
    if p == 1:
        return INFINITY
    return 1.0 if p == INFINITY else p / (p - 1)
