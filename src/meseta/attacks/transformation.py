"""What every transformation takes and returns: changes of the input that leave its meaning and fill no norm ball."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import asked
from meseta.autodiff.scalar_fields import Model
from meseta.checks import Bounds, check_batch, constant, eval_mode
from meseta.linalg.norms import per_example
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class Transformation(ABC):
    """A set of changes of an input, and a search through it for one that the model misclassifies.

    Returns the candidate of the smallest margin z_y - max_{j != y} z_j, of those up to the first that is misclassified.
    The model runs in eval mode, without gradients, and gets its mode back.

    Args:
        bounds: lowest and highest valid input value, to which candidates are clipped; None for unbounded inputs.

    Cost: one forward a candidate, of the examples that still stand.
    """

    bounds: Bounds | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bounds", Threat(bounds=self.bounds).bounds)  # which checks them

    @torch.no_grad()
    def __call__(self, model: Model, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return transformed inputs (B, *input) inside the bounds.

        Args:
            model: inputs to logits (B, K).
            x: inputs (B, *input) inside the bounds.
            y: labels (B,).
            generator: source of all randomness; None for torch's global one.

        Raises:
            UserError: x outside the bounds or not finite, wrong shapes, labels outside 0..K-1.
        """
        check_batch(x, y, bounds=self.bounds)
        with eval_mode(model), torch.inference_mode(False):
            return self._worst(model, constant(x), constant(y).long(), generator)

    @abstractmethod
    def candidates(self, x: Tensor, generator: torch.Generator | None) -> Iterator[Tensor]:
        """Yield changed inputs (B, *input), a candidate for every example at a time; they need not be clipped."""

    @property
    def name(self) -> str:
        """A short name for tables."""
        return type(self).__name__

    def _worst(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        worst, highest = x.clone(), torch.full_like(y, -torch.inf, dtype=torch.float64)
        standing = torch.arange(len(x), device=x.device)
        for candidate in self.candidates(x, generator):
            points = Threat(bounds=self.bounds).clip(candidate[standing])
            value, broken = asked(model, points, y[standing])
            better = broken | (value > highest[standing])
            worst[standing] = torch.where(per_example(better, points), points, worst[standing])
            highest[standing] = torch.where(better, value, highest[standing])
            standing = standing[~broken]
            if len(standing) == 0:
                break
        return worst
