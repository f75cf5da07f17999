"""Check a caller's model, inputs and labels, in one place; borrow a model's mode and put it back."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Real

import torch
from torch import Tensor, nn

from meseta.errors import UserError

Bounds = tuple[float, float]

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""What a data set or model on the hub is called: owner/name."""


def check_batch(x: Tensor, y: Tensor, *, bounds: Bounds | None = None) -> None:
    """Raise unless x is a finite floating batch inside `bounds` and y holds one class index per example.

    Args:
        x: inputs (B, *input).
        y: labels (B,), integer.
        bounds: the values that inputs may take; None for no limits.

    Raises:
        UserError: naming what is wrong, where, and what to do.
    """
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise UserError(f"`x` and `y` must be tensors, got {type(x).__name__} and {type(y).__name__}.")
    if not x.is_floating_point():
        raise UserError(f"`x` must be floating point, got {x.dtype}. Scale images to [0, 1]: x.float() / 255.")
    if x.dim() < 2 or len(x) == 0:
        raise UserError(f"`x` must be a batch (B, *input) of at least one example, got shape {tuple(x.shape)}.")
    if y.shape != x.shape[:1]:
        raise UserError(f"`y` must have shape ({len(x)},), one label per example, got {tuple(y.shape)}.")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise UserError(f"`y` must hold integer class indices, got {y.dtype}.")
    low, high = (value.item() for value in x.detach().aminmax())
    # aminmax lets NaN through to both ends, so one comparison catches NaN and infinities.
    if not (-float("inf") < low <= high < float("inf")):
        raise UserError("`x` holds NaN or infinite values. Clean the inputs first.")
    if bounds is not None and (low < bounds[0] or high > bounds[1]):
        raise UserError(
            f"`x` must lie in the bounds [{bounds[0]:g}, {bounds[1]:g}], got values in [{low:.4g}, {high:.4g}]. "
            "Scale the inputs, move the normalisation into the model, or give the threat other bounds."
        )
    if y.min() < 0:
        raise UserError(f"`y` must hold class indices from 0, got {int(y.min())}.")


