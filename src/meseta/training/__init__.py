"""Training: a run's configuration, optimisers and schedules. `meseta.training.run` needs the extra `train`."""

from typing import TYPE_CHECKING, Any

from meseta.errors import MissingExtra
from meseta.training.config import RunConfig
from meseta.training.optimizers import Adam, AdamW, Constant, Cosine, Cyclic, Optimizer, Schedule, Sgd, StepDecay

if TYPE_CHECKING:
    from meseta.training.run import train

__all__ = [
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Cyclic",
    "Optimizer",
    "RunConfig",
    "Schedule",
    "Sgd",
    "StepDecay",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":
        try:
            from meseta.training.run import train
        except ModuleNotFoundError as error:
            raise MissingExtra(str(error.name), "train") from None
        return train
    raise AttributeError(f"module 'meseta.training' has no attribute {name!r}")
