"""Adversarial training."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meseta.attacks.base import Attack
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import at_least, instance_of
from meseta.errors import UserError
from meseta.objectives.base import Objective, ObjectiveValue
from meseta.objectives.erm import Erm
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(Objective):
    """Train on adversarial examples.

    mean_i (1 - clean) J(x_i') + clean l(x_i), x' from the attack, J = l or another objective

    The attack runs on the model in eval mode, the step in the mode that the model is in; no gradient flows through x'.

    The named variants are settings: Madry et al. with `PGD(steps=7, drop_broken=False)`; "fast" (Wong et al. 2020) with
    `FGSM(random_start=True, stride=1.25)`; N-FGSM (de Jorge et al. 2022) with `FGSM()` and `noise=2`; the L2 ones with
    an L2 threat. A regulariser as `objective` acts at the adversarial points.

    Args:
        attack: the inner attack, with its threat.
        objective: J, what is minimised at the adversarial inputs: the loss with `Erm()`.
        clean: share of the clean loss in the mix, in [0, 1].
        noise: radius, in units of the attack's eps, of the ball around x that the attack's starting point is drawn
            from uniformly before it runs; 0 starts at x. The attack's own ball then lies around that point, so that x'
            may be (1 + noise) eps from x.

    Terms: those of J, named adversarial_..., and cross_entropy where clean > 0.
    Cost: one step of J and the attack's passes; 5.7 plain steps' arithmetic with PGD-7, 1.7 with FGSM.
    Source: Madry et al. 2018, eq. 2.1; Goodfellow et al. 2015, section 6 for FGSM and the clean mix.
    """

    attack: Attack = PGD(threat=Threat(), steps=7, drop_broken=False)
    objective: Objective = Erm()
    clean: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        instance_of("attack", self.attack, Attack)
        instance_of("objective", self.objective, Objective)
        at_least("clean", self.clean, 0)
        at_least("noise", self.noise, 0)
        if self.clean > 1:
            raise UserError(f"`clean` must be in [0, 1], got {self.clean}.")

    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the objective on adversarial inputs, mixed with the clean loss."""
        start = x
        if self.noise > 0:
            threat = self.attack.threat
            threat.check(x, y)
            start = replace(threat, eps=self.noise * threat.eps).sample(x, generator=generator)
        adversarial = self.attack(model, start, y, generator=generator)
        hard = self.objective.evaluate(model, adversarial, y, generator)
        terms = {f"adversarial_{name}": term for name, term in hard.terms.items()}
        if self.clean == 0:
            return ObjectiveValue(hard.total, terms)
        plain = CrossEntropy().bind(model, x, y)(x)
        terms["cross_entropy"] = plain.detach()
        return ObjectiveValue((1 - self.clean) * hard.total + self.clean * plain.mean(), terms)

    def at(self, share: float) -> Objective:
        """Return the same with J as it is after a share of training."""
        return replace(self, objective=self.objective.at(share))
