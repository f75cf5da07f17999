"""What calls leave behind.

A graph keeps the Python objects of its tensors alive, so that counting those sees graphs as well.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def collected() -> Iterator[None]:
    """Set aside all that is alive, so that counting looks at what is made inside, and leave garbage where it lies.

    Without the garbage collector's help: a cycle through a graph would hold large tensors until it runs.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def live_tensors() -> int:
    """Return how many tensors are alive that were made since."""
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
