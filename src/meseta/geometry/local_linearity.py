"""How far the loss departs from its linear part inside the threat, and the search for the worst place."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meseta.autodiff.gradient import full_precision, value_and_gradient
from meseta.autodiff.scalar_fields import BoundField, CrossEntropy, Model
from meseta.checks import instance_of, positive, whole
from meseta.geometry.base import Measure, Measurement
from meseta.linalg.norms import per_example
from meseta.shapes import Float
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class LocalLinearity(Measure):
    """The departure of the loss l from its linear part inside the threat, gamma: 0 for a loss that is linear there.

    gamma = max |l(x + delta) - l(x) - delta^T grad l(x)|  over delta inside ball and bounds

    With the true maximum, |l(x + delta) - l(x)| <= gamma + |delta^T grad l(x)| for every delta: no attack gains more
    over what the gradient promises. The value is an estimate of it from below, the largest departure that Adam comes
    past. Its steps suit the corners of Linf; in small L2 balls, where gamma is eps^2 ||H||_2 / 2, they found 0.35 to
    0.85 of that. As every measure of the loss it is small where the model is confident, robust or not.

    Args:
        threat: norm, eps and bounds.
        steps: of the ascent, at least 1.
        alpha: Adam's rate, in input units; as published.
        seed: of the start, one uniform move of the ball that all examples share, clipped to the bounds of each.

    Parts: linear = |delta^T grad l(x)| at the delta found.
    Units: of the loss. Cost: two forwards and one backward to the input per step.

    Raises:
        UserError: x outside the threat's bounds.

    Source: Qin et al. 2019, the local linearity measure; differs: the largest departure on the way, not the last one.
    """

    threat: Threat = Threat()
    steps: int = 10
    alpha: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        instance_of("threat", self.threat, Threat)
        whole("steps", self.steps, 1)
        positive("alpha", self.alpha)
        whole("seed", self.seed, 0)

    @full_precision()
    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the largest departure found per example."""
        self.threat.check(x, y)
        f = CrossEntropy().bind(model, x, y)
        loss, gradient = value_and_gradient(f, x)
        gamma, linear = torch.full_like(loss, -1), torch.zeros_like(loss)
        for delta in rising_departure(f, x, self._start(x), self.threat, self.steps, self.alpha):
            with torch.no_grad():
                slope = (delta * gradient).flatten(1).sum(1)
                gap = (f(x + delta) - loss - slope).abs()
            linear = torch.where(gap > gamma, slope.abs(), linear)
            gamma = torch.maximum(gamma, gap)  # NaN replaces what was found, and stays
        return Measurement(gamma, parts={"linear": linear})

    def _start(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        move = replace(self.threat, bounds=None).sample(torch.zeros_like(x[:1]), generator=generator)
        return self.threat.project(x + move, x) - x


def rising_departure(
    f: BoundField,
    x: Float[Tensor, "b *input"],
    start: Float[Tensor, "b *input"],
    threat: Threat,
    steps: int,
    alpha: float,
) -> Iterator[Float[Tensor, "b *input"]]:
    """Yield the moves delta by which Adam raises |f(x + delta) - f(x) - delta^T grad f(x)|.

    Each is projected on ball and bounds. The gradient is +-(grad f(x + delta) - grad f(x)); where it is not finite, it
    counts as zero.

    Args:
        f: field (B, *input) -> (B,), at a model in eval mode. x: inputs (B, *input) inside the bounds.
        start: the move to start from, inside ball and bounds.
        alpha: Adam's rate, in input units.

    Cost: one forward and one backward to the input per step, and one of each at x.
    """
    value, gradient = value_and_gradient(f, x)
    delta = start.clone()
    adam = torch.optim.Adam([delta], alpha, maximize=True)
    for _ in range(steps):
        there, slope = value_and_gradient(f, x + delta)
        gap = there - value - (delta * gradient).flatten(1).sum(1)
        delta.grad = (per_example(gap.sign(), delta) * (slope - gradient)).nan_to_num(0, 0, 0).to(delta.dtype)
        adam.step()
        delta.copy_(threat.project(x + delta, x) - x)
        yield delta.detach().clone()
