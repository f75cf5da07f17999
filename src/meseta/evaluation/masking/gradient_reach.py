"""Does a gradient hold over the distance that an attack travels?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks import Attack, Square
from meseta.autodiff.scalar_fields import Decision
from meseta.checks import positive, whole
from meseta.errors import UserError
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation
from meseta.linalg.norms import normalized


@dataclass(frozen=True, kw_only=True)
class GradientReach(MaskingCheck):
    """The gradient of the margin turns within a small share of eps, so that no step can follow it.

    The cosine of the gradients at x and at x + reach (x' - x), x' uniform in the ball: its median over the examples.
    Waves laid over the logits, which change no prediction, leave every gradient right at its point, where finite
    differences agree, and worthless beside it. Piecewise-linear networks, whose gradients jump, still keep most of
    their direction: a LeNet with ReLU trained plainly on MNIST 0.65 at a quarter of eps = 0.3, where waves leave 0.

    Args:
        reach: share of the way to the random point, in (0, 1].
        draws: random points of each example.
        suspicious, broken: cosines below which the median is so.

    Cost: 1 + `draws` forwards and backwards.
    Source: Athalye, Carlini & Wagner 2018, section 3 (shattered gradients); ours.
    """

    reach: float = 0.25
    draws: int = 3
    suspicious: float = 0.5
    broken: float = 0.2

    def __post_init__(self) -> None:
        positive("reach", self.reach)
        whole("draws", self.draws, 1)
        if self.reach > 1:
            raise UserError(f"`reach` must be at most 1, got {self.reach!r}: it is a share of the way.")
        if not -1 <= self.broken <= self.suspicious <= 1:
            raise UserError(
                f"`broken` must be a cosine of at most `suspicious`, got {self.broken!r} and {self.suspicious!r}."
            )

    def examine(self, case: Case) -> Observation:
        """Compare the gradients."""
        here, generator = normalized(case.gradient(Decision(), case.x)), case.generator()
        cosines = torch.stack([_cosine(here, self._beside(case, generator)) for _ in range(self.draws)]).nan_to_num(0)
        median = float(cosines.median())
        return Observation(
            "broken" if median < self.broken else "suspicious" if median < self.suspicious else "fine",
            f"At {self.reach:g} of the way to a random point of the ball the margin's gradient has a median cosine of "
            f"{median:.2f} to the one at the input."
            + (" Compare with examples of a plainly trained model, as a source." if median < self.suspicious else ""),
            {"cosine": median},
        )

    def _beside(self, case: Case, generator: torch.Generator) -> Tensor:
        points = case.x + self.reach * (case.threat.sample(case.x, generator=generator) - case.x)
        return normalized(case.gradient(Decision(), points))

    @property
    def rule(self) -> str:
        """The cosine."""
        return (
            f"The median cosine of the margin's gradients at an input and at {self.reach:g} of the way to a random "
            f"point of the ball is below {self.suspicious:g} (suspicious) or {self.broken:g} (broken)."
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """A search without gradients; examples of other models see further, where sources are given."""
        return (Square(queries=5000),)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)
