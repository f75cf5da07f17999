"""The runtime checker of shape annotations: beartype, but constructors are left to our own errors."""

from beartype import BeartypeConf, beartype

_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function):
    return function if getattr(function, "__name__", "") == "__init__" else _beartype(function)
