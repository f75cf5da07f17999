"""Does PGD on the margin break what PGD on the cross-entropy does not?"""

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
class MarginLoss(MaskingCheck):
    """PGD-20 on the margin z_y - max_{j != y} z_j breaks many examples that PGD-20 on the cross-entropy does not.

    Fails where the cross-entropy is saturated: its gradient shrinks with 1 - p_y, the margin's does not.

    Args:
        suspicious, broken: shares of the examples that the margin breaks and the cross-entropy does not.

    Cost: 20 forwards and backwards of the examples that the reference leaves standing.
    Source: Carlini & Wagner 2017, section 5 and appendix A (defensive distillation); Carlini et al. 2019, section 5.5.
    """

    suspicious: float = 0.2
    broken: float = 0.4

    def __post_init__(self) -> None:
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Compare with the reference."""
        by_loss = case.by_loss
        found = case.by_gradients & ~by_loss
        return Observation(
            graded_gain(found, self.suspicious, self.broken),
            f"PGD-20 breaks {percent(share(by_loss))} on the cross-entropy, and {percent(share(found))} more on the "
            "margin.",
            {"reference": share(by_loss), "margin": share(found)},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"PGD-20 on the margin breaks more than {percent(self.suspicious)} (suspicious) or {percent(self.broken)} "
            "(broken) of all examples beyond those that it breaks on the cross-entropy." + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """PGD on the margin."""
        return (PGD(steps=100, restarts=5, loss=Decision()),)
