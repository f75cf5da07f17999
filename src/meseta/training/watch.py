"""A watch on training: what is looked at after an epoch, without any part in the training itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from meseta.attacks import PGD, Attack
from meseta.attacks.base import misclassified
from meseta.autodiff.scalar_fields import CrossEntropy
from meseta.checks import eval_mode, instance_of, whole
from meseta.data import ImageData, batches
from meseta.errors import UserError
from meseta.evaluation.judge import judge_attack, predict, repeatable
from meseta.objectives import Objective
from meseta.objectives.base import Regularizer

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is looked at after every few epochs, and after the last; the trained weights do not depend on it.

    The model is in eval mode, and all randomness is drawn anew from the same seed after each epoch, so that a curve
    moves because the model does.

    Args:
        every: how many epochs lie between two looks.
        n: the first so many examples of each split; None for all.
        splits: "train" (without augmentation), "val", "test".
        attacks: the accuracy that each leaves is logged, and where several share a threat their worst case.
        objectives: the mean of each of their terms is logged, at full settings where they are scheduled; of a
            regulariser only the terms of its penalty.

    Logged as `watch/SPLIT/accuracy`, `watch/SPLIT/cross_entropy`, `watch/SPLIT/accuracy ATTACK NORM EPS` and
    `watch/SPLIT/TERM`; attacks or objectives of one name are told apart by the settings in which they differ.
    Cost: per look, split and example a forward, the attacks and the objectives.
    """

    every: int = 1
    n: int | None = 256
    splits: tuple[SplitName, ...] = ("val",)
    attacks: tuple[Attack, ...] = (PGD(steps=20),)
    objectives: tuple[Objective, ...] = ()

    def __post_init__(self) -> None:
        whole("every", self.every, 1)
        if self.n is not None:
            whole("n", self.n, 1)
        unknown = [split for split in self.splits if split not in get_args(SplitName)]
        if unknown or not self.splits or len(set(self.splits)) < len(self.splits):
            raise UserError(f"`splits` must hold train, val or test, each once, got {list(self.splits)}.")
        for attack in self.attacks:
            instance_of("attacks", attack, Attack)
        for objective in self.objectives:
            instance_of("objectives", objective, Objective)
        for name, methods in (("attacks", self.attacks), ("objectives", self.objectives)):
            if len(set(map(repr, methods))) < len(methods):
                raise UserError(f"`{name}`: the same is given twice. Give each once.")

    def due(self, epoch: int, epochs: int) -> bool:
        """Return whether to look after this epoch, counted from 1."""
        return epoch % self.every == 0 or epoch == epochs

    def check(self, model: nn.Module, data: ImageData) -> None:
        """Raise what looking would raise, before anything is trained: each attack's own check, objectives on two."""
        for split in self.splits:
            x, y = getattr(data, split)[:2]
            for attack in self.attacks:
                attack.check(x, y)
            with repeatable(0, x.device), torch.no_grad():
                list(_terms(self.objectives, model, x, y, 0))

    def look(self, model: nn.Module, data: ImageData, *, batch_size: int, seed: int) -> dict[str, float]:
        """Return the mean of everything that is watched, by the name it is logged as; NaN where it is not finite."""
        device = next(model.parameters()).device
        found: dict[str, list[Tensor]] = {}
        with torch.no_grad():  # so that objectives that need no graph keep none
            for split in self.splits:
                for index, (x, y) in enumerate(batches(getattr(data, split).head(self.n), batch_size)):
                    for name, values in self._on(model, x.to(device), y.to(device), seed + 1_000_003 * index):
                        found.setdefault(f"watch/{split}/{name}", []).append(values.double().cpu())
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}

    def _on(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Iterator[tuple[str, Tensor]]:
        """Yield what is watched on one batch, a value per example; each part has a random stream of its own."""
        with repeatable(seed, x.device):
            logits = predict(model, x, y)
        right = ~misclassified(logits, y)
        yield "accuracy", right
        yield "cross_entropy", CrossEntropy().of_logits(logits, y)
        standing: dict[str, list[Tensor]] = {}
        for k, (name, attack) in enumerate(zip(_attack_names(self.attacks), self.attacks, strict=True), 1):
            left = right.clone()
            with repeatable(seed + k, x.device):
                if right.any():
                    generator = torch.Generator(x.device).manual_seed(seed + k)
                    returned = attack(model, x[right], y[right], generator=generator)
                    left[right] = ~judge_attack(model, x[right], y[right], returned, attack.threat).broken
            standing.setdefault(_threat_name(attack), []).append(left)
            yield f"accuracy {name}", left
        for threat, masks in standing.items():
            if len(masks) > 1:
                yield f"accuracy worst case {threat}", torch.stack(masks).all(0)
        with repeatable(seed, x.device):
            yield from _terms(self.objectives, model, x, y, seed)


def _terms(
    objectives: Sequence[Objective], model: nn.Module, x: Tensor, y: Tensor, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """Yield the terms of the objectives, each drawing the same."""
    several = len({type(objective) for objective in objectives}) > 1
    for objective, settings in zip(objectives, _differences(objectives), strict=True):
        apart = [type(objective).__name__, *settings] if several else settings
        with eval_mode(model):
            terms = objective(model, x, y, generator=torch.Generator(x.device).manual_seed(seed)).terms
        for name, values in terms.items():
            if name != "cross_entropy" or not isinstance(objective, Regularizer):
                yield " ".join([name, *apart]), values


def _attack_names(attacks: Sequence[Attack]) -> list[str]:
    """Return names with norm and eps, and with the settings that tell those of one name apart."""
    names = [attack_name(attack) for attack in attacks]
    alike = [[a for a, other in zip(attacks, names, strict=True) if other == name] for name in names]
    return [
        " ".join([name, *_differences(group)[group.index(attack)]])
        for name, attack, group in zip(names, attacks, alike, strict=True)
    ]


def attack_name(attack: Attack) -> str:
    """Return what accuracy under an attack is logged as: its name, norm and eps."""
    return f"{attack.name} {_threat_name(attack)}"


def _threat_name(attack: Attack) -> str:
    return f"{attack.threat.norm} {attack.threat.eps:.4g}"


def _differences(methods: Sequence[Any]) -> list[list[str]]:
    """Return for each method the settings, as in `directions=100`, in which those of its class differ."""
    return [
        [
            f"{field.name}={getattr(method, field.name)!r}"
            for field in fields(method)
            if len({repr(getattr(other, field.name)) for other in methods if type(other) is type(method)}) > 1
        ]
        for method in methods
    ]
