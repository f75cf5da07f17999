"""Attacks: searches for misclassified inputs inside a threat. One attack a file.

Transformations, such as rotation and noise, change inputs in ways that no norm ball describes.
"""

from meseta.attacks.apgd import APGD
from meseta.attacks.autoattack import AutoAttack
from meseta.attacks.base import Attack
from meseta.attacks.carlini_wagner import CarliniWagner
from meseta.attacks.deepfool import DeepFool
from meseta.attacks.fgsm import FGSM
from meseta.attacks.fmn import FMN
from meseta.attacks.frank_wolfe import FrankWolfe
from meseta.attacks.gaussian_noise import GaussianNoise
from meseta.attacks.haat import Haat
from meseta.attacks.minimum_norm import MinimumNormAttack
from meseta.attacks.pgd import PGD
from meseta.attacks.random_search import RandomSearch
from meseta.attacks.second_order import SecondOrder
from meseta.attacks.spatial import Spatial
from meseta.attacks.square import Square
from meseta.attacks.transfer import Transfer
from meseta.attacks.transformation import Transformation
from meseta.attacks.uniform_search import UniformSearch

__all__ = [
    "APGD",
    "FGSM",
    "FMN",
    "PGD",
    "Attack",
    "AutoAttack",
    "CarliniWagner",
    "DeepFool",
    "FrankWolfe",
    "GaussianNoise",
    "Haat",
    "MinimumNormAttack",
    "RandomSearch",
    "SecondOrder",
    "Spatial",
    "Square",
    "Transfer",
    "Transformation",
    "UniformSearch",
]
