"""Does the robust accuracy reach zero as eps grows?"""

from dataclasses import dataclass

from meseta.attacks import PGD, Attack
from meseta.autodiff.scalar_fields import Decision
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation, check_thresholds, graded, percent, share
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class LargeEps(MaskingCheck):
    """PGD-20 leaves examples standing although it may go anywhere within the bounds.

    Among all valid inputs are the other examples, and those of other classes are classified as such: they prove that
    the true robust accuracy is 0. The ball that holds all valid inputs is the same box in every norm, so the search
    runs in it under Linf. Untested without bounds, and where all examples are of one class.

    Args:
        suspicious, broken: shares of the examples left standing.

    Cost: 20 forwards and backwards of all examples.
    Source: Athalye, Carlini & Wagner 2018, section 3.1, "unbounded attacks do not reach 100% success"; Carlini et al.
    2019, section 5.2.
    """

    suspicious: float = 0.05
    broken: float = 0.3

    def __post_init__(self) -> None:
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Attack within the bounds alone."""
        if case.threat.bounds is None:
            return Observation("untested", "The inputs have no bounds, so that no eps is the largest.", {})
        if (case.y == case.y[0]).all():
            return Observation("untested", "All examples are of one class, so that none proves the others fragile.", {})
        low, high = case.threat.bounds
        box = Threat("Linf", high - low, case.threat.bounds)
        standing = share(~case.at(box).by_loss)
        return Observation(
            graded(standing, self.suspicious, self.broken),
            f"With eps = {high - low:g}, all valid inputs, PGD-20 leaves {percent(standing)} standing; the truth is 0.",
            {"standing": standing},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"With all valid inputs within reach PGD-20 leaves more than {percent(self.suspicious)} (suspicious) or "
            f"{percent(self.broken)} (broken) of the examples standing."
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """Restarts on the margin."""
        return (PGD(steps=100, restarts=5, loss=Decision()),)
