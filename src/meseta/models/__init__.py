"""The papers' networks: an architecture is a specification that builds a `Network`, saves as JSON and reloads.

Adding one = one file and one line here; the command line and `Network.from_pretrained` find it in `__all__`.
"""

from meseta.models.base import Activation, Architecture, Normalization
from meseta.models.cnn4 import Cnn4, SiluCnn
from meseta.models.conv_net_gap import ConvNetGap
from meseta.models.lenet5 import LeNet5
from meseta.models.lenet300100 import LeNet300100
from meseta.models.mlp import Mlp
from meseta.models.network import Network, Normalize
from meseta.models.resnet18 import ResNet18
from meseta.models.resnet31 import ResNet31
from meseta.models.vgg_like import VggLike
from meseta.models.weights import load_weights

__all__ = [
    "Activation",
    "Architecture",
    "Cnn4",
    "ConvNetGap",
    "LeNet5",
    "LeNet300100",
    "Mlp",
    "Network",
    "Normalization",
    "Normalize",
    "ResNet18",
    "ResNet31",
    "SiluCnn",
    "VggLike",
    "load_weights",
]
