"""Convolutions and SiLU whose derivatives, of any order, cost no more than they must.

On a CPU, most of a derivative of a derivative through torch's own layers is waste. The double backward of a convolution
computes the weights' gradient whether or not anybody asked for it, through kernels meant for something else; the one of
SiLU is a chain of some fifteen elementwise operations. Inside `lean_layers`, `conv2d` and `silu` give way to the ones
below: the same values, derivatives and layout in memory, for every model that calls `torch.nn.functional`, as
`torch.nn` does. Other layers, and what the second function below names, stay torch's.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from numbers import Integral
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.overrides import TorchFunctionMode

Role = Literal["input", "weight", "output"]

_FACTORS: dict[Role, tuple[Role, Role]] = {
    "output": ("input", "weight"),
    "input": ("output", "weight"),
    "weight": ("input", "output"),
}


@contextmanager
def lean_layers(enabled: bool = True) -> Iterator[None]:
    """Run convolutions and SiLU on the layers of this file, within the block and in what is differentiated later.

    Values and derivatives agree with torch's to rounding. Single images, padding by name, in-place SiLU, autocast,
    functorch transforms, forward-mode derivatives, checkpointed and compiled code are left to torch.

    Args:
        enabled: False keeps torch's own layers within the block, whatever is called there: to compare.
    """
    if _settled.get():
        yield
        return
    token = _settled.set(True)
    try:
        with _LeanLayers() if enabled else nullcontext():
            yield
    finally:
        _settled.reset(token)


_settled: ContextVar[bool] = ContextVar("lean_layers", default=False)
"""Whether an enclosing block has decided already."""


class _LeanLayers(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        lean = _LEAN.get(func)
        if lean is None or not args or not _ours_to_change(args[0]):
            return func(*args, **(kwargs or {}))
        return lean(func, *args, **(kwargs or {}))


def _ours_to_change(x: Any) -> bool:
    return (
        isinstance(x, Tensor)
        and x.is_floating_point()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        # Checkpointing sets such hooks, and recomputes with torch's layers, where no block is open any more.
        and torch._C._autograd._top_saved_tensors_default_hooks(True) is None
    )


def _conv2d(
    native: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if input.dim() != 4 or isinstance(padding, str) or input.dtype != weight.dtype or not torch.is_grad_enabled():
        return native(input, weight, bias, stride, padding, dilation, groups)
    form = _Convolution(input, weight, [*map(_pair, (stride, padding, dilation))], groups)
    return form.contract("output", input, weight, bias)


def _silu(native: Callable[..., Tensor], input: Tensor, inplace: bool = False) -> Tensor:
    return native(input, inplace) if inplace or not torch.is_grad_enabled() else _node(_Silu, input)


_LEAN: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.conv2d: _conv2d,
    F.silu: _silu,
}


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, Integral) else list(value)
    return [int(v) for v in (values * 2 if len(values) == 1 else values)]


def _node(function: Any, *arguments: Any) -> Any:
    """Return the function's value, with a node of its own in the graph."""
    return function.apply(*arguments)


