"""Five convolutions and a global average pooling."""

from dataclasses import dataclass

from torch import nn

from meseta.models.base import ImageArchitecture, after, check_count

LAYERS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1))
"""Maps, in units of `width`, and stride of each convolution."""


@dataclass(frozen=True, kw_only=True)
class ConvNetGap(ImageArchitecture):
    """Five 3×3 convolutions, global average pooling and a linear layer to the logits.

    Args:
        width: maps of the first two convolutions; the next two have 2 times as many, the last 4 times.

    Source: Yu et al. 2018, the CIFAR-10 network: "five convolutional layers and one global average pooling layer".
    The paper gives no widths; here 64, 64, 128, 128 and 256 maps with stride 2 in the second and the fourth. It does
    not say how the logits come about either; here a linear layer after the pooling.
    """

    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)

    def side(self, size: int) -> int:
        """Return the side of the map before the pooling."""
        for _, stride in LAYERS:
            size = after(size, 3, stride, 1)
        return size

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return the convolutions, the pooling and the logits."""
        self.last_map(input_shape)
        layers: list[nn.Module] = []
        channels = input_shape[0]
        for multiple, stride in LAYERS:
            maps = multiple * self.width
            layers += [*self.convolution(channels, maps, stride=stride), self.activate()]
            channels = maps
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
