"""Adversarial examples crafted on other models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from meseta.attacks.base import Attack, misclassified
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.checks import check_logits, eval_mode, instance_of
from meseta.errors import UserError
from meseta.linalg.norms import per_example


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Attack other models, and keep for each example the result with the lowest margin on this one.

    A model whose gradients are right is broken less by what was crafted elsewhere than by the same attack on itself:
    where it is not, its gradients mislead.

    Args:
        threat: norm, eps and bounds; it takes the place of the attack's own.
        models: the sources by name, each (B, *input) to (B, K) with the same classes. With none, the model itself is
            the source. What is printed of them is their names.
        attack: what crafts. It should go on beyond the boundary of the source (`PGD(drop_broken=False)`), since
            what only just misleads the source seldom misleads another model.

    Sources run in eval mode and get their mode back. An example that a source's result breaks is not attacked again.
    Cost: the attack's on each source, and one forward of the model each, and one at the input.
    Raises:
        UserError: a source with another number of classes.
    Source: Papernot, McDaniel & Goodfellow 2016, section 2.
    """

    uses_gradients: ClassVar[bool] = False

    models: Mapping[str, Model] = field(default_factory=dict, hash=False)
    attack: Attack = PGD(steps=20, drop_broken=False)

    def __post_init__(self) -> None:
        if not isinstance(self.models, Mapping) or not all(
            isinstance(name, str) and callable(model) for name, model in self.models.items()
        ):
            raise UserError(f"`models` must map names to models, such as {{'erm': network}}, got {self.models!r}.")
        instance_of("attack", self.attack, Attack)

    def __repr__(self) -> str:
        return f"Transfer(threat={self.threat!r}, models={list(self.models)!r}, attack={self.attack!r})"

    @property
    def name(self) -> str:
        """For example `Transfer from erm, trades (PGD-20 CrossEntropy)`."""
        return f"Transfer from {', '.join(self.models) or 'itself'} ({self.attack.name})"

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the first result that the model misclassifies, or the one with the lowest margin."""
        crafting = self.attack.against(self.threat)
        _, broken, classes = _asked(model, x, y)
        for name, source in self.models.items():
            _check_classes(name, source, x[:1], y[:1], classes)
        best, lowest = x.clone(), torch.full(y.shape, torch.inf, dtype=torch.double, device=x.device)
        for source in self.models.values() or [model]:
            standing = (~broken).nonzero().squeeze(1)
            if len(standing) == 0:
                break
            here, labels = x[standing], y[standing]
            points = crafting(source, here, labels, generator=generator)
            margin, errs, _ = _asked(model, points, labels)
            better = errs | (margin < lowest[standing])
            best[standing] = torch.where(per_example(better, x), points, best[standing])
            lowest[standing] = torch.where(better, margin, lowest[standing])
            broken[standing] = errs
        return best


@torch.no_grad()
def _asked(model: Model, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return the margin, where the model errs, and its number of classes."""
    logits = check_logits(model(points.clone()), points, y)  # a model may work in place
    return Decision().of_logits(logits, y).double(), misclassified(logits, y), logits.shape[1]


@torch.no_grad()
def _check_classes(name: str, source: Model, x: Tensor, y: Tensor, classes: int) -> None:
    with eval_mode(source):
        found = check_logits(source(x.clone()), x, 0 * y).shape[1]
    if found != classes:
        raise UserError(
            f"`models`: {name!r} has {found} classes and the model under attack {classes}. "
            "Transfer from models that were trained on the same classes."
        )
