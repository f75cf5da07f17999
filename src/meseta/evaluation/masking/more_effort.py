"""Do more steps or more restarts break what the reference does not?"""

from dataclasses import dataclass

from meseta.attacks import PGD, Attack
from meseta.checks import whole
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
class MoreEffort(MaskingCheck):
    """PGD with more steps, or with more restarts, breaks many examples that PGD-20 does not.

    Fails where the loss surface is rough: iterates get stuck, and which ones is a matter of the start. A reference that
    effort improves much has not converged, and nobody knows what the next doubling would find.

    Args:
        steps: of the long attack. restarts: of the one with PGD-20's own number of steps.
        suspicious, broken: shares of the examples that either breaks and the reference does not.

    Cost: `steps` + 20 `restarts` forwards and backwards, of the examples that the reference leaves standing.
    Source: Carlini et al. 2019, sections 4.3 and 5.4 (attacks must converge; random restarts); Croce & Hein 2020.
    """

    steps: int = 100
    restarts: int = 5
    suspicious: float = 0.1
    broken: float = 0.25

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("restarts", self.restarts, 1)
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Compare with the reference."""
        standing = ~case.by_loss
        steps = case.broken_by(PGD(steps=self.steps), among=standing)
        restarts = case.broken_by(PGD(steps=20, restarts=self.restarts), among=standing)
        return Observation(
            graded_gain(steps if steps.sum() > restarts.sum() else restarts, self.suspicious, self.broken),
            f"Of all examples, {percent(share(case.by_loss))} fall to PGD-20; {percent(share(steps))} more to "
            f"{self.steps} steps, and {percent(share(restarts))} more to {self.restarts} restarts.",
            {"reference": share(case.by_loss), "more_steps": share(steps), "more_restarts": share(restarts)},
        )

    @property
    def rule(self) -> str:
        """Either share."""
        return (
            f"PGD-{self.steps}, or PGD-20 from {self.restarts} starts, breaks more than {percent(self.suspicious)} "
            f"(suspicious) or {percent(self.broken)} (broken) of all examples beyond those that PGD-20 breaks." + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """Both together."""
        return (PGD(steps=self.steps, restarts=self.restarts),)
