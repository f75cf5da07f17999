"""Input-gradient regularisation."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meseta.autodiff.gradient import value_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import exponent
from meseta.errors import UserError
from meseta.linalg.norms import norm
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class InputGradient(Regularizer):
    """Penalise the norm of the input gradient of the loss.

    mean_i l(x_i) + weight ||grad_x l(x_i)||_q ** power

    Args:
        weight: in loss units per (loss per input unit) ** power, at least 0.
        q: exponent of the norm, the dual of the threat's p: 1 for Linf, 2 for L2, inf for L1.
        power: 2 (Ross & Doshi-Velez) or 1 (to first order the adversarial loss itself, with weight = eps).

    Terms: cross_entropy, input_gradient = ||grad_x l||_q.
    Cost: one double backward; 2.8 plain steps on the SiLU CNN, 2.4 on ResNet-18 (`benchmarks/training_step.py`).
    Source: Ross & Doshi-Velez 2018, eq. 3 (q = 2, squared); Lyu et al. 2015 for general q. Differs: per-example
    gradients; published codes differentiate the batch mean, which makes their weight depend on the batch size.
    """

    q: float = 2.0
    power: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "q", exponent("q", self.q))
        if self.power not in (1, 2):
            raise UserError(f"`power` must be 1 or 2, got {self.power}.")

    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the norm of the gradient; the loss comes from the same forward."""
        loss, gradient = value_and_gradient(CrossEntropy().bind(model, x, y), x, create_graph=True)
        length = norm(gradient, self.q)
        return Penalty(length**self.power, loss, {"input_gradient": length.detach()})
