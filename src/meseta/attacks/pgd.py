"""Projected gradient ascent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.ascent import Ascent, Look, sparse_step
from meseta.checks import at_least, positive, whole
from meseta.linalg.norms import normalized


@dataclass(frozen=True, kw_only=True)
class PGD(Ascent):
    """Iterated steepest steps, each projected back onto ball and bounds.

    x <- project(x + alpha s(v)),  v <- momentum v + grad loss / ||grad loss||_1,

    with s the steepest step of the threat's norm, in L1 that of one entry (see `sparse_step`). Without momentum s(v) is
    s(grad loss).

    Args:
        threat: norm, eps and bounds.
        steps: gradient steps per run.
        alpha: step length; None for 2.5 eps / steps.
        momentum: share of the earlier directions that stays in v; 1 in MI-FGSM, which starts at the input and has
            alpha = eps / steps.
        random_start: start uniformly in the ball (PGD) or at the input (BIM).
        drop_broken: take an example out of the batch as soon as one of its iterates is misclassified. The robust
            accuracy stays the worst case over iterates, and fragile models cost much less. False follows every path to
            its end, as adversarial training wants; between runs broken examples leave all the same.
        loss, restarts, targets, draws: what is raised, and in how many runs (see `Ascent`).

    Returns the first misclassified iterate of each example where broken ones are dropped, the last iterate elsewhere;
    of the first run that breaks it, or of the one with the highest loss.
    Cost: `steps` forwards and backwards to the input per run, `draws` times; plus one forward a run if there are
    several, and one for the targets.
    Source: Madry et al. 2018, section 2.1 (CE, Linf); Carlini & Wagner 2017 for the margin; Dong et al. 2018, equations
    6 and 7 for momentum.
    """

    steps: int = 40
    alpha: float | None = None
    momentum: float = 0.0
    random_start: bool = True
    drop_broken: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("steps", self.steps, 1)
        at_least("momentum", self.momentum, 0)
        if self.alpha is not None:
            positive("alpha", self.alpha)

    @property
    def name(self) -> str:
        """For example `PGD-40 CrossEntropy x10`."""
        momentum = f" momentum {self.momentum:g}" if self.momentum else ""
        return self._named(f"{'PGD' if self.random_start else 'BIM'}-{self.steps}{momentum}")

    def ascend(self, x: Tensor, look: Look, generator: torch.Generator | None) -> Tensor:
        """Return the first misclassified or the last iterates."""
        alpha = 2.5 * self.threat.eps / self.steps if self.alpha is None else self.alpha
        points = self.threat.sample(x, generator=generator) if self.random_start else x
        result, direction = points.clone(), torch.zeros_like(x)
        active = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            broken, _, gradient = look(points, active)
            if self.drop_broken and bool(broken.any()):
                result[active[broken]] = points[broken]
                keep = ~broken
                active, points, gradient, direction, x = (t[keep] for t in (active, points, gradient, direction, x))
                if len(active) == 0:
                    return result
            direction = self.momentum * direction + normalized(gradient, 1) if self.momentum else gradient
            points = self.threat.project(points + alpha * self._step(direction, points), x)
        result[active] = points
        return result

    def _step(self, direction: Tensor, points: Tensor) -> Tensor:
        if self.threat.norm == "L1":
            return sparse_step(self.threat, direction, points, points.new_ones(len(points)))
        return self.threat.steepest(direction, points)
