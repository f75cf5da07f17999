"""meseta: the geometry of a classifier's input space.

The names most people need, imported on first use so that `import meseta` and `meseta --help` stay fast.
"""

from typing import TYPE_CHECKING

from meseta.lazy import lazy
from meseta.version import __version__

if TYPE_CHECKING:
    from meseta.evaluation import evaluate
    from meseta.threat import Threat

__all__ = ["Threat", "__version__", "evaluate"]

__getattr__ = lazy(
    __name__,
    {"Threat": "meseta.threat", "evaluate": "meseta.evaluation"},
)
