"""Do random points break what gradients do not?"""

from dataclasses import dataclass

from meseta.attacks import Attack, UniformSearch
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
class RandomPoints(MaskingCheck):
    """Random points of the ball, or of its surface, break many examples that PGD-20 does not.

    In many dimensions a random point is a weak attack. Where it succeeds and gradients do not, they mislead.

    Args:
        draws: points of each kind.
        suspicious, broken: shares of the examples that they break and gradients do not.

    Cost: 2 `draws` forwards of the examples that gradients leave standing.
    Source: Athalye, Carlini & Wagner 2018, section 3.1, "random sampling finds adversarial examples"; Carlini et al.
    2019, section 5.3.
    """

    draws: int = 100
    suspicious: float = 0.02
    broken: float = 0.05

    def __post_init__(self) -> None:
        whole("draws", self.draws, 1)
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Search where gradients found nothing."""
        standing = ~case.by_gradients
        surface = case.broken_by(UniformSearch(draws=self.draws), among=standing)
        ball = case.broken_by(UniformSearch(draws=self.draws, where="ball"), among=standing & ~surface)
        found = surface | ball
        return Observation(
            graded_gain(found, self.suspicious, self.broken),
            f"Random points break {percent(share(found))} of all examples that gradients leave standing; gradients "
            f"break {percent(share(case.by_gradients))}.",
            {"random": share(found)},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"{self.draws} random points of the ball and {self.draws} of its surface break more than "
            f"{percent(self.suspicious)} (suspicious) or {percent(self.broken)} (broken) of all examples beyond those "
            "that PGD-20 breaks on cross-entropy or margin." + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """More points of both kinds."""
        return (UniformSearch(draws=10 * self.draws), UniformSearch(draws=10 * self.draws, where="ball"))
