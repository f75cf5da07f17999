"""The residual network of 31 convolutions, without normalisation."""

from dataclasses import dataclass

from torch import nn

from meseta.models.residual import PadShortcut, ResidualNetwork


@dataclass(frozen=True, kw_only=True)
class ResNet31(ResidualNetwork):
    """31 convolutions and one linear layer: a stem and three stages of five blocks, no normalisation by default.

    Args:
        width: maps of the first stage; the others have 2 and 4 times as many.

    Source: Guo et al. 2020, App. F: "31 convolutional layers, a single fully-connected layers and no batch
    normalization". The paper gives no layout; here that of He et al. 2016 for CIFAR-10 with n = 5, whose shortcuts
    have no parameters. Differs: the branches start at zero, because without normalisation the network diverges.
    """

    width: int = 16

    @property
    def stages(self) -> tuple[int, ...]:
        """Five blocks in each of three stages."""
        return (5, 5, 5)

    def shortcut(self, channels: int, maps: int, stride: int) -> nn.Module:
        """Return the parameter-free shortcut."""
        return PadShortcut(maps - channels, stride)
