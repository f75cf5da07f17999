"""Per-example products with the Gauss-Newton matrix of the cross-entropy loss, V A V^T, and with its root."""

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives
from meseta.autodiff.jacobian import LogitJacobian
from meseta.autodiff.scalar_fields import Model
from meseta.shapes import Float


class GaussNewton:
    """The Gauss-Newton matrix G = V A V^T of the cross-entropy loss of each example, as a product v -> Gv.

    V is the d x K matrix of logit gradients and A = diag(p) - p p^T the Hessian of the loss in the logits, p the
    softmax. Positive semidefinite, rank at most K - 1, independent of the label. Equal to the loss Hessian on
    piecewise-linear networks; on smooth ones it leaves out sum_k (p_k - y_k) grad^2 z_k.

    G = R R^T with the d x K root R = V S, A = S S^T, so that the K x K matrix R^T R has the same nonzero eigenvalues.

    Args:
        model: inputs to logits (B, K).
        x: inputs (B, *input), a constant point.

    Attributes:
        logits: (B, K), with the graph to the parameters.
        gradient: (B, *input), of the loss of the likeliest class, detached; in the range of G.

    Cost:
        One forward and two backwards to build, then a Jacobian-vector and a vector-Jacobian product each; a product
        with the root is one vector-Jacobian product, with its transpose one Jacobian-vector product.
    """

    def __init__(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        self._jacobian = LogitJacobian(model, x)
        self.logits = self._jacobian.logits
        with derivatives_of_derivatives():
            self._softmax = SoftmaxRoot(self.logits)
            # The loss gradient of the likeliest class is of use itself, so transposed products are taken there.
            self.gradient = self._jacobian.linearize(self._softmax.likeliest())

    def __call__(self, v: Float[Tensor, "b *input"], *, create_graph: bool = False) -> Float[Tensor, "b *input"]:
        """Return Gv per example; with `create_graph`, differentiable with respect to the parameters."""
        return self.root(self.root_transposed(v, create_graph=create_graph), create_graph=create_graph)

    def root(self, u: Float[Tensor, "b c"], *, create_graph: bool = False) -> Float[Tensor, "b *input"]:
        """Return Ru per example."""
        with torch.enable_grad():
            product = self._jacobian.times(self._softmax.times(u), create_graph=create_graph)
        return product if create_graph else product.detach()

    def root_transposed(self, v: Float[Tensor, "b *input"], *, create_graph: bool = False) -> Float[Tensor, "b c"]:
        """Return R^T v per example."""
        tangent = self._jacobian.transposed_times(v, create_graph=create_graph)
        with torch.enable_grad():
            product = self._softmax.transposed_times(tangent)
        return product if create_graph else product.detach()


class SoftmaxRoot:
    """A root S, (B, K, K), of A = diag(p) - p p^T = S S^T that keeps its precision where one p is near 1.

    A is blind to a constant, so logits count from the likeliest class m. With q the probabilities of the others (q_m =
    0) and c = 1 / (1 + sqrt(p_m)), S = (I - e_m 1^T) diag(sqrt q) (I - c sqrt q sqrt q^T). The textbook root
    diag(sqrt p) (I - sqrt p sqrt p^T) loses 1 - p_m to rounding, and with it the curvature of confident examples.

    Args:
        logits: (B, K).
    """

    def __init__(self, logits: Float[Tensor, "b c"]) -> None:
        log_p = logits.log_softmax(1)
        self._likeliest = logits.argmax(1, keepdim=True)
        self._root = (log_p / 2).exp().scatter(1, self._likeliest, 0)  # sqrt q
        self._c = 1 / (1 + (log_p.gather(1, self._likeliest) / 2).exp())

    def likeliest(self) -> Float[Tensor, "b c"]:
        """Return p - e_m, the gradient in the logits of the loss of the likeliest class."""
        q = self._root**2
        return q.scatter(1, self._likeliest, -q.sum(1, keepdim=True))

    def times(self, u: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Return S u."""
        inner = self._root * (u - self._c * (self._root * u).sum(1, keepdim=True) * self._root)
        return inner.scatter_add(1, self._likeliest, -inner.sum(1, keepdim=True))

    def transposed_times(self, t: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """Return S^T t."""
        inner = self._root * (t - t.gather(1, self._likeliest))
        return inner - self._c * (self._root * inner).sum(1, keepdim=True) * self._root

    def gram(self, jacobian: Float[Tensor, "b c *input"]) -> Float[Tensor, "b c c"]:
        """Return R^T R = S^T V^T V S from the Jacobian V^T: K x K, with the nonzero eigenvalues of G."""
        v = jacobian.flatten(2)
        index = self._likeliest[:, :, None].expand(-1, 1, v.shape[2])
        rows = self._root[:, :, None] * (v - v.gather(1, index))
        rows = rows - (self._c * self._root)[:, :, None] * (self._root[:, None] @ rows)
        return rows @ rows.mT
