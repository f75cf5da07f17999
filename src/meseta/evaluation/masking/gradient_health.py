"""Is the gradient that attacks follow there at all, and what does arithmetic leave of it?"""

from dataclasses import dataclass

from torch import Tensor

from meseta.attacks import PGD, Attack, Square
from meseta.autodiff.scalar_fields import CrossEntropy, Decision
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation, check_thresholds, graded, percent, share
from meseta.evaluation.masking.textbook_loss import TextbookCrossEntropy
from meseta.linalg.norms import norm

OFF = 0.5
"""Relative error from which a gradient counts as off: its direction is then up to 30 degrees wrong."""


@dataclass(frozen=True, kw_only=True)
class GradientHealth(MaskingCheck):
    """The input gradient of the cross-entropy is zero, not finite, or another one in float64.

    Fails where logits are so large that the loss saturates even as meseta computes it, where the model rounds its
    input, and where it divides by next to nothing. The textbook form of the loss saturates earlier, also in networks
    that were trained plainly and long: its share is reported, and `TextbookLoss` says whether it matters.

    Args:
        suspicious, broken: shares of the examples whose gradient is zero, not finite, or off by half its length.

    Cost: 4 forwards and backwards, one of them in float64 where the model can be copied into it.
    Source: Athalye, Carlini & Wagner 2018, section 3 (shattered and vanishing gradients); Croce & Hein 2020, section
    4.1 (gradients that are zero by rounding); Carlini et al. 2019, section 5.5.
    """

    suspicious: float = 0.05
    broken: float = 0.5

    def __post_init__(self) -> None:
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Take the gradients at the inputs."""
        x, double = case.x, case.in_double
        ours, margin = case.gradient(CrossEntropy(), x), case.gradient(Decision(), x)
        textbook = case.gradient(TextbookCrossEntropy(), x)
        exact = ours if double is None else case.gradient(CrossEntropy(), x.double(), through=double)
        useless, wrong = share(_useless(ours)), share(_useless(ours) | _off(ours, exact))
        in_double = None if double is None else share(_useless(exact))
        on_margin, in_textbook = share(_useless(margin)), share(_useless(textbook) | _off(textbook, exact))
        beside = "no copy in float64" if in_double is None else f"{percent(in_double)} in float64"
        return Observation(
            graded(wrong, self.suspicious, self.broken),
            f"The gradient of the cross-entropy is zero or not finite on {percent(useless)} of the examples ({beside}, "
            f"{percent(on_margin)} on the margin), that or off on {percent(wrong)}, and on {percent(in_textbook)} in "
            "the textbook form.",
            {
                "useless": useless,
                "useless_in_double": in_double,
                "useless_on_margin": on_margin,
                "wrong": wrong,
                "wrong_textbook": in_textbook,
            },
        )

    @property
    def rule(self) -> str:
        """The shares."""
        return (
            f"The gradient is zero, not finite, or off by {percent(OFF)} of its float64 twin's length on more than "
            f"{percent(self.suspicious)} (suspicious) or {percent(self.broken)} (broken) of the examples."
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """PGD on the margin, which does not saturate, and a search without gradients."""
        return (PGD(steps=100, restarts=5, loss=Decision()), Square(queries=5000))


def _useless(gradient: Tensor) -> Tensor:
    length = norm(gradient)
    return ~length.isfinite() | (length == 0)


def _off(gradient: Tensor, exact: Tensor) -> Tensor:
    """Return where the gradient differs from the exact one by more than OFF of that one's length."""
    return ~(norm(gradient.to(exact) - exact) <= OFF * norm(exact))
