"""Several regularisers in one objective."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of
from meseta.errors import UserError
from meseta.objectives.adversarial_training import AdversarialTraining
from meseta.objectives.base import Objective, ObjectiveValue, Regularizer
from meseta.objectives.decision_gradient import DecisionGradient


@dataclass(frozen=True, kw_only=True)
class Sum(Objective):
    """One objective and the penalties of others: first + sum_k weight_k R_k.

    The loss counts once: the first part is taken whole, and of each later one, which must be a regulariser, only its
    weighted penalty at the clean input (of `Soar` at its own x'). To penalise at adversarial inputs instead, hand the
    regulariser to `AdversarialTraining(objective=...)`.

    Args:
        parts: one or more objectives; all but the first are regularisers.

    Terms: those of all parts; where two parts share a name, the later one is numbered by its place.
    Cost: that of its parts, less the plain step that they share.
    Source: Yu et al. 2018, section 5, whose best row adds the decision gradient to adversarial training; the default.
    """

    parts: tuple[Objective, ...] = (AdversarialTraining(), DecisionGradient())

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple | list) or not self.parts:
            raise UserError("`parts` must hold at least one objective, such as [AdversarialTraining, InputGradient].")
        object.__setattr__(self, "parts", tuple(self.parts))
        for part in self.parts:
            instance_of("parts", part, Objective)
        for part in self.parts[1:]:
            if not isinstance(part, Regularizer):
                raise UserError(
                    f"`parts`: {type(part).__name__} has no penalty to add to another objective. Put it first; "
                    "a schedule goes around the whole sum, as `parts.1.weight`."
                )

    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the first part and the weighted penalties."""
        first = self.parts[0].evaluate(model, x.clone(), y, generator)
        total, terms = first.total, dict(first.terms)
        for place, part in enumerate(self.parts[1:], 2):
            assert isinstance(part, Regularizer)
            penalty = part.penalize_share(model, x.clone(), y, generator)
            total = total + part.weight * penalty.value.mean()
            terms |= {f"{name}_{place}" if name in terms else name: term for name, term in penalty.terms.items()}
        return ObjectiveValue(total, terms)

    def at(self, share: float) -> Objective:
        """Return the sum of the parts as they are after a share of training."""
        return replace(self, parts=tuple(part.at(share) for part in self.parts))
