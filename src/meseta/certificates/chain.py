"""A feed-forward network read as a chain of affine maps and activations; layers that cannot be read are named."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.activations import Activation, known_activation
from meseta.certificates.affine import AffineMap, Piece, average_pool, convolution, dense, reshape, scale
from meseta.errors import UserError
from meseta.models.network import Network, Normalize

AGREEMENT = 1e-3
"""The logits of chain and model must agree to this share of their largest, at two inputs."""


@dataclass(frozen=True)
class Chain:
    """z = W_L sigma_{L-1}(... sigma_1(W_1 x + b_1) ...) + b_L.

    Attributes:
        maps: W_1 ... W_L. activations: sigma_1 ... sigma_{L-1}.
    """

    maps: tuple[AffineMap, ...]
    activations: tuple[Activation, ...]
    functions: tuple[nn.Module, ...]
    """The activations as modules, to evaluate them."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return self.maps[-1](self.activated(x)[-1])

    def activated(self, x: Tensor) -> list[Tensor]:
        """Return the input of every affine map: x, then the value of every activation."""
        values = [x]
        for affine, function in zip(self.maps, self.functions, strict=False):
            values.append(function(affine(values[-1]).clone()))  # an activation may work in place
        return values


def read_chain(model: Model, x: Tensor, who: str, *, curved: bool, trainable: bool = False) -> Chain:
    """Read the model as a chain.

    Args:
        model: a `Network`, or an `nn.Sequential` of layers (nested as one likes).
        x: inputs (B, *input), of which the shape is taken, and with which the chain is compared to the model.
        who: asks, for the error. curved: whether every activation must have a second derivative.
        trainable: keep the model's own parameters, in their dtype and with their gradients; otherwise the chain is a
            constant in float64.

    Raises:
        UserError: naming every layer that cannot be covered, and why; or the model computes something else than its
            layers say.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"`model`: {who} needs the layers of an nn.Module, got {type(model).__name__}.")
    with torch.no_grad():
        logits = None if trainable else model(x[:2].clone())  # first, since a hook may make the weights in a forward
    refused: list[str] = []
    groups: list[list[Callable[[tuple[int, ...]], Piece] | Piece]] = [[]]
    activations: list[Activation] = []
    functions: list[nn.Module] = []

    def weight_of(tensor: Tensor) -> Tensor:
        return tensor if trainable else tensor.detach().double()

    hooked = [] if trainable else [(name, part) for name, part in model.named_modules() if _hooked(part)]
    refused += [f"{name or 'model'} ({type(part).__name__}): has hooks" for name, part in hooked]
    for name, layer in _layers(model, ""):
        if not _plain(layer):
            refused.append(f"{name} ({type(layer).__name__}): has a forward of its own")
            continue
        activation = known_activation(layer)
        if activation is not None:
            if curved and activation.second is None:
                refused.append(f"{name} ({type(layer).__name__}): no second derivative at its kink")
            groups.append([])
            activations.append(activation)
            functions.append(layer)
            continue
        read = _affine(layer, weight_of)
        if isinstance(read, str):
            refused.append(f"{name} ({type(layer).__name__}): {read}")
        elif read is not None:
            groups[-1].append(read)
    if refused:
        raise UserError(
            f"`model`: {who} cannot cover {len(refused)} of its layers: {'; '.join(refused)}. It covers linear layers, "
            "convolutions, average pooling, BatchNorm in eval mode and the activations sigmoid, tanh, softplus, SiLU "
            f"and GELU{'' if curved else ', ReLU and LeakyReLU'}."
        )
    like = x if trainable else x.double()
    shape = tuple(x.shape[1:])
    maps: list[AffineMap] = []
    for group in groups:
        pieces: list[Piece] = []
        for entry in group:
            piece = entry if isinstance(entry, Piece) else entry(shape)
            shape = _applied(piece, shape, like, who)
            pieces.append(piece)
        maps.append(AffineMap(pieces, tuple(x.shape[1:]) if not maps else maps[-1].out_shape, like))
    chain = Chain(tuple(maps), tuple(activations), tuple(functions))
    if logits is not None:
        _check_agreement(chain(like[:2]), logits.double(), type(model).__name__, who)
    return chain


def _applied(piece: Piece, shape: tuple[int, ...], like: Tensor, who: str) -> tuple[int, ...]:
    try:
        return tuple(piece(like.new_zeros(1, *shape)).shape[1:])
    except RuntimeError as error:
        raise UserError(f"`model`: {who} cannot follow its layers on inputs of {shape}: {error}") from None


def _check_agreement(found: Tensor, expected: Tensor, model: str, who: str) -> None:
    """Raise where the chain gives other logits than the model: something goes on in it that its layers do not say."""
    gap = (found - expected).abs().max() if found.shape == expected.shape else torch.tensor(torch.inf)
    if expected.isfinite().all() and not gap <= AGREEMENT * expected.abs().max() + 1e-30:
        raise UserError(
            f"`model`: {who} reads the layers of {model} in their order, and their logits are not those of its "
            "forward. Give an nn.Sequential without hooks, or a meseta Network."
        )


def _layers(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the leaves of containers whose forward is known, with their path."""
    if isinstance(module, Network) and _plain(module):
        yield "normalize", module.normalize
        yield from _layers(module.body, "body")
    elif isinstance(module, nn.Sequential) and _plain(module):
        for name, child in module._modules.items():  # `named_children` leaves out a module's second use
            if child is None:
                continue
            yield from _layers(child, f"{path}.{name}" if path else name)
    else:
        yield path or "model", module


