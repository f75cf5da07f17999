"""Does a search without gradients break what gradients do not?"""

from dataclasses import dataclass

from meseta.attacks import Attack, Square
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
class BlackBox(MaskingCheck):
    """Square, which asks for logits alone, breaks many examples that PGD-20 does not, on cross-entropy or margin.

    A gradient tells more than logits do, unless it is wrong.

    Args:
        queries: of Square.
        suspicious, broken: shares of the examples that it breaks and gradients do not.

    Cost: `queries` forwards of the examples that gradients leave standing.
    Source: Athalye, Carlini & Wagner 2018, section 3.1, "black-box attacks are better than white-box attacks";
    Andriushchenko et al. 2020, section 5.3; Croce & Hein 2020.
    """

    queries: int = 500
    suspicious: float = 0.05
    broken: float = 0.1

    def __post_init__(self) -> None:
        whole("queries", self.queries, 1)
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Search where gradients found nothing."""
        found = case.broken_by(Square(queries=self.queries), among=~case.by_gradients)
        return Observation(
            graded_gain(found, self.suspicious, self.broken),
            f"Square breaks {percent(share(found))} of all examples that gradients leave standing; gradients break "
            f"{percent(share(case.by_gradients))}.",
            {"black_box": share(found)},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"Square with {self.queries} queries breaks more than {percent(self.suspicious)} (suspicious) or "
            f"{percent(self.broken)} (broken) of all examples beyond those that PGD-20 does, on cross-entropy or "
            "margin." + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """The same with more queries."""
        return (Square(queries=10 * self.queries),)
