"""Settings of an objective that change over training."""

from dataclasses import dataclass, field, is_dataclass, replace
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of
from meseta.errors import UserError
from meseta.objectives.base import Objective, ObjectiveValue
from meseta.objectives.input_gradient import InputGradient
from meseta.schedules import LinearWarmup, Schedule


@dataclass(frozen=True, kw_only=True)
class Scheduled(Objective):
    """An objective some of whose numbers follow a schedule.

    setting(share) = setting * schedule.factor(share), share = (step + 1/2) / steps of training

    Training asks for the objective of each step with `at(share)`; used without, all settings have their full value. The
    middle of a step, so that a warm-up from zero never asks for a radius of exactly zero.

    Args:
        objective: the objective with its settings at full value.
        schedules: by the dotted path of a number in it: `weight`, `attack.threat.eps`, `parts.1.radius`.

    Terms and cost: those of the objective.
    Source: eps in Qin et al. 2019 (LLR), h in Moosavi-Dezfooli et al. 2019 (CURE), weights in SOAR (Ma 2020).
    """

    objective: Objective = InputGradient()
    schedules: dict[str, Schedule] = field(default_factory=lambda: {"weight": LinearWarmup()})

    def __post_init__(self) -> None:
        instance_of("objective", self.objective, Objective)
        if not self.schedules:
            raise UserError("`schedules` must name at least one setting, such as {weight: LinearWarmup}.")
        for schedule in self.schedules.values():
            instance_of("schedules", schedule, Schedule)
        settled = self.objective.at(_SHARES[0])  # paths go through schedules inside, as if they were not there
        for path in self.schedules:
            value = _get(settled, path.split("."), path)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise UserError(f"`schedules`: {path} is {value!r}, and only a number can follow a schedule.")
        for share in _SHARES:  # what a schedule makes impossible is refused now, not in the middle of training
            try:
                self.at(share)
            except UserError as error:
                raise UserError(f"`schedules`: after {share:.1%} of training: {error}") from None

    def evaluate(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> ObjectiveValue:
        """Return the objective at full value."""
        return self.objective.evaluate(model, x, y, generator)

    def at(self, share: float) -> Objective:
        """Return the objective after a share of training, its settings scaled."""
        objective = self.objective.at(share)
        for path, schedule in self.schedules.items():
            value = _get(objective, path.split("."), path)
            objective = _set(objective, path.split("."), value * schedule.factor(share))
        return objective


_SHARES = [(k + 0.5) / 20 for k in range(20)]


def _get(owner: Any, path: list[str], whole: str) -> Any:
    """Return the setting at a path through dataclasses and tuples."""
    for name in path:
        known = _settings(owner)
        if name not in known:
            raise UserError(
                f"`schedules`: {whole}: {type(owner).__name__} has no setting {name!r}. "
                f"It has: {', '.join(known) or 'none'}."
            )
        owner = owner[int(name)] if isinstance(owner, tuple) else getattr(owner, name)
    return owner


def _settings(owner: Any) -> list[str]:
    """Return the names of an owner's settings; of a tuple, the places in it."""
    if isinstance(owner, tuple):
        return [str(place) for place in range(len(owner))]
    return list(owner.__dataclass_fields__) if is_dataclass(owner) else []


def _set(owner: Any, path: list[str], value: float) -> Any:
    """Return a copy of the owner with the setting at a path replaced."""
    name, *rest = path
    if isinstance(owner, tuple):
        index = int(name)
        return (*owner[:index], _set(owner[index], rest, value) if rest else value, *owner[index + 1 :])
    return replace(owner, **{name: _set(getattr(owner, name), rest, value) if rest else value})
