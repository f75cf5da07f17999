"""Gradient alignment for single-step adversarial training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack
from meseta.attacks.fgsm import FGSM
from meseta.autodiff.gradient import full_precision, value_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import eval_term, instance_of
from meseta.linalg.norms import norm, normalized
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class GradAlign(Regularizer):
    """Single-step adversarial training that keeps the input gradient aligned over the ball.

    mean_i l(x_i') + weight (1 - cos(grad l(x_i), grad l(x_i + eta_i))),  x' from the attack, eta uniform in its ball

    A single step follows the gradient at x, so it finds the worst of the ball only while the gradient keeps its
    direction there. Where it does not, the model can learn to fool the step alone (catastrophic overfitting).

    The attack runs on the model in eval mode, and the angle is that of eval mode; no gradient flows through x'. It does
    flow through both gradients. As a later part of a `Sum` only the penalty counts, and of the attack its ball. An
    example with a zero gradient at either point has no angle: its penalty is 0, without a gradient.

    Args:
        weight: in loss units; the paper's 0.2 is for eps = 8/255 on CIFAR-10, and grows with eps.
        attack: the inner attack, with its threat.

    Terms: cross_entropy, the loss at x'; misalignment = 1 - cos.
    Cost: two double backwards, one forward and backward at x' and the attack's passes; 5.7 plain steps' arithmetic, as
    much as PGD-7 training.
    Raises:
        UserError: x outside the threat's bounds.
    Source: Andriushchenko & Flammarion 2020, section 4. Differs: examples without an angle count as 0 in the mean,
    where the authors' code leaves them out.
    """

    weight: float = 0.2
    attack: Attack = FGSM()

    def __post_init__(self) -> None:
        super().__post_init__()
        instance_of("attack", self.attack, Attack)

    @full_precision()
    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the misalignment of the gradients at x and at a random point of the ball."""
        self.attack.threat.check(x, y)
        f = CrossEntropy().bind(model, x, y)
        around = self.attack.threat.sample(x, generator=generator)
        with eval_term(model):
            _, here = value_and_gradient(f, x, create_graph=True)
            _, there = value_and_gradient(f, around, create_graph=True)
        misaligned = misalignment(here, there)
        return Penalty(misaligned, terms={"misalignment": misaligned.detach()})

    def loss(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the loss at the attack's points."""
        return CrossEntropy().bind(model, x, y)(self.attack(model, x, y, generator=generator))


def misalignment(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - cos(a, b) per example, and 0 where either is zero.

    As ||a/|a| - b/|b|||^2 / 2, which is exact also where the two are nearly parallel. Zero is a length below the root
    of the smallest normal number, where the derivative 1/|a| would soon overflow.
    """
    least = torch.finfo(a.dtype).tiny ** 0.5
    defined = torch.minimum(norm(a.detach()), norm(b.detach())) > least
    return torch.where(defined, norm(normalized(a) - normalized(b)) ** 2 / 2, 0)