def _plain(module: nn.Module) -> bool:
    """Return whether a module's forward is that of torch's or meseta's class."""
    home = next(c for c in type(module).__mro__ if "forward" in vars(c)).__module__
    return home.startswith(("torch.nn.modules.", "meseta.models.")) and "forward" not in vars(module)


def _hooked(module: nn.Module) -> bool:
    """Return whether a module has hooks but for those of torch.nn.utils, which make weights anew.

    What they do nobody knows: a certificate stops there, a penalty takes them for the observers that they mostly are.
    """
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return not all(type(hook).__module__.startswith("torch.nn.utils") for hook in hooks)


def _affine(
    layer: nn.Module, weight_of: Callable[[Tensor], Tensor]
) -> Piece | Callable[[tuple[int, ...]], Piece] | str | None:
    """Return a layer's piece (for some, once the input's shape is known), None for the identity, or what is wrong."""

    def bias_of(bias: Tensor | None) -> Tensor | None:
        return None if bias is None else weight_of(bias)

    match layer:
        case nn.Identity() | nn.Dropout() | nn.Dropout1d() | nn.Dropout2d() | nn.AlphaDropout():
            return None  # what is bounded is the network in eval mode
        case Normalize():
            factor = 1 / weight_of(layer.std)
            return scale(factor, -weight_of(layer.mean) * factor)
        case nn.Flatten() if (layer.start_dim, layer.end_dim) == (1, -1):
            return lambda shape: reshape((torch.Size(shape).numel(),))
        case nn.Linear():
            return dense(weight_of(layer.weight), bias_of(layer.bias))
        case nn.Conv2d() if layer.padding_mode == "zeros" and layer.padding != "same":
            return convolution(
                weight_of(layer.weight),
                bias_of(layer.bias),
                stride=_pair(layer.stride),
                padding=(0, 0) if isinstance(layer.padding, str) else _pair(layer.padding),
                dilation=_pair(layer.dilation),
                groups=layer.groups,
            )
        case nn.Conv2d():
            return f"padding {layer.padding!r} in mode {layer.padding_mode!r}; give a number of zeros"
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if layer.training or layer.running_mean is None or layer.running_var is None:
                return "normalises by the statistics of the batch"
            return lambda shape: _batch_norm(layer, shape, weight_of)
        case nn.AvgPool2d() if (
            not layer.ceil_mode
            and layer.divisor_override is None
            and (layer.count_include_pad or _pair(layer.padding) == (0, 0))
        ):
            stride = layer.kernel_size if layer.stride is None else layer.stride
            kernel, stride, padding = _pair(layer.kernel_size), _pair(stride), _pair(layer.padding)
            return lambda _: average_pool(kernel, stride=stride, padding=padding, like=weight_of(torch.ones(())))
        case nn.AdaptiveAvgPool2d():
            return lambda shape: _adaptive(layer, shape, weight_of)
    return "an unknown layer, or with unknown options"


def _batch_norm(
    layer: nn.BatchNorm1d | nn.BatchNorm2d, shape: tuple[int, ...], weight_of: Callable[[Tensor], Tensor]
) -> Piece:
    assert layer.running_mean is not None  # else refused
    assert layer.running_var is not None
    factor = (weight_of(layer.running_var) + layer.eps).rsqrt()
    if layer.weight is not None:
        factor = factor * weight_of(layer.weight)
    shift = -weight_of(layer.running_mean) * factor
    if layer.bias is not None:
        shift = shift + weight_of(layer.bias)
    axes = (-1, *[1] * (len(shape) - 1))
    return scale(factor.view(axes), shift.view(axes))


def _adaptive(layer: nn.AdaptiveAvgPool2d, shape: tuple[int, ...], weight_of: Callable[[Tensor], Tensor]) -> Piece:
    size = layer.output_size
    pair = tuple(size) if isinstance(size, tuple | list) else (size, size)
    wanted = [side if n is None else n for n, side in zip(pair, shape[1:], strict=False)]
    if len(shape) != 3 or any(side % n for n, side in zip(wanted, shape[1:], strict=True)):
        raise UserError(
            f"`model`: adaptive average pooling of {shape} to {pair} has windows of several sizes, or no images to "
            "pool, which certificates do not cover. Use sizes that divide."
        )
    kernel = (shape[1] // wanted[0], shape[2] // wanted[1])
    return average_pool(kernel, stride=kernel, padding=(0, 0), like=weight_of(torch.ones(())))


def _pair(value: int | tuple[int, ...] | list[int]) -> tuple[int, int]:
    return (value[0], value[1]) if isinstance(value, tuple | list) else (value, value)
