"""Attacks: searches for misclassified inputs inside a threat. One attack a file."""

from meseta.attacks.autoattack import AutoAttack
from meseta.attacks.base import Attack
from meseta.attacks.deepfool import DeepFool
from meseta.attacks.fgsm import FGSM
from meseta.attacks.fmn import FMN
from meseta.attacks.frank_wolfe import FrankWolfe
from meseta.attacks.haat import Haat
from meseta.attacks.minimum_norm import MinimumNormAttack
from meseta.attacks.pgd import PGD

__all__ = ["FGSM", "FMN", "PGD", "Attack", "AutoAttack", "DeepFool", "FrankWolfe", "Haat", "MinimumNormAttack"]
