"""Per-example products with the Gauss-Newton matrix of the cross-entropy loss, V A V^T."""

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, leaf
from meseta.autodiff.scalar_fields import Model
from meseta.shapes import Float


class GaussNewton:
    """The Gauss-Newton matrix G = V A V^T of the cross-entropy loss of each example, as a product v -> Gv.

    V is the d x K matrix of logit gradients and A = diag(p) - p p^T the Hessian of the loss in the logits, p the
    softmax. Positive semidefinite, rank at most K - 1, independent of the label. Equal to the loss Hessian on
    piecewise-linear networks; on smooth ones it leaves out sum_k (p_k - y_k) grad^2 z_k.

    Args:
        model: inputs to logits (B, K).
        x: inputs (B, *input), a constant point.

    Cost:
        One forward and two backwards to build, then a Jacobian-vector and a vector-Jacobian product each.
    """

    def __init__(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        with derivatives_of_derivatives():
            self._point = leaf(x)
            self._logits = model(self._point.clone())
            # V^T v by two reverse passes: u -> V u is linear, so its own vector-Jacobian product is V^T v.
            self._cotangent = torch.zeros_like(self._logits, requires_grad=True)
            (self._pullback,) = torch.autograd.grad(
                self._logits, self._point, self._cotangent, create_graph=True, materialize_grads=True
            )

    def __call__(self, v: Float[Tensor, "b *input"], *, create_graph: bool = False) -> Float[Tensor, "b *input"]:
        """Return Gv per example; with `create_graph`, differentiable with respect to the parameters."""
        (tangent,) = torch.autograd.grad(
            self._pullback, self._cotangent, v, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        p = self._logits.softmax(1)
        # A is blind to a constant; measured from the likeliest class, nothing cancels when that class has p near 1.
        tangent = tangent - tangent.gather(1, p.argmax(1, keepdim=True))
        weighted = p * (tangent - (p * tangent).sum(1, keepdim=True))
        (product,) = torch.autograd.grad(
            self._logits, self._point, weighted, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        return product if create_graph else product.detach()
