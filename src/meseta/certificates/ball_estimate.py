"""The theorems whose constant is a maximum over the ball, with that maximum looked for at points of the ball."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives, leaf, value_and_gradient
from meseta.autodiff.scalar_fields import BoundField, Model, margin_to, rivals
from meseta.certificates.base import Estimate, check_norm
from meseta.checks import whole
from meseta.errors import UserError
from meseta.linalg.norms import dual_vector, norm, per_example
from meseta.linalg.random import rand, randn
from meseta.shapes import Float, Int
from meseta.threat import Norm, Threat

RATE = 0.5
"""The mean step of the ascent in radii of its ball; the steps shorten linearly."""


@dataclass(frozen=True, kw_only=True)
class BallEstimate(Estimate):
    """The largest R at which no margin f_j = z_y - z_j can reach 0, given a constant C_j(R) = max c_j over the ball R.

    The theorem gives a distance T_j(C), falling in C, and holds for every R <= T_j(C_j(R)). With C_j(R) the largest c_j
    seen at x and at points gamma_s of the ball, no nearer the surface than R, the largest such R is

        min over j and s of max{||gamma_s||_p, T_j(c_j(x + gamma_s))}:

    a point speaks about the balls that contain it. No bisection is needed, and more points never raise the result.

    The s-th point lies on a random ray through an extreme point of the ball, at a length that is uniform up to the
    distance found so far; all examples share rays and lengths. `steps` of projected gradient ascent on c_j follow
    within the ball of that length, and every point on the way counts.
    """

    norm: Norm = "L2"
    samples: int = 0
    steps: int = 0
    seed: int = 0
    slab: int = 256

    looked_for: ClassVar[str]
    """The name of the part that holds C."""

    def __post_init__(self) -> None:
        check_norm(self.norm)
        whole("samples", self.samples, 0)
        whole("steps", self.steps, 0)
        whole("seed", self.seed, 0)
        whole("slab", self.slab, 1)
        if self.steps and not self.samples:
            raise UserError("`steps` of ascent start at the samples, and `samples` is 0. Give at least one.")

    @abstractmethod
    def constant(self, f: BoundField, x: Float[Tensor, "b *input"]) -> BoundField:
        """Return c as a differentiable function of the points near x; directions that it holds fixed are found at x."""

    @abstractmethod
    def distance(self, margin: Tensor, slope: Tensor, constant: Tensor) -> Tensor:
        """Return T from f(x) > 0, ||grad f(x)||_q and C."""

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the distance, with the margin, the slope and the constant that decide it."""
        with torch.no_grad():
            logits = model(x.clone())
        others = rivals(y, logits.shape[1])
        margin = (logits.gather(1, y[:, None]) - logits.gather(1, others)).double().flatten()
        slope, constant, nearest = (torch.full_like(margin, fill) for fill in (0, torch.nan, torch.inf))
        slabs = torch.split(torch.arange(len(margin), device=x.device), self.slab)  # of pairs (example, rival)
        example, rival = torch.arange(len(x), device=x.device).repeat_interleave(others.shape[1]), others.flatten()
        threat = Threat(self.norm, 1.0, bounds=None)

        for pairs in slabs:
            f = partial(_margin, model, y[example[pairs]], rival[pairs])
            slope[pairs] = norm(value_and_gradient(f, x[example[pairs]])[1], threat.dual).double()
        for start, share in self._starts(x, threat.dual):
            found = nearest.view_as(others).amin(1)
            reach = (share * torch.where(found.isfinite(), found, 1)).to(x.dtype)
            for pairs in slabs:
                at = example[pairs]
                f = partial(_margin, model, y[at], rival[pairs])
                for length, seen in self._climb(f, x[at], start.expand_as(x[at]), reach[at], threat):
                    new = torch.maximum(length, self.distance(margin[pairs], slope[pairs], seen))
                    nearer = (new < nearest[pairs]) | new.isnan()
                    constant[pairs] = torch.where(nearer | constant[pairs].isnan(), seen, constant[pairs])
                    nearest[pairs] = torch.where(nearer, new, nearest[pairs])

        deciding = nearest.view_as(others).argmin(1, keepdim=True)
        columns = {"margin": margin, "slope": slope, self.looked_for: constant}
        parts = {name: column.view_as(others).gather(1, deciding).squeeze(1) for name, column in columns.items()}
        return nearest.view_as(others).amin(1), parts

    def _starts(self, x: Tensor, q: float) -> Iterator[tuple[Tensor, float]]:
        """Yield rays and lengths, as shares of the distance so far: x itself, then the samples."""
        generator = torch.Generator().manual_seed(self.seed)
        yield torch.zeros_like(x[:1]), 0.0
        for _ in range(self.samples):
            extreme = dual_vector(randn(x[:1].shape, x, generator), q)
            yield extreme, float(rand((1,), x, generator))

    def _climb(
        self, f: BoundField, x: Tensor, unit: Tensor, reach: Tensor, ball: Threat
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the distance from x and the constant of points x + reach u, ||u||_p <= 1, on the way uphill."""
        steps = self.steps if reach.any() else 0
        for step in range(steps + 1):
            points = x + per_example(reach, x) * unit
            c = self.constant(f, points)
            length = (reach * norm(unit, ball.p)).double()
            if step == steps:
                with derivatives_of_derivatives():
                    seen = c(leaf(points)).detach()
                yield length, seen.double()
                return
            # A constant that is the same everywhere has no graph to the points; 0 times them is one.
            seen, uphill = value_and_gradient(lambda p, c=c: c(p) + 0 * p.flatten(1).sum(1), points)  # type: ignore[misc]
            yield length, seen.double()
            if not uphill.any():
                return
            rate = 2 * RATE * (1 - step / steps)
            unit = ball.project(unit + rate * ball.steepest(uphill.nan_to_num(0, 0, 0), unit), torch.zeros_like(unit))


def _margin(model: Model, y: Tensor, rival: Tensor, points: Tensor) -> Tensor:
    return margin_to(model(points), y, rival)


def differentiable_gradient(f: BoundField, points: Tensor) -> Tensor:
    """Return grad f at points that require a gradient, with the graph to them."""
    (gradient,) = torch.autograd.grad(f(points.clone()).sum(), points, create_graph=True, materialize_grads=True)
    return gradient
