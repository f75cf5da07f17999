"""Modules of the user's own: imported where the user allowed them by name, and never because a file names them."""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from inspect import isabstract
from types import ModuleType
from typing import Any

from meseta.errors import UserError

VARIABLE = "MESETA_ALLOW"
"""The environment variable that names the modules, with commas between them; child processes inherit it."""
_NEVER = ("meseta", "__main__")


@contextmanager
def allow(names: Sequence[str]) -> Iterator[None]:
    """Allow modules for the block, beside those that the environment allows.

    Raises:
        UserError: a name that is no plain dotted name, or no module of that name.
    """
    if "" in names:
        raise UserError("`--allow` needs the name of a module of your own, such as my_objectives.")
    before = os.environ.get(VARIABLE)
    if names:
        os.environ[VARIABLE] = ",".join([*allowed_names(), *names])
    try:
        modules()
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before
        elif names:
            del os.environ[VARIABLE]


def allowed_names() -> tuple[str, ...]:
    """Return the names of the modules that are allowed now, each once."""
    listed = os.environ.get(VARIABLE, "").split(",")
    return tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))


def modules() -> list[ModuleType]:
    """Return the modules that are allowed now, imported."""
    return [_imported(name) for name in allowed_names()]


@cache
def _imported(name: str) -> ModuleType:
    """Import one module; where it is not installed, from the current folder, which is searched after all others."""
    if not all(part.isidentifier() for part in name.split(".")) or name.partition(".")[0] in _NEVER:
        raise UserError(f"`allow` must be the name of a module of your own, such as my_objectives, got {name!r}.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # and not first: what is installed is never replaced by what lies here
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself needs
        raise UserError(f"`allow`: there is no module {name} in {here}, and none is installed. Check it.") from None


def with_own(base: type[Any], known: Mapping[str, type[Any]]) -> dict[str, type[Any]]:
    """Return meseta's own classes of a kind, and after them those that allowed modules make public.

    Raises:
        UserError: two classes of one name.
    """
    found = dict(known)
    for module in modules():
        for name, method in public_classes(module, base):
            if found.get(name, method) is not method:
                first = found[name].__module__
                raise UserError(f"`allow`: {module.__name__}.{name} has the name of {first}.{name}. Rename it.")
            found[name] = method
    return found


def public_classes(module: ModuleType, base: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    """Yield the concrete classes of a kind that a module makes public and does not have from meseta, by name."""
    for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
        value = vars(module).get(name)
        if isinstance(value, type) and issubclass(value, base) and not isabstract(value) and not is_ours(value):
            yield value.__name__, value


def written(method: type[Any]) -> str:
    """Return how files name a class: meseta's own by its name alone, any other with the module it is from."""
    return method.__name__ if is_ours(method) else f"{method.__module__}.{method.__name__}"


def not_allowed(what: str, path: str) -> UserError:
    """Return the error for a class of a module that is not allowed, or that does not have it."""
    module, _, name = path.rpartition(".")
    if module in allowed_names():
        return UserError(f"{what}: the module {module} has no public class {name} of this kind. Check the name.")
    if module.partition(".")[0] in _NEVER:
        return UserError(f"{what}: {path} cannot be named in a file. Put a class of your own into a module of its own.")
    return UserError(
        f"{what}: {path} is no class of meseta's own, and the module {module} is not allowed. If you trust its code, "
        f"add --allow {module} to the command."
    )


def is_ours(method: type[Any]) -> bool:
    """Return whether a class is meseta's own."""
    return method.__module__.partition(".")[0] == "meseta"
