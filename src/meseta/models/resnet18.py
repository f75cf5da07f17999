"""ResNet-18 for small images."""

from dataclasses import dataclass

from torch import nn

from meseta.models.base import Normalization
from meseta.models.residual import ResidualNetwork


@dataclass(frozen=True, kw_only=True)
class ResNet18(ResidualNetwork):
    """ResNet-18 with a 3×3 stem and no max pooling, as usual for 32×32 images.

    Args:
        width: maps of the first stage; the others have 2, 4 and 8 times as many.

    Source: He et al. 2016. Differs: the stem, which was made for 224×224 images. The shortcuts that change the shape
    are 1×1 convolutions.
    """

    norm: Normalization = "batch"
    width: int = 64

    @property
    def stages(self) -> tuple[int, ...]:
        """Two blocks in each of four stages."""
        return (2, 2, 2, 2)

    def shortcut(self, channels: int, maps: int, stride: int) -> nn.Module:
        """Return a 1×1 convolution, normalised."""
        return nn.Sequential(*self.convolution(channels, maps, kernel=1, stride=stride, padding=0))
