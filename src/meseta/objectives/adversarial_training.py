"""Adversarial training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import at_least
from meseta.errors import UserError
from meseta.objectives.base import Objective, ObjectiveValue
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Objective):
    """Train on adversarial examples.

    mean_i (1 - clean) l(x_i') + clean l(x_i), x' from the attack

    The attack runs on the model in eval mode, the step in the mode that the model is in; no gradient flows through x'.

    Args:
        attack: the inner attack, with its threat: `PGD(steps=7, drop_broken=False)`, `FGSM()`, ...
        clean: share of the clean loss in the mix, in [0, 1].

    Terms: adversarial_cross_entropy, and cross_entropy where clean > 0.
    Cost: one plain step and the attack's passes; on the SiLU CNN 6.5 plain steps with PGD-7 and 1.8 with FGSM, on
    ResNet-18 5.3 and 1.6 (`benchmarks/training_step.py`).
    Source: Madry et al. 2018, eq. 2.1; Goodfellow et al. 2015, section 6 for FGSM and the clean mix.
    """

    attack: Attack = PGD(threat=Threat(), steps=7, drop_broken=False)
    clean: float = 0.0

    def __post_init__(self) -> None:
        at_least("clean", self.clean, 0)
        if self.clean > 1:
            raise UserError(f"`clean` must be in [0, 1], got {self.clean}.")

    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the mean loss on adversarial inputs, mixed with the clean one."""
        adversarial = self.attack(model, x, y, generator=generator)
        loss = CrossEntropy().bind(model, adversarial, y)(adversarial)
        terms = {"adversarial_cross_entropy": loss.detach()}
        if self.clean == 0:
            return ObjectiveValue(loss.mean(), terms)
        plain = CrossEntropy().bind(model, x, y)(x)
        terms["cross_entropy"] = plain.detach()
        return ObjectiveValue(((1 - self.clean) * loss + self.clean * plain).mean(), terms)
