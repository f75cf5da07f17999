"""Suites: which attacks stand behind a worst-case figure, the cheapest first."""

from typing import Literal

from meseta.attacks import APGD, FGSM, PGD, Attack, AutoAttack
from meseta.autodiff.scalar_fields import DLR, CrossEntropy, Decision
from meseta.errors import unknown_name

Suite = Literal["quick", "standard", "autoattack"]
SUITES: tuple[Suite, ...] = ("quick", "standard", "autoattack")


def suite_attacks(suite: Suite) -> tuple[Attack, ...]:
    """Return the attacks of a suite, in the order of a cascade.

    quick: FGSM and PGD-20 on the margin, for a first look and for choosing hyper-parameters.
    standard: then APGD on the cross-entropy, and APGD towards each of the likeliest classes.
    autoattack: the standard version of AutoAttack.
    """
    match suite:
        case "quick":
            return FGSM(), PGD(steps=20, loss=Decision())
        case "standard":
            return (
                FGSM(),
                PGD(steps=20, loss=Decision()),
                APGD(steps=50, loss=CrossEntropy()),
                APGD(steps=50, loss=DLR(), targets=9),
            )
        case "autoattack":
            return (AutoAttack(),)
    raise unknown_name("suite", str(suite), SUITES)
