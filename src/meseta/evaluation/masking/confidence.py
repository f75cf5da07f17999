"""How sure of itself is the model?"""

from dataclasses import dataclass

import torch

from meseta.attacks import PGD, Attack
from meseta.autodiff.scalar_fields import CrossEntropy, Decision
from meseta.checks import positive
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation


@dataclass(frozen=True, kw_only=True)
class Confidence(MaskingCheck):
    """Probabilities are so close to 1 that float32 has no number for the difference.

    The gradient of the cross-entropy is in proportion to 1 - p_y. Where the median of that is below the smallest
    number of float32 at full precision, half the examples have hardly a gradient left, whoever computes it. A high mean
    top probability alone says little, nor does 1 - p_y below the resolution of float32, 6e-8: networks that are trained
    plainly on MNIST reach 0.99 and, after thirty epochs, a median of 1e-9.

    Args:
        doubt: the median of 1 - p_y below which a model is suspicious.

    Cost: one forward.
    Source: Ma 2020, appendix B and Table 5: 94.9 % on average for a plainly trained network, 99.6 % for SOAR with zero
    or random start, whose gradients are masked. Differs: decides on 1 - p_y, computed
    in full precision, since no threshold on the former separates masked models from others.
    """

    doubt: float = 2.0**-126

    def __post_init__(self) -> None:
        positive("doubt", self.doubt)

    def examine(self, case: Case) -> Observation:
        """Look at the probabilities of the inputs."""
        loss = CrossEntropy().of_logits(case.logits.double(), case.y)
        doubt = -torch.expm1(-loss)
        median, top = float(doubt.median()), float((1 - doubt).mean())
        return Observation(
            "suspicious" if median < self.doubt else "fine",
            f"The mean top probability is {top:.4f}; the median of 1 - p_y is {median:.1g}.",
            {"mean_top_probability": top, "median_doubt": median},
        )

    @property
    def rule(self) -> str:
        """The median."""
        return f"The median of 1 - p_y is below {self.doubt:.1g} (suspicious)."

    def calls_for(self) -> tuple[Attack, ...]:
        """PGD on the margin, which does not saturate."""
        return (PGD(steps=100, restarts=5, loss=Decision()),)
