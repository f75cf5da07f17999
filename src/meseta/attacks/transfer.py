"""Adversarial examples crafted on other models."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from meseta.attacks.base import Attack, asked
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import Model
from meseta.checks import eval_mode, instance_of
from meseta.errors import NoGradient, UserError
from meseta.linalg.norms import per_example


@dataclass(frozen=True, kw_only=True)
class Transfer(Attack):
    """Attack other models, and keep for each example the result with the lowest margin on this one.

    A model whose gradients are right is broken less by what was crafted elsewhere than by the same attack on itself:
    where it is not, its gradients mislead.

    Args:
        threat: norm, eps and bounds; it takes the place of the attack's own.
        models: the sources by name, each (B, *input) to (B, K) with the same classes in the same order. With none, the
            model itself is the source. What is printed of them is their names.
        attack: what crafts. It should go on beyond the boundary of the source (`PGD(drop_broken=False)`), since
            what only just misleads the source seldom misleads another model.

    Sources run in eval mode and get their mode back. An example that a source's result breaks is not attacked again.
    Cost: the attack's on each source, and one forward of the model each, and one at the input.
    Raises:
        UserError: a source with another number of classes, or without a gradient where the attack needs one.
    Source: Papernot, McDaniel & Goodfellow 2016, section 2.
    """

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

    @property
    def uses_gradients(self) -> bool:
        """Of the model under attack, only where it is its own source."""
        return not self.models and self.attack.uses_gradients

    def perturb(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the first result that the model misclassifies, or the one with the lowest margin."""
        _, broken = asked(model, x, y)
        classes = _classes(model, x)
        for name, source in self.models.items():
            if (found := _classes(source, x)) != classes:
                raise UserError(
                    f"`models`: {name!r} has {found} classes and the model under attack {classes}. "
                    "Transfer from models that were trained on the same classes."
                )
        best, highest = x.clone(), torch.full(y.shape, -torch.inf, dtype=torch.double, device=x.device)
        for name, source in self.models.items() or [("itself", model)]:
            standing = (~broken).nonzero().squeeze(1)
            if len(standing) == 0:
                break
            here, labels = x[standing], y[standing]
            points = self._crafted(name, source, here, labels, generator)
            value, errs = asked(model, points, labels)
            better = errs | (value > highest[standing])
            best[standing] = torch.where(per_example(better, x), points, best[standing])
            highest[standing] = torch.where(better, value, highest[standing])
            broken[standing] = errs
        return best

    def _crafted(self, name: str, source: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        try:
            return self.attack.against(self.threat)(source, x, y, generator=generator)
        except NoGradient as error:
            raise UserError(f"`models`: {name!r} cannot be a source for {self.attack.name}: {error}") from None


@torch.no_grad()
def _classes(model: Model, x: Tensor) -> int:
    with eval_mode(model):
        return model(x[:1].clone()).shape[-1]
