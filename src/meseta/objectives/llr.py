"""Local linearity regularisation (LLR)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.gradient import full_precision, value_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import at_least, derivatives_in_eval_mode, eval_term, instance_of, positive, whole
from meseta.geometry.local_linearity import rising_departure
from meseta.objectives.base import Penalty, Regularizer
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class Llr(Regularizer):
    """Penalise how far the loss departs from linearity inside the threat (LLR).

    mean_i l(x_i) + weight (gamma(delta_i) + slope |delta_i^T grad l(x_i)|)
    gamma(delta) = |l(x + delta) - l(x) - delta^T grad l(x)|,  delta ascends gamma inside ball and bounds

    Together the two bound the adversarial loss: |l(x + delta) - l(x)| <= gamma + |delta^T grad l|.

    delta is detached, found by Adam steps, each projected, from a uniform point of the ball on the model in eval mode.
    The gradient to the parameters flows through all three places where the model appears, also through grad l(x), by
    double backward.

    Args:
        weight: of both terms, in loss units per loss unit.
        slope: weight of the linear term within, at least 0.
        threat: norm, eps and bounds; the paper's eps rises linearly over training (`Scheduled` with `threat.eps`).
        steps: of the ascent, at least 1.
        alpha: Adam's rate, in input units. The published 0.1 is above the usual eps: under Linf most entries of delta
            then sit at the ball's faces from the first step on.

    Terms: cross_entropy, nonlinearity = gamma, linear = |delta^T grad l|.
    Cost: `steps` forwards and backwards to the input, one double backward and one forward and backward;
    10 plain steps' arithmetic.
    Raises:
        UserError: x outside the threat's bounds.
    Source: Qin et al. 2019, the objective LLR. The published objective for CIFAR-10, 2l + 4 (gamma + 0.3 |...|), is
    twice the one here with weight = 2 and slope = 0.3.
    """

    weight: float = 2.0
    slope: float = 0.3
    threat: Threat = Threat()
    steps: int = 10
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        instance_of("threat", self.threat, Threat)
        at_least("slope", self.slope, 0)
        whole("steps", self.steps, 1)
        positive("alpha", self.alpha)

    @full_precision()
    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return both terms, in eval mode; the loss comes from the same forward where the mode allows it."""
        self.threat.check(x, y)
        f = CrossEntropy().bind(model, x, y)
        with derivatives_in_eval_mode(model):
            start = self.threat.sample(x, generator=generator) - x
            *_, delta = rising_departure(f, x, start, self.threat, self.steps, self.alpha)
        with eval_term(model) as same:
            loss, gradient = value_and_gradient(f, x, create_graph=True)
            linear = (delta * gradient).flatten(1).sum(1)
            gamma = (f(x + delta) - loss - linear).abs()
        terms = {"nonlinearity": gamma.detach(), "linear": linear.detach().abs()}
        return Penalty(gamma + self.slope * linear.abs(), loss if same else None, terms)
