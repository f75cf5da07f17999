"""What every ascent of a loss is: runs from several starts and towards several classes, each on what still stands."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, likeliest_rivals, loss_and_gradient, misclassified, raised
from meseta.autodiff.scalar_fields import CrossEntropy, Model, ScalarField
from meseta.checks import check_logits, instance_of, whole
from meseta.errors import UserError
from meseta.threat import Threat

Look = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Takes points (b, *input) and the indices (b,) of their examples; returns where the model errs, the loss that the run
raises, and its gradient."""


@dataclass(frozen=True, kw_only=True)
class Ascent(Attack):
    """A search that raises a loss step by step, in several runs; the strongest result of each example is kept.

    Args:
        threat: norm, eps and bounds.
        loss: `CrossEntropy()`, `DLR()`, or `Decision()` for the C&W margin max_{j != y} z_j - z_y.
        restarts: independent starts; each one only attacks what the earlier ones left standing.
        targets: 0 to leave the class open; T for one run a start towards each of the T likeliest wrong classes at x
            (all of them where there are fewer), on what the earlier ones left standing.
        draws: passes through the model that are averaged at each point, for a model that answers at random
            (expectation over transformation, Athalye et al. 2018); the model errs where its mean logits do.

    Returns, over all runs, the result of the first one that breaks an example, or of the one whose untargeted loss is
    highest.
    """

    loss: ScalarField = CrossEntropy()
    restarts: int = 1
    targets: int = 0
    draws: int = 1

    def __post_init__(self) -> None:
        instance_of("loss", self.loss, ScalarField)
        whole("restarts", self.restarts, 1)
        whole("targets", self.targets, 0)
        whole("draws", self.draws, 1)
        if self.targets and not self.loss.has_targets:
            raise UserError(
                f"`targets` is {self.targets}, and {self.loss!r} has no form for targets. "
                "Use CrossEntropy(), Decision() or DLR(), or `targets` 0."
            )

    @abstractmethod
    def ascend(self, x: Tensor, look: Look, generator: torch.Generator | None) -> Tensor:
        """Return the result (B, *input) of one run; inputs are checked and autograd is on."""

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the strongest results over all runs."""
        aims = likeliest_rivals(model, x, y, self.targets).unbind(1) if self.targets else (None,)
        runs = [aim for _ in range(self.restarts) for aim in aims]
        if len(runs) == 1:
            return self.ascend(x, self._look(model, y, runs[0]), generator)
        best, highest = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
        standing = torch.arange(len(x), device=x.device)
        for aim in runs:
            look = self._look(model, y[standing], None if aim is None else aim[standing])
            points = self.ascend(x[standing], look, generator)
            broken, loss = self._outcome(model, points, y[standing])
            better = broken | (loss > highest[standing])
            best[standing[better]] = points[better]
            highest[standing[better]] = loss[better].to(x.dtype)
            standing = standing[~broken]
            if len(standing) == 0:
                break
        return best

    def _look(self, model: Model, y: Tensor, target: Tensor | None) -> Look:
        def look(points: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            aim = None if target is None else target[index]
            logits, loss, gradient = loss_and_gradient(model, self.loss, points, y[index], target=aim, draws=self.draws)
            return misclassified(logits, y[index]), loss, gradient

        return look

    @torch.no_grad()
    def _outcome(self, model: Model, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = [check_logits(model(points.clone()), points, y) for _ in range(self.draws)]  # may work in place
        loss = torch.stack([raised(self.loss, z, y) for z in logits]).mean(0)
        return misclassified(torch.stack(logits).mean(0), y), loss.nan_to_num(nan=torch.inf)

    def _named(self, method: str) -> str:
        """Return the method with what it raises and how often, for example `APGD-100 DLR 9 targets x5`."""
        targets = f" {self.targets} targets" if self.targets else ""
        draws = f" {self.draws} draws" if self.draws > 1 else ""
        return f"{method} {type(self.loss).__name__}{targets}{draws}" + (
            f" x{self.restarts}" if self.restarts > 1 else ""
        )


def sparse_step(threat: Threat, gradient: Tensor, points: Tensor, count: Tensor) -> Tensor:
    """Return the step of L1 length 1 along the signs of the `count` (B,) largest entries of the gradient that can move.

    Rounded down, at least one. Larger ones that a bound stops are pushed as well: in the projection that follows they
    would give way to smaller ones, and take the next step to come back. (On a linear model in [0, 1] PGD reached a
    third of the optimum without.)
    """
    slope = gradient.flatten(1)
    stopped = threat.stopped(gradient, points).flatten(1)
    size, order = torch.where(stopped, 0, slope.abs()).sort(dim=1, descending=True, stable=True)
    rank = torch.arange(size.shape[1], device=size.device).expand_as(size)
    count = count.long().clamp(1, size.shape[1])[:, None]
    chosen = torch.zeros_like(stopped).scatter(1, order, rank < count)
    larger = stopped & (slope.abs() >= size.gather(1, count - 1))
    return (torch.where(chosen | larger, slope.sign(), 0) / count).view_as(gradient)
