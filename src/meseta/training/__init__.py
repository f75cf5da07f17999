"""Training: a run's configuration and its optimisers. `meseta.training.run` needs the extra `train`."""

from typing import TYPE_CHECKING, Any

from meseta.errors import MissingExtra
from meseta.training.config import RunConfig
from meseta.training.cost import step_flops, step_seconds
from meseta.training.optimizers import Adam, AdamW, Optimizer, Sgd
from meseta.training.watch import Watch

if TYPE_CHECKING:
    from meseta.training.run import check_same, train

__all__ = [
    "Adam",
    "AdamW",
    "Optimizer",
    "RunConfig",
    "Sgd",
    "Watch",
    "check_same",
    "step_flops",
    "step_seconds",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in ("train", "check_same"):
        try:
            from meseta.training import run
        except ModuleNotFoundError as error:
            raise MissingExtra(str(error.name), "train") from None
        return getattr(run, name)
    raise AttributeError(f"module 'meseta.training' has no attribute {name!r}")
