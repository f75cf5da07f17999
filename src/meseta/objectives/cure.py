"""Curvature regularisation along the gradient's sign (CURE)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.gradient import full_precision, value_and_gradient
from meseta.autodiff.hessian import check_resolution
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import eval_term, positive
from meseta.linalg.norms import norm, normalized
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class Cure(Regularizer):
    """Penalise the change of the loss gradient over a step along its sign.

    mean_i l(x_i) + weight ||grad l(x_i + h z_i) - grad l(x_i)||_2^2,  z = sign(grad l(x)) / ||sign(grad l(x))||_2

    To first order in h the penalty is h^2 ||H z||_2^2: one direction of the input Hessian, seen at the scale of h and
    therefore also on piecewise-linear networks. z is detached; both gradients carry the graph.

    A method for fine-tuning: from scratch a large h meets gradients that mean nothing yet. Raise h with
    `Scheduled(objective=Cure(), schedules={"radius": LinearWarmup(start=0.01)})`; from 1 %, because a radius below the
    resolution of the input is refused.

    Args:
        weight: in loss units per squared (loss per input unit), at least 0.
        radius: h, the L2 length of the step in input units.
        squared: False for the norm itself, as in the authors' code.

    Terms: cross_entropy, cure = ||grad l(x + h z) - grad l(x)||_2.
    Cost: two gradients and their double backwards; 4.0 plain steps' arithmetic.
    Raises:
        UserError: the step is below 100 times the resolution of the input (`radius`).

    Source: Moosavi-Dezfooli et al. 2019, section 4.1. Differs: per-example gradients, where the authors' code
    differentiates the batch mean; the penalty is computed in eval mode throughout, and the loss in the model's own
    mode, by a forward of its own where the two modes differ (BatchNorm, dropout).
    """

    weight: float = 4.0
    radius: float = 1.5
    squared: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("radius", self.radius)

    @full_precision()
    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the change of the gradient; the loss comes from the same forward where the mode allows it."""
        f = CrossEntropy().bind(model, x, y)
        with eval_term(model) as same:
            loss, gradient = value_and_gradient(f, x, create_graph=True)
            shift = self.radius * normalized(gradient.detach().sign())
            check_resolution(x, shift)
            _, shifted = value_and_gradient(f, x + shift, create_graph=True)
        change = norm(shifted - gradient)
        return Penalty(change**2 if self.squared else change, loss if same else None, {"cure": change.detach()})
