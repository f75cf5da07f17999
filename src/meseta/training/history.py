"""The history of a run: a value per epoch of everything that is logged, and what a watch sees after an epoch."""

import math
from collections import defaultdict
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from meseta.data import ImageData
from meseta.training.watch import Watch


class History(Callback):
    """Keeps for each epoch the mean over its examples of every training term, and what was logged at its end.

    Args:
        watch: what is looked at after an epoch, and logged with the rest; None for nothing.
        model: that is looked at.
        data: whose splits are looked at.
        batch_size: examples at a time.
        seed: of all randomness of the watch, the same after each epoch.
    """

    def __init__(self, watch: Watch | None, model: nn.Module, data: ImageData, *, batch_size: int, seed: int) -> None:
        self._watch, self._model, self._data = watch, model, data
        self._batch_size, self._seed = batch_size, seed
        self._epochs: list[dict[str, float]] = []
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self.last: dict[str, float] = {}
        """All that was logged last, at the end of the latest epoch."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the terms of a step, which `training_step` returned."""
        n = outputs["n"]
        for name, value in outputs["terms"].items():
            self._sums[name] = self._sums.get(name, torch.zeros(())).to(value.device) + n * value
            self._counts[name] += n

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look, log what was seen, and close the epoch."""
        watched: dict[str, float] = {}
        due = self._watch and self._watch.due(trainer.current_epoch + 1, trainer.max_epochs or 0)
        if self._watch and due and trainer.is_global_zero:  # the others wait at their next step
            watched = self._watch.look(self._model, self._data, batch_size=self._batch_size, seed=self._seed)
            pl_module.log_dict(watched, rank_zero_only=True)
        means = {name: float(total / self._counts[name]) for name, total in self._sums.items()}
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._epochs.append(means | logged | watched)
        self.last = {name: float(value) for name, value in trainer.callback_metrics.items()} | watched
        self._sums.clear()
        self._counts.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what an interruption must not lose: the epochs so far, and the one under way."""
        return {"epochs": self._epochs, "sums": self._sums, "counts": dict(self._counts), "last": self.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._epochs, self._sums, self.last = state_dict["epochs"], state_dict["sums"], state_dict["last"]
        self._counts = defaultdict(int, state_dict["counts"])

    def by_name(self) -> dict[str, list[float | None]]:
        """Return a value per epoch by name; None where an epoch has none, or none that is finite."""
        names = dict.fromkeys(name for epoch in self._epochs for name in epoch)
        return {
            name: [value if math.isfinite(value := epoch.get(name, math.nan)) else None for epoch in self._epochs]
            for name in names
        }
