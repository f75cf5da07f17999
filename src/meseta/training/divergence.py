"""What happens where a loss, a gradient or a weight is not finite."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from meseta.errors import Diverged
from meseta.evaluation.record import LeftOut
from meseta.objectives.weights import with_weights
from meseta.training.config import OnDivergence
from meseta.training.module import ObjectiveModule

MOST = 100
"""Steps in a row that may be left out."""


class Divergence(Callback):
    """Stops training where it diverges, or leaves the step out: parameters, buffers and the optimiser's state stay.

    Weights that are not finite always stop it, since nothing brings them back.

    Args:
        on_divergence: as in `RunConfig`.
    """

    def __init__(self, on_divergence: OnDivergence) -> None:
        self._on_divergence = on_divergence
        self.left_out: list[LeftOut] = []
        self.factor = 1.0
        """What the weights of penalties were multiplied with so far."""
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lower the weights as far as they were before an interruption."""
        if self.factor != 1:
            _module(pl_module).objective = with_weights(_module(pl_module).objective, self.factor)

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Remember the buffers, which a forward may spoil."""
        if self._on_divergence != "stop":
            self._buffers = [(buffer, buffer.clone()) for buffer in _module(pl_module).model.buffers()]

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at loss and gradients; all processes agree on what is left out."""
        module = _module(pl_module)
        why = module.nonfinite or _nonfinite(module.model, "gradient")
        if not trainer.strategy.reduce_boolean_decision(bool(why), all=False):
            return
        step, why = trainer.global_step, why or "another process met it"
        if self._on_divergence == "stop":
            raise Diverged(
                f"objective: training diverged at step {step}: {why}. Lower the weight or the learning rate, or set "
                "`divergence` to skip or lower."
            )
        self.left_out.append(LeftOut(step=step, why=why))
        if [one.step for one in self.left_out[-MOST:]] == list(range(step - MOST + 1, step + 1)):
            raise Diverged(f"objective: training diverged: {MOST} steps in a row were left out, the last since {why}.")
        for parameter in module.parameters():
            parameter.grad = None  # an optimiser passes by parameters without a gradient
        for buffer, before in self._buffers:
            buffer.copy_(before)
        if self._on_divergence == "lower":
            self.factor /= 2
            module.objective = with_weights(module.objective, 0.5)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Look at the weights, before they are kept."""
        if why := _nonfinite(_module(pl_module).model, "weight"):
            raise Diverged(
                f"objective: training diverged at step {trainer.global_step - 1}: {why} after the update. "
                "Lower the learning rate."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what an interruption must not lose."""
        return {"left_out": [one.model_dump() for one in self.left_out], "factor": self.factor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.left_out = [LeftOut(**one) for one in state_dict["left_out"]]
        self.factor = state_dict["factor"]


def _module(module: lightning.LightningModule) -> ObjectiveModule:
    assert isinstance(module, ObjectiveModule)
    return module


def _nonfinite(model: nn.Module, what: str) -> str:
    """Return in words which of the weights and buffers, or of the gradients, is not finite; "" where all are."""
    if what == "gradient":
        named = [(name, parameter.grad) for name, parameter in model.named_parameters()]
    else:
        named = [*model.named_parameters(), *model.named_buffers()]
    present = [(name, t.detach()) for name, t in named if t is not None and t.is_floating_point() and t.numel()]
    if not present:
        return ""
    largest = torch.stack([tensor.abs().max().double() for _, tensor in present])  # one look at the device
    finite = largest.isfinite().tolist()
    first = next((name for (name, _), fine in zip(present, finite, strict=True) if not fine), None)
    return "" if first is None else f"the {what} of {first} is not finite"
