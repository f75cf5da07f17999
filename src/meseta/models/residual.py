"""What the residual networks share: the block, its shortcuts, and the way from image to logits."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meseta.models.base import ImageArchitecture, after, check_count


class ResidualBlock(nn.Module):
    """activation(shortcut(x) + branch(x)): the basic block of He et al. 2016."""

    def __init__(self, branch: nn.Sequential, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated sum, (B, maps, height / stride, width / stride)."""
        activated: Tensor = self.activation(self.shortcut(x) + self.branch(x))
        return activated


class PadShortcut(nn.Module):
    """The shortcut without parameters: every `stride`-th pixel, and zeros for the new maps (He et al. 2016, A)."""

    def __init__(self, new_maps: int, stride: int) -> None:
        super().__init__()
        self.new_maps = new_maps
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the input, thinned out and padded."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_maps))


@dataclass(frozen=True, kw_only=True)
class ResidualNetwork(ImageArchitecture):
    """A 3×3 convolution, stages of residual blocks that each double the maps, average pooling, a linear layer.

    Without normalisation the last convolution of every branch starts at zero, so that each block starts as its
    shortcut and the network trains at any depth (Zhang et al. 2019, Fixup, without its scalars).
    """

    width: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)

    @property
    @abstractmethod
    def stages(self) -> tuple[int, ...]:
        """The number of blocks of each stage."""

    @abstractmethod
    def shortcut(self, channels: int, maps: int, stride: int) -> nn.Module:
        """Return the shortcut of a block that changes the number of maps or the size."""

    def side(self, size: int) -> int:
        """Return the side of the last map: halved, rounded up, by every stage but the first."""
        for _ in self.stages[1:]:
            size = after(size, 3, 2, 1)
        return size

    def block(self, channels: int, maps: int, stride: int) -> ResidualBlock:
        """Return one block of two 3×3 convolutions."""
        branch = nn.Sequential(
            *self.convolution(channels, maps, stride=stride), self.activate(), *self.convolution(maps, maps)
        )
        same = channels == maps and stride == 1
        return ResidualBlock(branch, nn.Identity() if same else self.shortcut(channels, maps, stride), self.activate())

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return the stem, the stages, the pooling and the logits."""
        self.last_map(input_shape)
        layers: list[nn.Module] = [*self.convolution(input_shape[0], self.width), self.activate()]
        channels = self.width
        for stage, blocks in enumerate(self.stages):
            maps = self.width * 2**stage
            for index in range(blocks):
                layers.append(self.block(channels, maps, 2 if stage > 0 and index == 0 else 1))
                channels = maps
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def initialise(self, body: nn.Sequential, generator: torch.Generator | None) -> None:
        """Draw the weights; without normalisation, zero the last convolution of every branch."""
        super().initialise(body, generator)
        if self.norm != "none":
            return
        for block in body.modules():
            if isinstance(block, ResidualBlock):
                nn.init.zeros_(block.branch[-1].weight)  # type: ignore[arg-type]
