"""What training leaves on disk on its way, so that it goes on where it was interrupted."""

import io
from pathlib import Path
from time import monotonic
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback
from torch import nn

from meseta.errors import UserError
from meseta.files import write_whole

LAST = Path("checkpoints", "last.ckpt")
"""Where a run keeps its last checkpoint."""


class Checkpoint(Callback):
    """Keeps the state of training after every epoch, and inside of one where it takes long.

    The file is replaced whole: an interruption while it is written leaves the former one. Not after the last step of an
    epoch, before its validation: the end of the epoch is kept in a moment, and has that too.

    Args:
        folder: of the run.
        seconds: how long nothing is kept, at most, but for the step under way.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.path = folder / LAST
        self.step: int | None = None
        """Steps taken when it was written last; None before."""
        self._seconds = seconds
        self._written = monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remember of which step the checkpoint is that training goes on from."""
        self.step = trainer.global_step or None

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the state where that is due."""
        due = trainer.strategy.reduce_boolean_decision(monotonic() - self._written >= self._seconds, all=False)
        if due and batch_idx + 1 < trainer.num_training_batches:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the state."""
        self._write(trainer)

    def _write(self, trainer: lightning.Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()  # what is logged lasts as long as the weights
        trainer.save_checkpoint(self.path)  # all processes take part
        self.step, self._written = trainer.global_step, monotonic()


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; Lightning's way goes by the folder of temporary files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the file."""
        content = io.BytesIO()  # into a file torch would meet a full disk with an error of its own kind
        torch.save(checkpoint, content)
        write_whole(Path(path), lambda temporary: temporary.write_bytes(content.getbuffer()))


def check_checkpoint(path: Path, module: nn.Module) -> None:
    """Raise unless a file is a whole checkpoint of this module's training; nothing in it is executed.

    Raises:
        UserError: a damaged file, or one of another training.
    """
    advice = "Remove it to train from the start, or remove the run."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: tensor.shape for name, tensor in content["state_dict"].items()}
        there = {"callbacks", "loops", "lr_schedulers", "optimizer_states"} <= content.keys()
    except OSError:
        raise
    except Exception as error:  # a damaged zip file, or pickle, raises errors of many kinds
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"checkpoint: {path} is damaged: {why} {advice}") from None
    if not there or weights != {name: tensor.shape for name, tensor in module.state_dict().items()}:
        raise UserError(f"checkpoint: {path} is of another training. {advice}")
