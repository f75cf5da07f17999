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


class LogitJacobian:
    """The Jacobian of the logits of each example by its products, u -> V u and v -> V^T v, without holding V.

    V = [v_0 ... v_{K-1}] is the d x K matrix of logit gradients, so that V e_k is the gradient of logit k. The map u ->
    V u is linear, and its own vector-Jacobian product is V^T v, wherever that is taken: two reverse passes.

    Args:
        model: inputs to logits (B, K); examples must not influence one another.
        x: inputs (B, *input), a constant point.

    Attributes:
        logits: (B, K), with the graph to the parameters.

    Cost:
        One forward to build and one backward for a product V u. The first V^T v takes one more backward, unless
        `linearize` has; then each is one backward through that.
    """

    def __init__(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        with derivatives_of_derivatives():
            self._point = leaf(x)
            self.logits = model(self._point.clone())
        if not self.logits.requires_grad:
            raise UserError("the model's output is cut off from its input, so it has no Jacobian.")
        self._base: tuple[Tensor, Tensor] | None = None

    def times(self, u: Float[Tensor, "b c"], *, create_graph: bool = False) -> Float[Tensor, "b *input"]:
        """Return V u per example, the gradient of u^T z."""
        with derivatives_of_derivatives():
            return vector_jacobian(self.logits, self._point, u, create_graph=create_graph)

    def linearize(self, u: Float[Tensor, "b c"]) -> Float[Tensor, "b *input"]:
        """Return V u, and take transposed products at u from now on; any u gives the same."""
        with derivatives_of_derivatives():
            at = u.detach().requires_grad_()
            self._base = at, vector_jacobian(self.logits, self._point, at)
        return self._base[1].detach()

    def transposed_times(self, v: Float[Tensor, "b *input"], *, create_graph: bool = False) -> Float[Tensor, "b c"]:
        """Return V^T v per example, the derivative of the logits along v."""
        if self._base is None:
            self.linearize(torch.ones_like(self.logits))
        assert self._base is not None
        at, pullback = self._base
        (product,) = torch.autograd.grad(
            pullback, at, v, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        return product


def vector_jacobian(
    logits: Float[Tensor, "b c"], point: Tensor, u: Float[Tensor, "b c"], *, create_graph: bool = True
) -> Float[Tensor, "b *input"]:
    """Return u^T dz/dx per example, by default differentiable in the parameters; `point` made the logits."""
    (product,) = torch.autograd.grad(
        logits, point, u, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )
    return product.contiguous()