def check_logits(logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return `logits` if they are (B, K) with K >= 2 and every label is below K; raise otherwise."""
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"`model` must return logits of shape ({len(x)}, K) with K >= 2, got {got}.")
    if y.max() >= logits.shape[1]:
        raise UserError(
            f"`y` must hold class indices 0..{logits.shape[1] - 1} for a model with {logits.shape[1]} classes, "
            f"got {int(y.max())}."
        )
    return logits


def positive(name: str, value: float) -> None:
    """Raise unless `value` is a positive finite number."""
    if not (isinstance(value, Real) and not isinstance(value, bool) and 0 < value < float("inf")):
        raise UserError(f"`{name}` must be positive and finite, got {value!r}.")


def at_least(name: str, value: float, least: float) -> None:
    """Raise unless `value` is a finite number of at least `least`."""
    if not (isinstance(value, Real) and not isinstance(value, bool) and least <= value < float("inf")):
        raise UserError(f"`{name}` must be finite and at least {least:g}, got {value!r}.")


def exponent(name: str, value: float) -> float:
    """Return the exponent of a norm as a float, so that 2 and 2.0 are one setting; raise outside [1, inf]."""
    if not (isinstance(value, Real) and not isinstance(value, bool) and value >= 1):
        raise UserError(f"`{name}` must be in [1, inf], got {value!r}. Use 1, 2 or inf.")
    return float(value)


def whole(name: str, value: int, least: int) -> None:
    """Raise unless `value` is a whole number from `least` to 2^63 - 1."""
    if not (isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63):
        raise UserError(f"`{name}` must be a whole number, at least {least}, got {value!r}.")


def one_of(name: str, value: object, known: Sequence[str]) -> None:
    """Raise unless `value` is one of the known words."""
    if value not in known:
        raise UserError(f"`{name}` must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}.")


def instance_of(name: str, value: object, kind: type) -> None:
    """Raise unless `value` is one of the kind, such as an Attack."""
    if not isinstance(value, kind):
        raise UserError(f"`{name}` must be {_article(kind.__name__)}, got {value!r}.")


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIO" else f"a {name}"


def usable_device(name: str | None) -> torch.device:
    """Return the device of that name, or the GPU if there is one; raise where torch cannot use it."""
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=chosen).item()  # which the device "meta" cannot do
        return torch.device(chosen)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise UserError(f"`device`: torch cannot use {chosen!r}: {str(error).splitlines()[0]}") from None


@contextmanager
def eval_mode(model: object) -> Iterator[None]:
    """Put every submodule into eval mode for the block, then put each one's own mode back."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    for module in modules:
        module.training = False  # not .eval(), which modules may override with more than the mode
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def eval_term(model: object) -> Iterator[bool]:
    """Compute a term of a training step in eval mode; yields whether the model's own mode gives the same values.

    Where it does, nothing is changed. Elsewhere buffers are copied for the block as well: the backward of BatchNorm in
    eval mode reads its running statistics again, and a forward in train mode has changed them by then, in place and
    unseen by autograd, which makes the gradient silently wrong.
    """
    if not mode_matters(model):
        yield True
        return
    modules = [module for module in model.modules() if module.training] if isinstance(model, nn.Module) else []
    kept = [dict(module._buffers) for module in modules]
    for module, buffers in zip(modules, kept, strict=True):
        module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        with eval_mode(model):
            yield False
    finally:
        for module, buffers in zip(modules, kept, strict=True):
            module._buffers.update(buffers)


SAME_IN_BOTH_MODES = tuple(
    f"torch.nn.modules.{file}"
    for file in (
        *("activation", "channelshuffle", "container", "conv", "distance", "flatten", "fold", "linear"),
        *("normalization", "padding", "pixelshuffle", "pooling", "sparse", "upsampling"),
    )
)
"""Where torch keeps the layers that do the same in train and in eval mode, but for the two named below."""


def mode_matters(model: object) -> bool:
    """Return whether the model might do something else in eval mode than in the mode that it is in.

    True where a module in train mode is one of torch's that has modes (BatchNorm, Dropout), or one that neither torch
    nor meseta brings: nobody knows what its forward does. A model that is a plain function has no mode.
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    return any(module.training and _has_modes(module) for module in modules)


def _has_modes(module: nn.Module) -> bool:
    home = type(module).__module__
    if home in SAME_IN_BOTH_MODES:
        return isinstance(module, nn.RReLU | nn.MultiheadAttention)
    if home.startswith("torch.nn."):
        return True
    return not home.startswith("meseta.models.")


@contextmanager
def derivatives_in_eval_mode(model: object) -> Iterator[None]:
    """Eval mode with autograd on, whatever the caller's no_grad or inference mode."""
    with eval_mode(model), torch.inference_mode(False), torch.enable_grad():
        yield


def constant(x: Tensor) -> Tensor:
    """Return x without history, and usable by autograd also where it was made in inference mode."""
    with torch.inference_mode(False):
        return x.clone() if x.is_inference() else x.detach()


_SMOOTH = {"celu", "elu", "erf", "exp", "gelu", "logsigmoid", "mish", "sigmoid", "silu", "softmax", "softplus", "tanh"}


def check_curved(gradient: Tensor, curvature: Tensor, who: str, instead: str) -> None:
    """Raise where a second derivative is exactly zero on the whole batch, as on every piecewise-linear network.

    Zero gradients (a constant model) and networks with a smooth layer on the way (deep in saturation) may pass.

    Args:
        gradient: (B, *input), of the field, with its graph. curvature: (B,), zero where the second derivative is.
        who: asks for the second derivative. instead: what to do.
    """
    if is_flat(gradient, curvature):
        raise UserError(
            f"{who}: the margins' Hessian is exactly zero on all {len(curvature)} examples, as on every "
            f"piecewise-linear network (ReLU, max pooling). Use a smooth activation such as SiLU, or {instead}."
        )


def is_flat(gradient: Tensor, curvature: Tensor) -> bool:
    """Return whether a second derivative is exactly zero wherever it is finite, and no smooth layer is in sight."""
    finite = curvature.isfinite()
    return bool(
        finite.any() and not curvature[finite].any() and gradient[finite].any() and not _has_smooth_layer(gradient)
    )


def _has_smooth_layer(value: Tensor) -> bool:
    """Return whether a smooth nonlinearity stands in the graph that made the value."""
    nodes, seen = [value.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().lower().lstrip("_").split("backward")[0] in _SMOOTH:
            return True
        nodes += [following for following, _ in node.next_functions]
    return False
