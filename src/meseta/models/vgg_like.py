"""Twelve convolutions and two fully connected layers."""

from dataclasses import dataclass

from torch import nn

from meseta.models.base import ImageArchitecture, check_count

GROUPS = ((1, 2), (2, 2), (4, 4), (8, 4))
"""Maps, in units of `width`, and number of convolutions of each group."""


@dataclass(frozen=True, kw_only=True)
class VggLike(ImageArchitecture):
    """Twelve 3×3 convolutions in four groups, each max-pooled, then one hidden layer and the logits.

    Args:
        width: maps of the first group; the others have 2, 4 and 8 times as many, the hidden layer 8 times.

    Source: Guo et al. 2020, App. F: "twelve convolutional layers and two fully-connected layers". The paper gives no
    layout; here 2, 2, 4 and 4 convolutions, pooled only while the map is larger than one pixel, so 8×8 images fit; on
    maps that small most of each kernel sees padding, and the network learns slowly.
    """

    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)

    def side(self, size: int) -> int:
        """Return the side of the map after the four groups."""
        return max(size >> len(GROUPS), 1)

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return the groups of convolutions and the fully connected layers."""
        self.last_map(input_shape)
        layers: list[nn.Module] = []
        channels, height, width = input_shape
        for multiple, convolutions in GROUPS:
            for _ in range(convolutions):
                layers += [*self.convolution(channels, multiple * self.width), self.activate()]
                channels = multiple * self.width
            pool = (min(height, 2), min(width, 2))
            layers += [nn.MaxPool2d(pool)] if max(pool) > 1 else []
            height, width = height // pool[0], width // pool[1]
        return nn.Sequential(*layers, nn.Flatten(), *self.dense(channels * height * width, (channels,), classes))
