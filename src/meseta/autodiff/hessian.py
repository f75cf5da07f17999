"""Per-example products with the Hessian of a scalar field, exact or by finite differences at a chosen radius."""

import torch
from torch import Tensor

from meseta.autodiff.gradient import (
    derivatives_of_derivatives,
    full_precision,
    gradient_of,
    leaf,
    value_and_gradient,
)
from meseta.autodiff.scalar_fields import BoundField
from meseta.checks import positive
from meseta.errors import UserError
from meseta.linalg.norms import norm, normalized, per_example
from meseta.shapes import Float


class Hessian:
    """The exact Hessian H(x) = grad^2 f(x) of each example, as a product v -> Hv.

    Double backward on a graph that is built once and kept, so that k products cost one forward, one backward and
    k backwards through the gradient.

    Args:
        f: field (B, *input) -> (B,).
        x: inputs (B, *input), a constant point.

    Attributes:
        value: f(x), (B,). gradient: grad f(x), (B, *input). Both carry the graph to the parameters of f.
    """

    def __init__(self, f: BoundField, x: Float[Tensor, "b *input"]) -> None:
        with derivatives_of_derivatives():
            self._point = leaf(x)
            self.value = f(self._point.clone())
            self.gradient = gradient_of(self.value, self._point, create_graph=True)

    def __call__(self, v: Float[Tensor, "b *input"], *, create_graph: bool = False) -> Float[Tensor, "b *input"]:
        """Return Hv per example; with `create_graph`, differentiable with respect to the parameters of f."""
        if not self.gradient.requires_grad:  # the gradient is a constant: f is linear
            return torch.zeros_like(self._point)
        (product,) = torch.autograd.grad(
            self.gradient, self._point, v, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )
        return product.contiguous()


class FiniteDifferenceHessian:
    """The Hessian seen at radius h: Hv is taken as (grad f(x + h v/|v|) - grad f(x)) |v| / h.

    Or, with `central`, as (grad f(x + h v/|v|) - grad f(x - h v/|v|)) |v| / 2h, which is odd in v as a linear map is.

    With h -> 0 this tends to the exact product; a larger h sees the curvature at the scale of an attack, also where
    the pointwise Hessian vanishes (piecewise-linear networks). Autocast is off within (`full_precision`).

    Args:
        f: field (B, *input) -> (B,).
        x: inputs (B, *input).
        radius: h, L2, in units of x.
        central: difference across x, not from x.
        guarded: raise where the difference would measure rounding. False lets it, to reproduce what was published with
            such a radius: the products are then mostly noise.

    Cost:
        One forward and backward at x, then one of each per product, two with `central`.

    Raises:
        UserError: in a guarded product, where h |v/|v||_inf is below 100 times the resolution of x in its dtype: the
            shifted point would be rounded and the difference be noise (float32 at x = 1, d = 3072: h = 1e-6 is noise,
            h = 1e-3 is right to 2 %).
    """

    @full_precision()
    def __init__(
        self,
        f: BoundField,
        x: Float[Tensor, "b *input"],
        radius: float,
        *,
        central: bool = False,
        guarded: bool = True,
    ) -> None:
        positive("radius", radius)
        self._f, self._x, self._radius = f, x.detach(), radius
        self._central, self._guarded = central, guarded
        self.value, self.gradient = value_and_gradient(f, x, create_graph=True)

    @full_precision()
    def __call__(self, v: Float[Tensor, "b *input"], *, create_graph: bool = False) -> Float[Tensor, "b *input"]:
        """Return the difference quotient along v; zero for v = 0."""
        length = norm(v.detach(), 2)
        shift = self._radius * normalized(v.detach())
        if self._guarded:
            check_resolution(self._x, shift)
        _, shifted = value_and_gradient(self._f, self._x + shift, create_graph=create_graph)
        if self._central:
            _, base = value_and_gradient(self._f, self._x - shift, create_graph=create_graph)
        else:
            base = self.gradient if create_graph else self.gradient.detach()
        step = 2 * self._radius if self._central else self._radius
        return per_example(length / step, v) * (shifted - base)


def check_resolution(x: Float[Tensor, "b *input"], shift: Float[Tensor, "b *input"], name: str = "radius") -> None:
    """Raise where the largest entry of a nonzero shift is below `resolution` at x; `name` is the setting to change."""
    least = resolution(x)
    largest = shift.detach().flatten(1).abs().amax(1)
    lost = (largest > 0) & (largest < least)
    if lost.any():
        worst = int(torch.where(lost, least / largest, 0).argmax())
        raise UserError(
            f"`{name}`: the finite difference moves no pixel by more than {largest[worst].item():.2g}, below "
            f"{least[worst].item():.2g}, 100 times the resolution of {x.dtype} inputs: it would measure rounding. "
            f"Use a larger {name} (1e-3 or more), float64, or exact derivatives where they are offered."
        )


def resolution(x: Float[Tensor, "b *input"]) -> Float[Tensor, "b"]:
    """Return 100 spacings of floating-point numbers at the largest entry of each example."""
    return 100 * torch.finfo(x.dtype).eps * x.detach().flatten(1).abs().amax(1)
