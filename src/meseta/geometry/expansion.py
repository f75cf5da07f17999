"""A scalar field along a direction, beside its expansions at the input."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from meseta.autodiff.gradient import full_precision
from meseta.autodiff.hessian import FiniteDifferenceHessian, Hessian
from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField
from meseta.checks import constant, derivatives_in_eval_mode, instance_of, positive, whole
from meseta.errors import UserError
from meseta.shapes import Float
from meseta.threat import Threat

ITSELF, FIRST_ORDER, SECOND_ORDER = "f itself", "first order", "second order, exact Hessian"
"""The curves that every expansion has."""


@dataclass(frozen=True)
class Expanded:
    """Curves over t, per example.

    Attributes:
        t: (T,), from 0 to 1.
        curves: (B, T) each, by name.
        eta: (B, *input), the direction at its full length.
    """

    t: Tensor
    curves: dict[str, Tensor]
    eta: Tensor


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """A scalar field f along a direction eta, f(x + t eta) for t in [0, 1], beside its expansions at x.

    first order     f(x) + t g^T eta,  g = grad f(x)
    second order    f(x) + t g^T eta + t^2/2 eta^T H eta,
                    H eta exact, or (grad f(x + h eta / ||eta||_2) - g) ||eta||_2 / h

    The exact Hessian sees the curvature at x, the difference its mean on the way to h. With h = ||eta||_2 the slope at
    t = 1 is right.

    Args:
        field: f; the cross-entropy loss by default.
        threat: eta lies in its ball and x + eta within its bounds.
        direction: "random", uniform in the ball, the same for every example but for the bounds; "gradient", the
            steepest step of length eps against the label, which raises a loss and lowers a margin.
        h: the radii of the differences, L2, in input units; () for none.
        points: values of t, at least 2.
        seed: of the random direction.

    Returns, when called with a model, x and y: `Expanded`, with the curve `f itself`, `first order`, `second order,
    exact Hessian`, and one for each h. NaN where the model gives no finite answer.
    Units: of f. Cost: `points` forwards, and three backwards, and for each h one forward and two backwards.

    Raises:
        UserError: x outside the threat's bounds; an h below the resolution of x (`FiniteDifferenceHessian`).

    Source: Ma 2020 (SOAR), Figures 1 and 4, whose captions write the difference as t^2 ||eta|| / 2 eta^T (grad f(x + h
    eta~) - g) / h, eta~ = eta / ||eta||_2: the same, since H eta = ||eta||_2 H eta~. No h is given there. On a
    SiLU CNN (CIFAR-10, 8/255, steepest step, ||eta||_2 = 1.7) the mean error over t was 19 % of the loss's change for
    the exact Hessian, 18 % for h = 0.03, the most that SOAR is trained with, and 4 % for h = 1: what the paper reports
    needs an h of the size of the step, which is smaller than 1 on smaller inputs.
    """

    field: ScalarField = CrossEntropy()
    threat: Threat = Threat()
    direction: Literal["random", "gradient"] = "random"
    h: tuple[float, ...] = (0.03, 1.0)
    points: int = 41
    seed: int = 0

    def __post_init__(self) -> None:
        instance_of("field", self.field, ScalarField)
        instance_of("threat", self.threat, Threat)
        if self.direction not in ("random", "gradient"):
            raise UserError(f"`direction` must be random or gradient, got {self.direction!r}.")
        for h in self.h:
            positive("h", h)
        whole("points", self.points, 2)
        whole("seed", self.seed, 0)

    @full_precision()
    def __call__(self, model: Model, x: Tensor, y: Tensor) -> Expanded:
        """Return the field and its expansions at each example of x (B, *input) with labels y (B,)."""
        self.threat.check(x, y)
        with derivatives_in_eval_mode(model):
            x, y = constant(x), constant(y).long()
            f = self.field.bind(model, x, y)
            hessian = Hessian(f, x)
            value, gradient = hessian.value.detach(), hessian.gradient.detach()
            eta = self._direction(x, gradient)
            products = {SECOND_ORDER: hessian(eta)}
            for h in self.h:
                products[f"second order, difference at h = {h:g}"] = FiniteDifferenceHessian(f, x, h)(eta).detach()
            t = torch.linspace(0, 1, self.points, dtype=x.dtype, device=x.device)
            with torch.no_grad():
                itself = torch.stack([f(x + float(step) * eta) for step in t], 1)
        first = value[:, None] + t * _inner(gradient, eta)[:, None]
        second = {name: first + t**2 / 2 * _inner(product, eta)[:, None] for name, product in products.items()}
        return Expanded(t, {ITSELF: itself, FIRST_ORDER: first, **second}, eta)

    def _direction(self, x: Tensor, gradient: Tensor) -> Float[Tensor, "b *input"]:
        if self.direction == "random":
            generator = torch.Generator().manual_seed(self.seed)
            move = replace(self.threat, bounds=None).sample(torch.zeros_like(x[:1]), generator=generator)
        else:
            uphill = gradient if self.field.rises_under_attack else -gradient
            move = self.threat.eps * self.threat.steepest(uphill, x)
        return self.threat.clip(x + move) - x


def _inner(a: Float[Tensor, "b *input"], b: Float[Tensor, "b *input"]) -> Float[Tensor, "b"]:
    return (a * b).flatten(1).sum(1)
