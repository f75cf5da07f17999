"""Fully connected layers of any widths."""

from dataclasses import dataclass
from math import prod

from torch import nn

from meseta.models.base import Architecture, check_widths


@dataclass(frozen=True, kw_only=True)
class Mlp(Architecture):
    """A multilayer perceptron, for vectors and for images, which it flattens.

    Args:
        hidden: width of each hidden layer; () is a linear classifier.
    """

    hidden: tuple[int, ...] = (128,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_widths("hidden", self.hidden)

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return flattening, the hidden layers and the logits."""
        return nn.Sequential(nn.Flatten(), *self.dense(prod(input_shape), self.hidden, classes))
