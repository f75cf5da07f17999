"""Does PGD fail on the cross-entropy as everybody computes it?"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from meseta.attacks import PGD, Attack
from meseta.autodiff.scalar_fields import Decision, ScalarField
from meseta.checks import positive
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
from meseta.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class TextbookCrossEntropy(ScalarField):
    """-log softmax(z)_y by `torch.nn.functional.cross_entropy`, which rounds 1 - p_y away in confident models."""

    linear_in_logits: ClassVar[bool] = False
    rises_under_attack: ClassVar[bool] = True

    def of_logits(self, logits: Float[Tensor, "b c"], y: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return the loss."""
        return F.cross_entropy(logits, y, reduction="none")


@dataclass(frozen=True, kw_only=True)
class TextbookLoss(MaskingCheck):
    """BIM-20 on the textbook cross-entropy, which other libraries attack, leaves standing what BIM-20 breaks here.

    Both are one function on paper. In float32 the textbook form loses 1 - p_y from a margin of 17 on, and everything
    from one of 100: what is published for such a model says how far its logits went, not how robust it is. Asked from
    the input itself, where a model is surest, and at twice the eps, where most examples of most models break.

    Args:
        factor: of eps.
        suspicious, broken: shares of the examples that break by meseta's form and stand by the textbook's.

    Cost: 20 forwards and backwards of all examples, and of those that break.
    Source: Ma 2020, appendix B (confidence near 1 leaves gradients zero); Croce & Hein 2020, section 4.1; Carlini &
    Wagner 2017, section 5.
    """

    factor: float = 2.0
    suspicious: float = 0.05
    broken: float = 0.3

    def __post_init__(self) -> None:
        positive("factor", self.factor)
        check_thresholds(self.suspicious, self.broken)

    def examine(self, case: Case) -> Observation:
        """Attack on both forms."""
        wide = case.at(replace(case.threat, eps=self.factor * case.threat.eps))
        ours = wide.broken_by(PGD(steps=20, random_start=False))
        bim = PGD(steps=20, random_start=False, loss=TextbookCrossEntropy())
        missed = ours & ~wide.broken_by(bim, among=ours)
        return Observation(
            graded_gain(missed, self.suspicious, self.broken),
            f"At {self.factor:g} eps BIM-20 breaks {percent(share(ours))} of all examples; {percent(share(missed))} of "
            "all stand when it climbs the textbook cross-entropy instead.",
            {"missed": share(missed), "broken": share(ours)},
        )

    @property
    def rule(self) -> str:
        """The share."""
        return (
            f"At {self.factor:g} eps BIM-20 on the textbook cross-entropy leaves more than {percent(self.suspicious)} "
            f"(suspicious) or {percent(self.broken)} (broken) of all examples standing that it breaks on meseta's."
            + CHANCE
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """PGD on the margin, which does not saturate."""
        return (PGD(steps=100, restarts=5, loss=Decision()),)
