"""What every minimum-norm attack is: a search for the nearest adversarial example, at whatever distance it lies."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, asked
from meseta.autodiff.layers import lean_layers
from meseta.autodiff.scalar_fields import Model
from meseta.checks import constant, derivatives_in_eval_mode
from meseta.linalg.norms import per_example
from meseta.threat import Threat

HALVINGS = 10
"""Of the segment from an input to its adversarial example: the boundary on it is met to 0.1 % of its length."""


@dataclass(frozen=True, kw_only=True)
class MinimumNormAttack(Attack):
    """A search for the nearest input that the model misclassifies: min ||x' - x||_p with the model wrong at x'.

    `closest` gives what it finds within the bounds, at any distance: an upper bound of the distance to the decision
    boundary. Called as an attack under a threat, it gives the same where that lies in the ball, else its projection.

    Args:
        threat: its norm is the norm that is minimised, and its bounds hold; eps is for the call alone.
    """

    def closest(self, model: Model, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Return the nearest adversarial examples found (B, *input), inside the bounds.

        x itself where the model errs there already; NaN in the whole row of an example for which none was found.

        Args and errors are those of the call.
        """
        self.check(x, y)
        with derivatives_in_eval_mode(model), lean_layers():
            return self._closest(model, constant(x), constant(y).long(), generator).detach()

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return what was found where that lies in the ball, else its projection; x where nothing was found."""
        found = self._closest(model, x, y, generator)
        finite = torch.where(per_example(_finite(found), x), found, x)
        inside = self.threat.contains(found, x, slack=0)
        return torch.where(per_example(inside, x), found, self.threat.project(finite, x))

    @abstractmethod
    def search(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return adversarial examples inside the bounds, as near as the method gets, NaN where it found none.

        The model is right at every x, and in eval mode; inputs are checked and autograd is on.
        """

    def _closest(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        result = x.clone()
        right = ~errs(model, x, y)
        if right.any():
            x, y = x[right], y[right]
            found = self.search(model, x, y, generator).detach().to(x.dtype)
            result[right] = self._pulled_back(model, x, y, found)
        return result

    def _pulled_back(self, model: Model, x: Tensor, y: Tensor, found: Tensor) -> Tensor:
        """Return where the segment from x to what was found crosses the boundary, on its far side; never farther."""
        nearest = torch.full_like(x, torch.nan)
        index = _finite(found).nonzero().squeeze(1)
        index = index[errs(model, found[index], y[index])] if len(index) else index
        if len(index) == 0:
            return nearest
        x, y, found = x[index], y[index], found[index]
        best, inner, outer = found, x.new_zeros(len(x)), x.new_ones(len(x))
        for _ in range(HALVINGS):
            middle = (inner + outer) / 2
            points = self.threat.clip(x + per_example(middle, x) * (found - x))
            broken = errs(model, points, y)
            best = torch.where(per_example(broken, x), points, best)
            inner, outer = torch.where(broken, inner, middle), torch.where(broken, middle, outer)
        nearest[index] = best
        return nearest


def errs(model: Model, points: Tensor, y: Tensor) -> Tensor:
    """Return where the model errs."""
    return asked(model, points, y)[1]


def begin(
    start: MinimumNormAttack | None,
    threat: Threat,
    model: Model,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Return what another search has found under the threat, to set out from; x where there is none."""
    if start is None:
        return x
    found = start.against(threat).closest(model, x, y, generator=generator)
    return torch.where(per_example(_finite(found), x), found, x)


def _finite(points: Tensor) -> Tensor:
    return points.flatten(1).isfinite().all(1)
