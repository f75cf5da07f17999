"""Does the scale of the logits decide what an attack finds?"""

from dataclasses import dataclass

from meseta.attacks import PGD, Attack
from meseta.autodiff.scalar_fields import Decision
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
class LogitScale(MaskingCheck):
    """PGD-20 breaks many more examples once the logits are divided by their median margin.

    A positive factor changes no prediction, hence no robustness, but it can drive the cross-entropy into saturation.

    Args:
        suspicious, broken: shares of the examples that are broken through divided logits and not through the model's.

    Cost: 20 forwards and backwards of the examples that the reference leaves standing.
    Source: Croce & Hein 2020, section 4.1, which scales the loss instead; Carlini & Wagner 2016, "Defensive
    distillation is not robust", where dividing the logits undoes it.
    """

    suspicious: float = 0.2
    broken: float = 0.4

    def __post_init__(self) -> None:
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Compare with the reference."""
        scale = float(Decision().of_logits(case.logits, case.y).double().median())
        if not 0 < scale < float("inf"):
            return Observation("untested", f"The median margin is {scale:g}, by which logits cannot be divided.", {})
        found = case.broken_by(PGD(steps=20), among=~case.by_loss, through=lambda x: case.model(x) / scale)
        return Observation(
            graded_gain(found, self.suspicious, self.broken),
            f"PGD-20 breaks {percent(share(case.by_loss))}, and {percent(share(found))} more with logits divided by "
            f"their median margin of {scale:.3g}.",
            {"rescaled": share(found), "median_margin": scale},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"With logits divided by their median margin PGD-20 breaks more than {percent(self.suspicious)} "
            f"(suspicious) or {percent(self.broken)} (broken) of all examples beyond those that it breaks without."
            + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """PGD on the margin, which no factor changes."""
        return (PGD(steps=100, restarts=5, loss=Decision()),)
