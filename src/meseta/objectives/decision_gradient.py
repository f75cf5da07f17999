"""Regularisation of the decision function's slope."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, gradient_of, leaf
from meseta.autodiff.scalar_fields import CrossEntropy, Decision, Model
from meseta.checks import check_logits, exponent
from meseta.linalg.norms import norm
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class DecisionGradient(Regularizer):
    """Penalise the slope of the decision function L = z_y - max_{j != y} z_j.

    mean_i l(x_i) + weight ||grad_x L(x_i)||_q

    To first order L / ||grad L||_q is the distance to the decision boundary, so that a gentle slope under a given
    margin is a wide one.

    Args:
        weight: in loss units per (logit per input unit), at least 0. The paper uses 500 and leaves the reduction open;
            here the penalty is per example, like the loss.
        q: exponent of the norm, the dual of the threat's p: 1 for Linf, 2 for L2, inf for L1.

    Terms: cross_entropy, decision_gradient = ||grad_x L||_q.
    Cost: one double backward, as `InputGradient`.
    Source: Yu et al. 2018, section 4. Differs: every example counts, also misclassified ones, whose slope towards the
    label this flattens too.
    """

    q: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "q", exponent("q", self.q))

    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the slope; the loss comes from the same forward."""
        with derivatives_of_derivatives():
            point = leaf(x)
            logits = check_logits(model(point.clone()), x, y)
            gradient = gradient_of(Decision().of_logits(logits, y), point, create_graph=True)
            slope = norm(gradient, self.q)
            return Penalty(slope, CrossEntropy().of_logits(logits, y), {"decision_gradient": slope.detach()})
