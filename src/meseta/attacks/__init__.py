"""Attacks: searches for misclassified inputs inside a threat. One attack a file."""

from meseta.attacks.base import Attack
from meseta.attacks.fgsm import FGSM
from meseta.attacks.pgd import PGD

__all__ = ["FGSM", "PGD", "Attack"]