class _Convolution:
    """The trilinear form T(x, w, g) = <g, conv(x, w)> of a convolution with these shapes.

    Its three partial contractions are the convolution itself, its input gradient and its weight gradient. The
    derivatives of each one are the other two, so that every derivative of every order is one of three kernels.
    """

    def __init__(self, x: Tensor, weight: Tensor, geometry: list[list[int]], groups: int) -> None:
        self._shape = {"input": x.shape, "weight": weight.shape}
        self._geometry = (*geometry, False, [0, 0], groups)  # stride, padding, dilation; not transposed
        # torch's own rule for the layout of the result: that of the input. By strides, since a single channel is in
        # every layout by the flags.
        self._layout = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format

    def contract(self, role: Role, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return what is left of T when all factors but `role` are given, in the order of `_FACTORS`."""
        with torch.no_grad():
            value = self._kernel(role, a, b, bias)
        if not torch.is_grad_enabled():
            return value
        left, right = _FACTORS[role]
        links = [
            _node(_Factor, a, (b,), self, role, left, value.shape) if a.requires_grad else None,
            _node(_Factor, b, (a,), self, role, right, value.shape) if b.requires_grad else None,
            _node(_Bias, bias, value.shape) if bias is not None and bias.requires_grad else None,
        ]
        return _node(_Join, *links, [value]) if any(link is not None for link in links) else value

    def _kernel(self, role: Role, a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
        if role == "output":
            x, weight = self._laid_out(a), b
            return torch.ops.aten.convolution(x, weight, bias, *self._geometry)  # type: ignore[no-any-return]
        if role == "input":
            g, weight = self._laid_out(a), b
            x = torch.empty(self._shape["input"], dtype=a.dtype, device=a.device, memory_format=self._layout)
        else:
            g, x, weight = self._laid_out(b), self._laid_out(a), a.new_empty(self._shape["weight"])
        wanted = [role == "input", role == "weight", False]
        gradients = torch.ops.aten.convolution_backward(g, x, weight, None, *self._geometry, wanted)
        return gradients[wanted.index(True)]  # type: ignore[no-any-return]

    def _laid_out(self, x: Tensor) -> Tensor:
        return x.to(memory_format=self._layout)


class _Factor(Function):
    """The part of a contraction's derivative that goes to one factor; its own value is a placeholder.

    A node for each factor, because autograd runs a node as a whole: with one node for both, every gradient with respect
    to the input would pay for the weights' gradient too.
    """

    @staticmethod
    def forward(
        ctx: Any,
        factor: Tensor,
        other: tuple[Tensor],
        form: _Convolution,
        value: Role,
        role: Role,
        shape: torch.Size,
    ) -> Tensor:
        ctx.save_for_backward(*other)  # in a tuple, so that this node has no edge to it
        ctx.form, ctx.value, ctx.role = form, value, role
        return factor.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (other,) = ctx.saved_tensors
        first, _ = _FACTORS[ctx.role]
        a, b = (gradients[0], other) if first == ctx.value else (other, gradients[0])
        return ctx.form.contract(ctx.role, a, b), None, None, None, None, None


class _Bias(Function):
    """The part of a convolution's derivative that goes to the bias; its own value is a placeholder."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, shape: torch.Size) -> Tensor:
        return bias.new_zeros(()).expand(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0].sum((0, 2, 3)), None


class _Join(Function):
    """A value computed outside the graph, with the nodes that hold its derivatives."""

    @staticmethod
    def forward(
        ctx: Any, left: Tensor | None, right: Tensor | None, bias: Tensor | None, value: list[Tensor]
    ) -> Tensor:
        return value.pop()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return tuple(gradients[0] if needed else None for needed in ctx.needs_input_grad)


class _Silu(Function):
    """silu(x) = x s, s = sigmoid(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.ops.aten.silu(x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _node(_SiluSlope, gradients[0], *ctx.saved_tensors)


class _SiluSlope(Function):
    """g silu'(x)."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(g, x)
        return torch.ops.aten.silu_backward(g, x)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (u,), (g, x) = gradients, ctx.saved_tensors
        return _node(_SiluSlope, u, x), _node(_SiluBend, u * g, x)


class _SiluBend(Function):
    """w silu''(x)."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(w, x)
        return _silu_bend(w, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (u,), (w, x) = gradients, ctx.saved_tensors
        return _node(_SiluBend, u, x), _silu_third(u * w, x)


def _silu_bend(w: Tensor, x: Tensor) -> Tensor:
    """Return w silu''(x) = w s' (2 + x (1 - 2 s)), s' = s (1 - s)."""
    s = torch.sigmoid(x)
    half = torch.ops.aten.sigmoid_backward(w, s)  # w s'
    return torch.addcmul(half, half, s.sub_(0.5).mul_(x), value=-1).mul_(2)


def _silu_third(w: Tensor, x: Tensor) -> Tensor:
    """Return w times the third derivative, s' (3 (1 - 2 s) + x (1 - 6 s')), s' = s (1 - s)."""
    s = torch.sigmoid(x)
    slope = s * (1 - s)
    return w * slope * (3 - 6 * s + x * (1 - 6 * slope))
