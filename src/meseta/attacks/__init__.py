"""Attacks: searches for misclassified inputs inside a threat. One attack a file."""

from meseta.attacks.base import Attack
from meseta.attacks.fgsm import FGSM
from meseta.attacks.frank_wolfe import FrankWolfe
from meseta.attacks.haat import Haat
from meseta.attacks.pgd import PGD

__all__ = ["FGSM", "PGD", "Attack", "FrankWolfe", "Haat"]
