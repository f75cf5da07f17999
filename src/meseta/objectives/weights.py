"""The weights of an objective's penalties, wherever they stand in it."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from meseta.objectives.base import Objective

Part = TypeVar("Part", bound=Objective)


def has_weight(objective: Objective) -> bool:
    """Return whether the objective, or one that it holds, has a penalty with a weight."""
    return hasattr(objective, "weight") or any(has_weight(part) for _, parts in _held(objective) for part in parts)


def with_weights(objective: Part, factor: float) -> Part:
    """Return the objective with the weights of all its penalties times a factor, in the objectives it holds too."""
    changed: dict[str, Any] = {}
    for name, parts in _held(objective):
        scaled = tuple(with_weights(part, factor) for part in parts)
        changed[name] = scaled if isinstance(getattr(objective, name), tuple) else scaled[0]
    if hasattr(objective, "weight"):
        changed["weight"] = objective.weight * factor
    return replace(objective, **changed)


def _held(objective: Objective) -> list[tuple[str, list[Objective]]]:
    """Return the objectives that this one holds, by the name of the setting."""
    found = []
    for field in fields(objective):
        value = getattr(objective, field.name)
        entries = value if isinstance(value, tuple) else (value,)
        if parts := [entry for entry in entries if isinstance(entry, Objective)]:
            found.append((field.name, parts))
    return found
