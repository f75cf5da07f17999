"""LeNet-5, as Caffe has it."""

from dataclasses import dataclass

from torch import nn

from meseta.models.base import ImageArchitecture, after, check_count


@dataclass(frozen=True, kw_only=True)
class LeNet5(ImageArchitecture):
    """Two 5×5 convolutions of 20 and 50 maps, each max-pooled, then 500 units and the logits.

    Args:
        padding: pixels around each convolution's input, 0 to 2. 0 is Caffe's and takes 16×16 and larger, 2 takes 4×4.

    Source: Guo et al. 2020, App. F, with the Caffe model zoo's LeNet. Differs: Caffe's has no activation after its
    convolutions; Guo speaks of ReLU networks, so this one activates after each convolution, before the pooling.
    With norm="batch" it is Guo's four-layer network for CIFAR-10.
    """

    padding: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("padding", self.padding, least=0, most=2)

    def side(self, size: int) -> int:
        """Return the side of the map after both convolutions and poolings."""
        for _ in range(2):
            size = after(after(size, 5, 1, self.padding), 2, 2)
        return size

    def layers(self, input_shape: tuple[int, ...], classes: int) -> nn.Sequential:
        """Return both convolutions, pooled, and the fully connected layers."""
        height, width = self.last_map(input_shape)
        return nn.Sequential(
            *self.convolution(input_shape[0], 20, kernel=5, padding=self.padding),
            self.activate(),
            nn.MaxPool2d(2),
            *self.convolution(20, 50, kernel=5, padding=self.padding),
            self.activate(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            *self.dense(50 * height * width, (500,), classes),
        )
