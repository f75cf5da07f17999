"""The runtime checker of shape annotations: beartype, but constructors are left to our own errors.

The first calls of every test are checked. A check costs as much as a small tensor operation, and a test that trains and
attacks would repeat it a hundred thousand times.
"""

from functools import wraps
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import config

MOST = 2000
"""Checks in one test, of arguments and of results: two for a call."""

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))
_left = MOST


def annotated(*rooms):
    """Return the modules of rooms that annotate shapes; in the others a check of every call would cost and see none."""
    source = Path(__file__).parents[1] / "src"
    files = [source / "meseta/threat.py", *(file for room in rooms for file in source.glob(f"meseta/{room}/*.py"))]
    return [
        ".".join(file.relative_to(source).with_suffix("").parts)
        for file in files
        if "meseta.shapes" in file.read_text(encoding="utf-8")
    ]


def begin():
    """Check the next calls, at the start of a test."""
    global _left
    _left = MOST
    config.update("jaxtyping_disable", False)


def check(function):
    if getattr(function, "__name__", "") == "__init__":
        return function
    checked = _beartype(function)

    @wraps(checked)
    def counted(*args, **kwargs):
        global _left
        _left -= 1
        if _left <= 0:
            config.update("jaxtyping_disable", True)
        return checked(*args, **kwargs)

    return counted if callable(checked) and not isinstance(checked, type) else checked
