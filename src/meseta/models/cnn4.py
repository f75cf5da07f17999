"""The four-layer CNN of Carlini, Mustafa and SOAR, rough and smooth."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from meseta.errors import UserError, unknown_name
from meseta.models.base import Activation, ImageArchitecture, after, check_count, check_widths

Downsample = Literal["max_pool", "stride"]


@dataclass(frozen=True, kw_only=True)
class Cnn4(ImageArchitecture):
    """Four 3×3 convolutions of 32, 32, 64 and 64 maps, halved after the second and the fourth, then dense layers.

    Args:
        maps: of the four convolutions.
        downsample: "max_pool" after convolutions 2 and 4, or "stride" 2 in them, which is smooth.
        hidden: widths of the fully connected layers: (200, 200) in Carlini & Wagner 2017, () in SOAR.
        padding: pixels around each convolution's input, 0 or 1; 0 in Carlini & Wagner 2017.

    Source: Carlini & Wagner 2017, table 1; Ma et al. 2020 (SOAR), App. C; Mustafa et al. 2020, App. C.
    """

    maps: tuple[int, int, int, int] = (32, 32, 64, 64)
    downsample: Downsample = "max_pool"
    hidden: tuple[int, ...] = (200, 200)
    padding: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.downsample not in get_args(Downsample):
            raise unknown_name("downsample", str(self.downsample), get_args(Downsample))
        check_widths("maps", self.maps)
        if len(self.maps) != 4:
            raise UserError(f"`maps` must be four widths, such as (32, 32, 64, 64), got {self.maps!r}.")
        check_widths("hidden", self.hidden)
        check_count("padding", self.padding, least=0, most=1)

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each convolution."""
        return (1, 2, 1, 2) if self.downsample == "stride" else (1, 1, 1, 1)

    def pooled(self, index: int) -> bool:
        """Return whether a max pooling follows convolution `index`."""
        return self.downsample == "max_pool" and index in (1, 3)

    def side(self, size: int) -> int:
        """Return the side of the map after the four convolutions."""
        for index, stride in enumerate(self.strides):
            size = after(size, 3, stride, self.padding)
            size = after(size, 2, 2) if self.pooled(index) else size
        return size

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return the convolutions and the fully connected layers."""
        height, width = self.last_map(input_shape)
        layers: list[nn.Module] = []
        channels = input_shape[0]
        for index, (maps, stride) in enumerate(zip(self.maps, self.strides, strict=True)):
            layers += [*self.convolution(channels, maps, stride=stride, padding=self.padding), self.activate()]
            layers += [nn.MaxPool2d(2)] if self.pooled(index) else []
            channels = maps
        return nn.Sequential(*layers, nn.Flatten(), *self.dense(channels * height * width, self.hidden, classes))


@dataclass(frozen=True, kw_only=True)
class SiluCnn(Cnn4):
    """`Cnn4` made twice differentiable: SiLU for ReLU, strided convolutions for max pooling.

    Source: Mustafa et al. 2020, App. C. Differs: zero padding of 1, which the paper does not state.
    """

    activation: Activation = "silu"
    downsample: Downsample = "stride"
