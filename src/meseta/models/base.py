"""What every architecture shares: its activation, its normalisation, how it starts and what it asks of the input."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import nn

from meseta.errors import UserError, unknown_name
from meseta.files import check_memory
from meseta.models.network import Network, Normalize

Activation = Literal["relu", "silu", "softplus", "gelu", "tanh", "sigmoid"]
Normalization = Literal["none", "batch", "group"]


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """A network as a specification: plain options that a configuration holds and a checkpoint saves.

    Args:
        activation: after every hidden layer. All but "relu" have a second derivative other than zero.
        beta: sharpness of the softplus, in 1/pre-activation; it tends to the ReLU as beta grows. 1 for the others.
        norm: after every hidden layer, before its activation. "batch" couples the examples of a batch in train mode,
            so that input gradients are not per example there; "group" never does.

    Every network is twice differentiable where its activation is, has no in-place operation, and starts from Kaiming
    normal weights (He et al. 2015) with zero biases; the smooth activations take the gain of the ReLU.
    """

    activation: Activation = "relu"
    beta: float = 1.0
    norm: Normalization = "none"

    def __post_init__(self) -> None:
        if self.activation not in get_args(Activation):
            raise unknown_name("activation", str(self.activation), get_args(Activation))
        if self.norm not in get_args(Normalization):
            raise unknown_name("norm", str(self.norm), get_args(Normalization))
        if not 0 < self.beta < float("inf"):
            raise UserError(f"`beta` must be positive and finite, got {self.beta}. 10 is close to a ReLU.")
        if self.activation != "softplus" and self.beta != 1:
            raise UserError(
                f"`beta` is the sharpness of the softplus, got {self.beta} with activation {self.activation!r}. "
                "Leave it at 1, or set activation: softplus."
            )

    @abstractmethod
    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return the layers from normalised inputs, (B, *input_shape), to logits, (B, classes).

        Raises:
            UserError: inputs of this shape do not fit the network.
        """

    def build(
        self,
        input_shape: Sequence[int],
        classes: int,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        generator: torch.Generator | None = None,
    ) -> Network:
        """Return a new network, in train mode.

        Args:
            input_shape: of one example: (channels, height, width), or (features,) for vectors.
            classes: the number of logits, at least 2.
            mean: per channel (per feature of vectors), subtracted from the input; together with `std`, or neither.
            std: per channel, what the difference is divided by.
            generator: source of the initial weights; None takes torch's global one.
        """
        shape = tuple(input_shape)
        if not shape:
            raise UserError("`input_shape` must name at least one axis, got (). Give (channels, height, width).")
        for size in shape:
            check_count("input_shape", size)
        check_count("classes", classes, least=2)
        normalize = Normalize(shape, mean, std)
        self.check_size(shape, classes)
        with torch.random.fork_rng(devices=[]):  # the layers' own initial values, replaced below, cost no random state
            body = self.layers(shape, classes)
        self.initialise(body, generator)
        return Network(self, shape, classes, normalize, body)

    def check_size(self, input_shape: tuple[int, ...], classes: int) -> None:
        """Raise where the weights need more memory than there is, before any of it is taken."""
        try:
            with torch.device("meta"):
                weights = list(self.layers(input_shape, classes).parameters())
        except (RuntimeError, OverflowError) as error:
            raise UserError(f"`model`: {self} cannot be built for {input_shape}: {error}") from None
        size = sum(weight.numel() * weight.element_size() for weight in weights)
        check_memory(f"`model`: {self} with its gradients", 2 * size)

    def initialise(self, body: nn.Sequential, generator: torch.Generator | None) -> None:
        """Draw the weights: Kaiming normal by fan-in with the activation's gain, gain 1 into the logits."""
        weighted = [module for module in body.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for module in weighted:
            gain: Literal["linear", "tanh", "relu"] = "tanh" if self.activation == "tanh" else "relu"
            if module is weighted[-1]:
                gain = "linear"
            nn.init.kaiming_normal_(module.weight, nonlinearity=gain, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def activate(self) -> nn.Module:
        """Return a new activation module."""
        match self.activation:
            case "relu":
                return nn.ReLU()
            case "silu":
                return nn.SiLU()
            case "softplus":
                return nn.Softplus(beta=self.beta)
            case "gelu":
                return nn.GELU()
            case "tanh":
                return nn.Tanh()
            case "sigmoid":
                return nn.Sigmoid()

    def normalise(self, channels: int, *, maps: bool = True) -> list[nn.Module]:
        """Return the normalisation of `channels` feature maps, or features: one module, or none."""
        match self.norm:
            case "none":
                return []
            case "batch":
                return [nn.BatchNorm2d(channels) if maps else nn.BatchNorm1d(channels)]
            case "group":
                return [nn.GroupNorm(groups_of(channels), channels)]

    def convolution(
        self, channels: int, maps: int, *, kernel: int = 3, stride: int = 1, padding: int = 1
    ) -> list[nn.Module]:
        """Return convolution and normalisation, without an activation; a bias only where no normalisation has one."""
        bias = self.norm == "none"
        return [nn.Conv2d(channels, maps, kernel, stride, padding, bias=bias), *self.normalise(maps)]

    def dense(self, inputs: int, hidden: Sequence[int], classes: int) -> list[nn.Module]:
        """Return fully connected layers of the `hidden` widths, each normalised and activated, and then the logits."""
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            linear = nn.Linear(before, after, bias=self.norm == "none")
            layers += [linear, *self.normalise(after, maps=False), self.activate()]
        return [*layers, nn.Linear(widths[-1], classes)]


@dataclass(frozen=True, kw_only=True)
class ImageArchitecture(Architecture):
    """An architecture that takes images, (channels, height, width), of any size that survives its pooling."""

    @abstractmethod
    def side(self, size: int) -> int:
        """Return the side of the last feature map for images of side `size`; below 1 where they are too small."""

    def last_map(self, input_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of the last feature map; raise where the input is no image or too small."""
        name = type(self).__name__
        if len(input_shape) != 3:
            raise UserError(
                f"`input_shape`: {name} takes images, (channels, height, width), got {input_shape}. "
                "Use Mlp or LeNet300100 for vectors."
            )
        height, width = self.side(input_shape[1]), self.side(input_shape[2])
        if min(height, width) < 1:
            least = next(size for size in range(1, 1000) if self.side(size) >= 1)
            raise UserError(
                f"`input_shape`: {self} needs images of at least {least}×{least}, "
                f"got {input_shape[1]}×{input_shape[2]}. Use larger images, more padding or another architecture."
            )
        return height, width


def after(size: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Return the side of a map of side `size` after a convolution or a pooling."""
    return (size + 2 * padding - kernel) // stride + 1


def groups_of(channels: int) -> int:
    """Return the number of groups: the largest divisor of `channels` up to 32 that leaves 4 channels to a group.

    Four, because a group of one value (one channel of a 1×1 map) would be normalised to zero.
    """
    return max(g for g in range(1, 33) if g == 1 or (channels % g == 0 and channels // g >= 4))


def check_count(name: str, value: object, *, least: int = 1, most: int = 2**31) -> None:
    """Raise where the option `name` is not a whole number from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        bounds = f"at least {least}" if most == 2**31 else f"from {least} to {most}"
        raise UserError(f"`{name}` must be a whole number, {bounds}, got {value!r}. Change it.")


def check_widths(name: str, widths: object) -> None:
    """Raise where the option `name` is not a tuple of positive whole numbers; an empty one is allowed."""
    if not isinstance(widths, tuple):
        raise UserError(f"`{name}` must be a tuple of layer widths such as (200, 200), got {widths!r}. Change it.")
    if len(widths) > 1000:  # each is a module of its own: a short file could ask for minutes
        raise UserError(f"`{name}` must name at most 1000 layers, got {len(widths)}. Change it.")
    for width in widths:
        check_count(name, width)
