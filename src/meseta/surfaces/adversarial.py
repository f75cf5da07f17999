"""The direction of an attack's first step."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meseta.attacks.base import loss_and_gradient
from meseta.autodiff.scalar_fields import CrossEntropy, ScalarField
from meseta.checks import check_logits, instance_of
from meseta.errors import UserError
from meseta.surfaces.base import Axis, InputOrigin, once


@dataclass(frozen=True, kw_only=True)
class Adversarial(Axis):
    """The steepest step of the threat's norm towards higher loss: the sign of the gradient in Linf.

    beta = sign(grad l(x)),  l the cross-entropy, the likelihood of the least likely class, or the C&W margin

    Args:
        field: what is raised, or lowered where it is a margin; the C&W margin is Decision().
        target: the class to be predicted instead: "least_likely" of all but the label, or an index; None for any other.

    Cost: one forward and one backward, and one forward for the least likely class.

    Source: Yu 2018, equation 3. Differs: as printed its first case raises the label's log p, which is the way back;
    attacks raise -log p of the label, or log p of the target, and so does this. In L2 and L1 it is a step of that
    norm.
    """

    field: ScalarField = CrossEntropy()
    target: Literal["least_likely"] | int | None = None

    def __post_init__(self) -> None:
        instance_of("field", self.field, ScalarField)
        if isinstance(self.target, bool) or not (self.target in (None, "least_likely") or isinstance(self.target, int)):
            raise UserError(f"`target` must be least_likely, the index of a class, or None, got {self.target!r}.")

    @property
    def name(self) -> str:
        """The axis, and its field or its target."""
        field = type(self.field).__name__
        if self.target is None:
            return f"Adversarial({field})"
        target = f"{self.target} class".replace("_", " ") if isinstance(self.target, str) else f"class {self.target}"
        return f"Adversarial({target})" if self.field == CrossEntropy() else f"Adversarial({field}, {target})"

    def of_input(self, origin: InputOrigin, occurrence: int) -> Tensor:
        """Return the step."""
        once(self, occurrence)
        target = self._target(origin)
        _, _, gradient = loss_and_gradient(origin.model, self.field, origin.x, origin.y, target=target)
        return origin.unit(origin.threat.steepest(gradient, origin.x), self.name)

    def _target(self, origin: InputOrigin) -> Tensor | None:
        if self.target is None:
            return None
        logits = check_logits(origin.model(origin.x.clone()), origin.x, origin.y)
        if self.target == "least_likely":
            return logits.scatter(1, origin.y[:, None], torch.inf).argmin(1)
        if not 0 <= self.target < logits.shape[1] or self.target == int(origin.y):
            raise UserError(
                f"`target` must be a class of 0..{logits.shape[1] - 1} other than the label {int(origin.y)}, "
                f"got {self.target}."
            )
        return origin.y.new_full((1,), self.target)
