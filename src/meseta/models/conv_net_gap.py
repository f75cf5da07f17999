"""Five convolutions and a global average pooling."""

from dataclasses import dataclass

from torch import nn

from meseta.models.base import ImageArchitecture, after

LAYERS = ((64, 1), (64, 2), (128, 1), (128, 2), (256, 1))
"""Maps and stride of each convolution."""


@dataclass(frozen=True, kw_only=True)
class ConvNetGap(ImageArchitecture):
    """Five 3×3 convolutions, global average pooling and a linear layer to the logits.

    Source: Yu et al. 2018, the CIFAR-10 network: "five convolutional layers and one global average pooling layer".
    The paper gives no widths; here 64, 64, 128, 128 and 256 maps with stride 2 in the second and the fourth. It does
    not say how the logits come about either; here a linear layer after the pooling.
    """

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
        for maps, stride in LAYERS:
            layers += [*self.convolution(channels, maps, stride=stride), self.activate()]
            channels = maps
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
