"""Adversarial examples made on other models."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from meseta.attacks.base import Attack, misclassified
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.checks import check_logits, instance_of


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    models: Mapping[str, Model] = field(default_factory=dict, repr=False)
    attack: Attack = PGD(steps=40, drop_broken=False)

    def __post_init__(self) -> None:
        instance_of("attack", self.attack, Attack)

    @property
    def name(self) -> str:
        return f"Transfer from {', '.join(self.models)} ({self.attack.name})"

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        best, lowest = x, torch.full_like(x.flatten(1)[:, 0], torch.inf)
        for source in (self.models or {"": model}).values():
            points = self.attack.against(self.threat)(source, x, y, generator=generator)
            with torch.no_grad():
                logits = check_logits(model(points.clone()), points, y)
                margin = Decision().of_logits(logits, y).to(lowest.dtype)
                margin = torch.where(misclassified(logits, y), -torch.inf, margin)
            better = margin < lowest
            best = torch.where(better.view(-1, *[1] * (x.dim() - 1)), points, best)
            lowest = torch.where(better, margin, lowest)
        return best
