"""Do adversarial examples of other models break what gradients do not?"""

from dataclasses import dataclass

from meseta.attacks import Attack
from meseta.checks import instance_of
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
class Transferred(MaskingCheck):
    """Adversarial examples crafted on other models break many examples that the model's own gradients do not.

    The other models know nothing of this one. Untested without them.

    Args:
        attack: crafts on other models, whatever model it is given, such as `Transfer` from runs trained on the same
            data; None where there are none.
        suspicious, broken: shares of the examples that it breaks and gradients do not.

    Cost: that of the attack.
    Source: Papernot et al. 2017 (transfer unmasks gradients); Athalye, Carlini & Wagner 2018, section 3.1; Ma 2020,
    Table 4: zero and random start, 71 to 74 % robust to PGD-20, 15 to 21 % to PGD-20 transferred.
    """

    attack: Attack | None = None
    suspicious: float = 0.03
    broken: float = 0.1

    def __post_init__(self) -> None:
        if self.attack is not None:
            instance_of("attack", self.attack, Attack)
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Attack where gradients found nothing."""
        if self.attack is None:
            return Observation("untested", "No other models were given to craft adversarial examples on.", {})
        found = case.broken_by(self.attack, among=~case.by_gradients)
        return Observation(
            graded_gain(found, self.suspicious, self.broken),
            f"{self.attack.name} breaks {percent(share(found))} of all examples that gradients leave standing; "
            f"gradients break {percent(share(case.by_gradients))}.",
            {"transferred": share(found)},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"Adversarial examples of other models break more than {percent(self.suspicious)} (suspicious) or "
            f"{percent(self.broken)} (broken) of all examples beyond those that PGD-20 breaks on cross-entropy or "
            "margin." + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """The same."""
        return () if self.attack is None else (self.attack,)
