"""LeNet-300-100."""

from dataclasses import dataclass
from math import prod

from torch import nn

from meseta.models.base import Architecture


@dataclass(frozen=True, kw_only=True)
class LeNet300100(Architecture):
    """Fully connected layers of 300 and 100 units, for images and for vectors.

    Source: Guo et al. 2020, App. F, after LeCun et al. 1998. Guo counts two fully connected layers; the name and Caffe
    have two hidden ones and the logits, and so has this one.
    """

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return flattening, the two hidden layers and the logits."""
        return nn.Sequential(nn.Flatten(), *self.dense(prod(input_shape), (300, 100), classes))
