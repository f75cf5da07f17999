"""Hessian approximation for adversarial training."""

from dataclasses import dataclass

from meseta import attacks
from meseta.attacks.base import Attack
from meseta.objectives.adversarial_training import AdversarialTraining


@dataclass(frozen=True, kw_only=True)
class Haat(AdversarialTraining):
    """Adversarial training against steps along the gradient and the most curved direction (HAAT).

    mean_i l(x_i'), x' from the attack `Haat`

    Meant for the adversarial loss to second order, l + eps ||grad l||_1 + (d eps^2 / 2) max(lambda_max, 0), whose terms
    the two directions raise. As published: `attack=Haat(solver=PowerIteration(steps=6), radius=1e-6, guarded=False)`,
    whose second direction is noise in float32.

    Args:
        attack: the inner attack, with its threat.

    Terms: those of `AdversarialTraining`.
    Cost: one plain step and the attack's passes: with the defaults 10 forwards and backwards and up to 50
    Hessian products, about 40 plain steps' arithmetic.
    Source: Mei 2022, section 3; the printed bound has || l ||_1 for || grad l ||_1 and lacks the square of eps and d.
    """

    attack: Attack = attacks.Haat()
