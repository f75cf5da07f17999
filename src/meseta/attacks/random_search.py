"""What every random search is: points proposed one after the other, judged by the logits that the model gives there."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, asked
from meseta.autodiff.scalar_fields import Model
from meseta.linalg.norms import per_example


@dataclass(frozen=True, kw_only=True)
class RandomSearch(Attack):
    """A search by forwards alone, for models without gradients or with misleading ones.

    Keeps the proposal with the lowest margin z_y - max_{j != y} z_j; the first one is kept whatever its margin. An
    example leaves the batch once it is broken, at once where the model errs at x already.
    """

    @property
    def uses_gradients(self) -> bool:
        """None."""
        return False

    @property
    @abstractmethod
    def proposals(self) -> int:
        """How many points are tried."""

    @abstractmethod
    def propose(self, number: int, points: Tensor, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the points (B, *input) inside the threat to try next.

        Args:
            number: of the proposal, from 0. points: the best ones so far, x at first. x: the inputs.
        """

    @torch.no_grad()
    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the first misclassified proposal of each example, or the one with the lowest margin."""
        result, points, active = x.clone(), x, torch.arange(len(x), device=x.device)
        _, broken = asked(model, x, y)
        highest = torch.full(y.shape, -torch.inf, dtype=torch.double, device=x.device)
        for number in range(self.proposals):
            if broken.any():
                result[active[broken]] = points[broken]
                active, points, highest, x, y = (t[~broken] for t in (active, points, highest, x, y))
                if len(active) == 0:
                    return result
            proposal = self.propose(number, points, x, generator)
            value, broken = asked(model, proposal, y)
            better = broken | (value > highest)
            points = torch.where(per_example(better, x), proposal, points)
            highest = torch.where(better, value, highest)
        result[active] = points
        return result
