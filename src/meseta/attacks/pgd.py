"""Projected gradient ascent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, loss_and_gradient, misclassified
from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField
from meseta.checks import check_logits, positive, whole


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Iterated steepest steps, each projected back onto ball and bounds.

    x <- project(x + alpha s(grad loss)), s the steepest step of the threat's norm.

    Args:
        threat: norm, eps and bounds.
        steps: gradient steps per restart.
        alpha: step length; None for 2.5 eps / steps.
        restarts: independent starts; each one only attacks what the earlier ones left standing.
        random_start: start uniformly in the ball (PGD) or at the input (BIM).
        loss: `CrossEntropy()`, or `Decision()` for the C&W margin max_{j != y} z_j - z_y.
        drop_broken: take an example out of the batch as soon as one of its iterates is misclassified. The robust
            accuracy stays the worst case over iterates, and fragile models cost much less. False follows every path to
            its end, as adversarial training wants; between restarts broken examples leave all the same.

    Returns the first misclassified iterate of each example where broken ones are dropped, the last iterate elsewhere;
    of the first restart that breaks it, or of the one with the highest loss.
    Cost: `steps` forwards and backwards to the input per restart, plus one forward if there are several.
    Source: Madry et al. 2018, section 2.1 (CE, Linf); Carlini & Wagner 2017 for the margin.
    """

    steps: int = 40
    alpha: float | None = None
    restarts: int = 1
    random_start: bool = True
    loss: ScalarField = CrossEntropy()
    drop_broken: bool = True

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("restarts", self.restarts, 1)
        if self.alpha is not None:
            positive("alpha", self.alpha)

    @property
    def name(self) -> str:
        """For example `PGD-40 CrossEntropy x10`."""
        restarts = f" x{self.restarts}" if self.restarts > 1 else ""
        return f"{'PGD' if self.random_start else 'BIM'}-{self.steps} {type(self.loss).__name__}{restarts}"

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the strongest iterates over all restarts."""
        if self.restarts == 1:
            return self._ascend(model, x, y, generator)
        best, highest = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
        standing = torch.arange(len(x), device=x.device)
        for _ in range(self.restarts):
            points = self._ascend(model, x[standing], y[standing], generator)
            broken, loss = self._outcome(model, points, y[standing])
            better = broken | (loss > highest[standing])
            best[standing[better]] = points[better]
            highest[standing[better]] = loss[better].to(x.dtype)
            standing = standing[~broken]
            if len(standing) == 0:
                break
        return best

    def _ascend(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        alpha = 2.5 * self.threat.eps / self.steps if self.alpha is None else self.alpha
        points = self.threat.sample(x, generator=generator) if self.random_start else x
        result = points.clone()
        active = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            logits, _, gradient = loss_and_gradient(model, self.loss, points, y)
            if self.drop_broken and bool((broken := misclassified(logits, y)).any()):
                result[active[broken]] = points[broken]
                keep = ~broken
                active, points, gradient, x, y = (t[keep] for t in (active, points, gradient, x, y))
                if len(active) == 0:
                    return result
            points = self.threat.project(points + alpha * self.threat.steepest(gradient, points), x)
        result[active] = points
        return result

    @torch.no_grad()
    def _outcome(self, model: Model, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = check_logits(model(points.clone()), points, y)  # a model may work in place
        sign = 1 if self.loss.rises_under_attack else -1
        return misclassified(logits, y), (sign * self.loss.of_logits(logits, y)).nan_to_num(nan=torch.inf)
