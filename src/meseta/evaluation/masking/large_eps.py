"""Does the robust accuracy fall to zero as eps grows?"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from meseta.attacks import PGD, Attack, Square
from meseta.autodiff.scalar_fields import Decision
from meseta.evaluation.masking.base import (
    FEW,
    Case,
    MaskingCheck,
    Observation,
    check_thresholds,
    graded,
    percent,
    share,
)
from meseta.threat import Threat

WAY = (0.125, 0.25, 0.5, 1.0)
"""The eps on the way, in units of the range of the bounds."""


@dataclass(frozen=True, kw_only=True)
class LargeEps(MaskingCheck):
    """BIM-20 leaves examples standing although it may go anywhere within the bounds, or more of them at a larger eps.

    Among all valid inputs are the other examples, and those of other classes are classified as such: they prove that
    the true robust accuracy is 0. At half of that eps every example reaches the input in the middle of the bounds, a
    plain grey, and those of other classes than the one predicted there have a true robust accuracy of 0. On the way
    it cannot rise, since the balls are nested. The ball that holds all valid inputs is the same box in every norm, so
    the search runs in such boxes, under Linf; it starts at the input, since a random start in the whole box breaks most
    examples by noise alone. Untested without bounds, and where all examples are of one class.

    Args:
        suspicious, broken: shares of the examples left standing against that proof. As many more standing at a larger
            eps are suspicious.

    Cost: 20 forwards and backwards of all examples at each of four eps.
    Source: Athalye, Carlini & Wagner 2018, section 3.1, "unbounded attacks do not reach 100% success"; Carlini et al.
    2019, section 5.2. Differs: no random start, half the range, and the way.
    """

    suspicious: float = 0.05
    broken: float = 0.3

    def __post_init__(self) -> None:
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Attack with growing eps up to the bounds."""
        if case.threat.bounds is None:
            return Observation("untested", "The inputs have no bounds, so that no eps is the largest.", {})
        if (case.y == case.y[0]).all():
            return Observation("untested", "All examples are of one class, so that none proves the others fragile.", {})
        low, high = case.threat.bounds
        standing = [~_broken(case, part * (high - low)) for part in WAY]
        grey = case.predict(torch.full_like(case.x, (low + high) / 2)).argmax(1)
        halfway, last = share(standing[-2] & (case.y != grey)), share(standing[-1])
        rise = max(int(b.sum() - a.sum()) for a, b in pairwise(standing))
        level = graded(max(halfway, last), self.suspicious, self.broken)
        if level == "fine" and rise > max(FEW, self.suspicious * len(case.y)):
            level = "suspicious"
        shares = ", ".join(percent(share(each)) for each in standing)
        return Observation(
            level,
            f"With eps = {high - low:g}, all valid inputs, BIM-20 leaves {percent(last)} standing; the truth is 0. At "
            f"half of that it leaves {percent(halfway)} that a plain grey breaks. On the way, at an eighth, a quarter, "
            f"half and all of it, {shares} stand.",
            {"standing": last, "standing_halfway": halfway, "rise": rise / len(case.y)},
        )

    @property
    def rule(self) -> str:
        """The shares."""
        return (
            f"With all valid inputs within reach BIM-20 leaves more than {percent(self.suspicious)} (suspicious) or "
            f"{percent(self.broken)} (broken) of the examples standing; or with half of that, of those that the middle "
            f"of the bounds breaks; or more than {percent(self.suspicious)}, and more than {FEW}, more stand at a "
            "larger eps than at a smaller one (suspicious)."
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """Restarts on the margin, and a search without gradients."""
        return (PGD(steps=100, restarts=5, loss=Decision()), Square(queries=5000))


def _broken(case: Case, eps: float) -> Tensor:
    """Return where BIM-20 breaks the model within the box of that size around each input."""
    return case.at(Threat("Linf", eps, case.threat.bounds)).broken_by(PGD(steps=20, random_start=False))
