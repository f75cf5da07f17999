"""The Jacobian of the logits with respect to the input: the gradients v_0 ... v_{K-1} of every example."""

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, leaf
from meseta.autodiff.scalar_fields import Model
from meseta.errors import UserError
from meseta.shapes import Float


def logits_and_jacobian(
    model: Model, x: Float[Tensor, "b *input"], *, create_graph: bool = False
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c *input"]]:
    """Return the logits and the Jacobian dz/dx per example, (B, K) and (B, K, *input).

    One forward, then one vector-Jacobian product per class on its graph, each over the whole batch. (Batching the
    classes too, by vmap or by repeating the inputs, measured 1.5 to 3 times slower on a CPU.)

    Args:
        model: inputs to logits (B, K); examples must not influence one another.
        x: inputs (B, *input), a constant point.
        create_graph: keep both differentiable with respect to the parameters.
    """
    with derivatives_of_derivatives():
        point = leaf(x)
        logits = model(point.clone())
        if not logits.requires_grad:
            raise UserError("the model's output is cut off from its input, so it has no Jacobian.")
        rows = [
            torch.autograd.grad(
                column.sum(), point, retain_graph=True, create_graph=create_graph, materialize_grads=True
            )[0]
            for column in logits.unbind(1)
        ]
    return (logits if create_graph else logits.detach()), torch.stack(rows, 1)


def vector_jacobian(
    logits: Float[Tensor, "b c"], point: Tensor, u: Float[Tensor, "b c"], *, create_graph: bool = True
) -> Float[Tensor, "b *input"]:
    """Return u^T dz/dx per example, by default differentiable in the parameters; `point` made the logits."""
    (product,) = torch.autograd.grad(
        logits, point, u, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )
    return product.contiguous()
