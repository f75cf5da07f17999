"""Find the methods: the public subclasses that a folder's `__init__` names are the only list of them there is, and the
classes of modules that the user allows stand beside them."""

from importlib import import_module
from inspect import isabstract
from typing import Any

from meseta.allowed import with_own
from meseta.errors import unknown_name

KINDS = {
    "objectives": ("meseta.objectives", "Objective"),
    "attacks": ("meseta.attacks", "Attack"),
    "transformations": ("meseta.attacks", "Transformation"),
    "measures": ("meseta.geometry", "Measure"),
    "bounds": ("meseta.certificates", "RadiusBound"),
    "checks": ("meseta.evaluation.masking", "MaskingCheck"),
    "models": ("meseta.models", "Architecture"),
    "scalar fields": ("meseta.autodiff", "ScalarField"),
    "solvers": ("meseta.linalg", "Solver"),
    "optimizers": ("meseta.training", "Optimizer"),
    "schedules": ("meseta.schedules", "Schedule"),
    "axes": ("meseta.surfaces", "Axis"),
}
"""What the project offers: the folder of each kind, and the base class of its methods."""

FIGURES = ("meseta.papers", "PaperFigure")
"""The figures of the papers, which no configuration names: the folder and the base class."""


def methods(kind: str) -> dict[str, type[Any]]:
    """Return the concrete methods of a kind (a key of KINDS), by class name; those of allowed modules come last."""
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    module, base = KINDS[kind]
    return with_own(getattr(import_module(module), base), _methods_of(module, base))


def paper_figures() -> dict[str, type[Any]]:
    """Return the figures of the papers by class name."""
    return _methods_of(*FIGURES)


def reproductions() -> dict[str, type[Any]]:
    """Return the reproductions by the name of their paper."""
    return {method.paper: method for method in _methods_of("meseta.reproductions", "Reproduction").values()}


def _methods_of(module: str, base_name: str) -> dict[str, type[Any]]:
    folder = import_module(module)
    base = getattr(folder, base_name)
    named = {name: vars(folder)[name] for name in folder.__all__ if name in vars(folder)}
    return {
        name: method
        for name, method in named.items()
        if isinstance(method, type) and issubclass(method, base) and not isabstract(method)
    }


def summary(method: type[Any]) -> str:
    """Return the first line of a method's docstring."""
    return (method.__doc__ or "").strip().split("\n")[0]
