"""Does a single step break what many steps do not?"""

from dataclasses import dataclass

import torch

from meseta.attacks import FGSM, Attack
from meseta.checks import positive
from meseta.errors import UserError
from meseta.evaluation.masking.base import (
    CHANCE,
    Case,
    MaskingCheck,
    Observation,
    check_thresholds,
    graded_gain,
    percent,
    share,
)


@dataclass(frozen=True, kw_only=True)
class OneStep(MaskingCheck):
    """FGSM, with any of several strides up to eps, breaks many examples that PGD-20 does not.

    Iterating can only help where gradients point the right way, so a single step that does better says that they do
    not.

    Args:
        strides: of FGSM, in units of eps.
        suspicious, broken: shares of the examples that any stride breaks and the reference does not.

    Cost: one forward and one backward a stride, of the examples that the reference leaves standing.
    Source: Athalye, Carlini & Wagner 2018, section 3.1, "one-step attacks perform better than iterative attacks".
    """

    strides: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    suspicious: float = 0.03
    broken: float = 0.1

    def __post_init__(self) -> None:
        if not self.strides:
            raise UserError("`strides` must hold at least one stride, such as 1.")
        for stride in self.strides:
            positive("strides", stride)
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Compare with the reference."""
        standing = ~case.by_loss
        found = torch.stack([case.broken_by(attack, among=standing) for attack in self.calls_for()]).any(0)
        return Observation(
            graded_gain(found, self.suspicious, self.broken),
            f"One step breaks {percent(share(found))} of all examples that PGD-20 leaves standing; PGD-20 breaks "
            f"{percent(share(case.by_loss))}.",
            {"one_step": share(found)},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"FGSM with a stride of {', '.join(f'{stride:g}' for stride in self.strides)} eps breaks more than "
            f"{percent(self.suspicious)} (suspicious) or {percent(self.broken)} (broken) of all examples beyond those "
            "that PGD-20 breaks." + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """The same strides."""
        return tuple(FGSM(stride=stride) for stride in self.strides)
