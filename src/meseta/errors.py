"""What a user did that cannot work: the command line shows it as one line of safe text and exits with 2."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec


class UserError(ValueError):
    """An input, name, file or setting that cannot be used; the message names it, what it got and what to do."""


class NoGradient(UserError):
    """The model's output is cut off from its input, so that no gradient with respect to it exists."""


class Diverged(UserError):
    """Training met a loss that is not finite."""


class MissingExtra(UserError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install 'meseta[{extra}]'")


def require(extra: str, *packages: str) -> None:
    """Raise unless all packages of an extra are installed."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)


def printable(text: str) -> str:
    """Return the text without what a terminal would obey, or what would turn around the text beside it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\xa0\u202f" else " " if c.isspace() else "�" for c in text)


def is_text(text: str) -> bool:
    """Return whether a file can hold the text: lone surrogates stand for bytes that are no UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not known, with the known ones listed and the nearest one first."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UserError(f"{kind}: unknown name {name!r}.{hint} Known: {', '.join(names)}.")
