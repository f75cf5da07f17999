"""DeepFool: repeated steps to the nearest boundary of the linear piece."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import likeliest_rivals, misclassified
from meseta.attacks.minimum_norm import MinimumNormAttack, errs
from meseta.autodiff.gradient import gradient_of, leaf
from meseta.autodiff.scalar_fields import Model, margin_to
from meseta.checks import check_logits, positive, whole
from meseta.linalg.norms import norm, per_example


@dataclass(frozen=True, kw_only=True)
class DeepFool(MinimumNormAttack):
    """Step to the nearest boundary of the linear piece until the model errs.

    x <- clip(x + (1 + overshoot) |f_j| / ||g_j||_q s(-g_j)),  f_j = z_y - z_j,

    with g_j the gradient of f_j, 0 in entries that stand at a bound and would leave it, j the rival whose boundary is
    nearest, |f_j| / ||g_j||_q, and s the steepest step of the norm: the direction itself for L2, its sign for Linf, its
    largest entry for L1. At last the segment back to the input is bisected. Exact on linear models whose boundary lies
    inside the bounds.

    Args:
        threat: norm and bounds.
        steps: linear pieces at most.
        overshoot: how far each point goes beyond its boundary, as a share of the way there.
        candidates: how many rivals, the likeliest at x; None for all of them.

    Cost: a step takes one forward and `candidates` backwards to the input, of the examples that still stand; most
    networks need two or three steps. 12 forwards at the ends.
    Source: Moosavi-Dezfooli, Fawzi & Frossard 2016, Algorithm 2 and section 3.3. Differs: stays within the bounds, and
    looks for the boundary along entries that can move, since a path that clipping shortens stops short of it; the
    bisection at the end takes the overshoot back.
    """

    steps: int = 50
    overshoot: float = 0.02
    candidates: int | None = 10

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        positive("overshoot", self.overshoot)
        if self.candidates is not None:
            whole("candidates", self.candidates, 1)

    def search(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the first adversarial point of each path."""
        found, points = torch.full_like(x, torch.nan), x
        rivals = likeliest_rivals(model, x, y, self.candidates)
        active = torch.arange(len(x), device=x.device)
        for _ in range(self.steps):
            broken, move = self._step(model, points, y, rivals)
            if broken.any():
                found[active[broken]] = points[broken]
                active, move, points, y, rivals = (t[~broken] for t in (active, move, points, y, rivals))
                if len(active) == 0:
                    return found
            points = self.threat.clip(points + (1 + self.overshoot) * move)
        broken = errs(model, points, y)
        found[active[broken]] = points[broken]
        return found

    def _step(self, model: Model, points: Tensor, y: Tensor, rivals: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the model errs, and the move to the nearest boundary of the linear piece at the points."""
        point = leaf(points)
        logits = check_logits(model(point.clone()), points, y)  # a model may work in place
        nearest, downhill = torch.full_like(points.flatten(1)[:, 0], torch.inf), torch.zeros_like(points)
        for rival in rivals.unbind(1):
            margin = margin_to(logits, y, rival)
            gradient = gradient_of(margin, point, retain_graph=True).nan_to_num(0, 0, 0)
            gradient = torch.where(self.threat.stopped(-gradient, points), 0, gradient)
            slope = norm(gradient, self.threat.dual)
            distance = torch.where(slope > 0, margin.detach().abs().to(slope.dtype) / slope, torch.inf)
            nearer = distance < nearest
            nearest = torch.where(nearer, distance, nearest)
            downhill = torch.where(per_example(nearer, points), -gradient, downhill)
        length = torch.where(nearest.isfinite(), nearest, 0)
        return misclassified(logits.detach(), y), per_example(length, points) * self.threat.steepest(downhill, points)
