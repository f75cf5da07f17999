"""meseta: the geometry of a classifier's input space.

The names most people need, imported on first use so that `import meseta` and `meseta --help` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from meseta.version import __version__

if TYPE_CHECKING:
    from meseta.evaluation import evaluate
    from meseta.threat import Threat

__all__ = ["Threat", "__version__", "evaluate"]

_HOME = {"Threat": "meseta.threat", "evaluate": "meseta.evaluation"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'meseta' has no attribute {name!r}")
