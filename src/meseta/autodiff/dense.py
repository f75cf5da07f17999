"""Slow exact twins, one example and one row at a time: the truth that tests compare with, and tiny inputs."""

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, leaf, value_and_gradient
from meseta.autodiff.scalar_fields import BoundField, Model
from meseta.shapes import Float


def dense_hessian(f: BoundField, x: Float[Tensor, "b *input"]) -> Float[Tensor, "b d d"]:
    """Return the full Hessian of f at each example, (B, d, d) with the input flattened; d backwards."""
    with derivatives_of_derivatives():
        point = leaf(x)
        (gradient,) = torch.autograd.grad(f(point.clone()).sum(), point, create_graph=True, materialize_grads=True)
        columns = gradient.flatten(1).unbind(1)
        rows = [_row(column, point) for column in columns]
    return torch.stack(rows, 1)


def dense_jacobian(model: Model, x: Float[Tensor, "b *input"]) -> Float[Tensor, "b c *input"]:
    """Return dz/dx, (B, K, *input), by one gradient per class."""
    classes = model(x).shape[1]
    rows = [value_and_gradient(lambda points, c=c: model(points)[:, c], x)[1] for c in range(classes)]  # type: ignore[misc]
    return torch.stack(rows, 1)


def dense_gauss_newton(model: Model, x: Float[Tensor, "b *input"]) -> Float[Tensor, "b d d"]:
    """Return V (diag p - p p^T) V^T at each example, (B, d, d)."""
    p = model(x).detach().softmax(1)
    v = dense_jacobian(model, x).flatten(2)
    return torch.einsum("bkd,bkl,ble->bde", v, torch.diag_embed(p) - p[:, :, None] * p[:, None], v)


def _row(column: Tensor, point: Tensor) -> Tensor:
    if not column.requires_grad:
        return torch.zeros_like(point).flatten(1)
    (row,) = torch.autograd.grad(column.sum(), point, retain_graph=True, materialize_grads=True)
    return row.flatten(1)
