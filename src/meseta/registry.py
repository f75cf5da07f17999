"""Find the methods: the public subclasses that a folder's `__init__` names are the only list of them there is."""

from importlib import import_module
from inspect import isabstract
from typing import Any

from meseta.errors import unknown_name

KINDS = {
    "objectives": "Objective",
    "attacks": "Attack",
    "measures": "Measure",
    "models": "Architecture",
    "scalar fields": "ScalarField",
}
"""What the project offers, and the base class of each kind."""

_FOLDERS = {
    "objectives": "meseta.objectives",
    "attacks": "meseta.attacks",
    "measures": "meseta.geometry",
    "models": "meseta.models",
    "scalar fields": "meseta.autodiff",
}


def methods(kind: str) -> dict[str, type[Any]]:
    """Return the concrete methods of a kind (a key of KINDS), by class name."""
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    folder = import_module(_FOLDERS[kind])
    base = getattr(folder, KINDS[kind])
    named = {name: getattr(folder, name) for name in folder.__all__}
    return {
        name: method
        for name, method in named.items()
        if isinstance(method, type) and issubclass(method, base) and not isabstract(method)
    }


def summary(method: type[Any]) -> str:
    """Return the first line of a method's docstring."""
    return (method.__doc__ or "").strip().split("\n")[0]
