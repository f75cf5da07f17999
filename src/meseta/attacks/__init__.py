"""Attacks: searches for misclassified inputs inside a threat. One attack a file."""

from meseta.attacks.base import Attack
from meseta.attacks.carlini_wagner import CarliniWagner
from meseta.attacks.deepfool import DeepFool
from meseta.attacks.fgsm import FGSM
from meseta.attacks.fmn import FMN
from meseta.attacks.frank_wolfe import FrankWolfe
from meseta.attacks.haat import Haat
from meseta.attacks.minimum_norm import MinimumNormAttack
from meseta.attacks.pgd import PGD
from meseta.attacks.random_search import RandomSearch
from meseta.attacks.second_order import SecondOrder
from meseta.attacks.square import Square
from meseta.attacks.transfer import Transfer
from meseta.attacks.uniform_search import UniformSearch

__all__ = [
    "FGSM",
    "FMN",
    "PGD",
    "Attack",
    "CarliniWagner",
    "DeepFool",
    "FrankWolfe",
    "Haat",
    "MinimumNormAttack",
    "RandomSearch",
    "SecondOrder",
    "Square",
    "Transfer",
    "UniformSearch",
]
