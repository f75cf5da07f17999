"""The Lightning module around one objective."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from meseta.attacks.base import misclassified
from meseta.autodiff.scalar_fields import CrossEntropy
from meseta.data import augment
from meseta.errors import Diverged
from meseta.objectives.base import Objective, ObjectiveValue
from meseta.schedules import Schedule
from meseta.training.config import Augmentation
from meseta.training.optimizers import Optimizer


def step_seed(seed: int, step: int, process: int = 0, processes: int = 1) -> int:
    """Return the seed of one step's randomness in one process, another for every step and process."""
    return seed + 1_000_003 * (step * processes + process + 1)


class ObjectiveModule(lightning.LightningModule):
    """Model and objective as one module whose forward returns the loss.

    One module, because a double backward is right under DistributedDataParallel only where the whole objective runs
    inside the forward that DDP wraps. All randomness of a step comes from a generator seeded by (seed, step, process),
    so that a step does not depend on how training arrived at it.

    Args:
        model: inputs to logits.
        objective: what is minimised.
        optimizer: optimiser settings.
        schedule: learning rate over training, updated every step.
        augmentation: "none", "crop" or "crop_flip", of training batches.
        seed: of augmentation and objective.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        augmentation: Augmentation = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._optimizer, self._schedule = optimizer, schedule
        self._augmentation, self._seed = augmentation, seed

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> ObjectiveValue:
        """Return the objective on a batch, with its settings as they are at this point of training."""
        return self._objective_now()(self.model, x, y, generator=generator)

    def _objective_now(self) -> Objective:
        """Return the objective as it is at the middle of this step; with its full settings outside a trainer."""
        if self._trainer is None:
            return self.objective
        return self.objective.at((self.global_step + 0.5) / max(1, int(self.trainer.estimated_stepping_batches)))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> dict[str, Any]:
        """Return the loss of one step and the means of its terms, and log them."""
        x, y = batch
        seed = step_seed(self._seed, self.global_step, self.global_rank, self.trainer.world_size)
        generator = torch.Generator(x.device).manual_seed(seed)
        if self._augmentation != "none":
            x = augment(x, flip=self._augmentation == "crop_flip", generator=generator)
        value: ObjectiveValue = self(x, y, generator)
        if not value.total.isfinite():
            worst = [name for name, term in value.terms.items() if not term.isfinite().all()]
            raise Diverged(
                f"objective: the loss is not finite at step {self.global_step} (terms that are not: "
                f"{', '.join(worst) or 'none alone'}). Lower the weight or the learning rate."
            )
        terms = {f"train/{name}": term.mean() for name, term in value.terms.items()}
        terms = {"train/total": value.total.detach(), **terms}
        self.log_dict(terms, on_step=True, on_epoch=False, batch_size=len(y))
        return {"loss": value.total, "terms": terms}

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log clean loss and accuracy on the validation split."""
        x, y = batch
        logits = self.model(x)
        loss = CrossEntropy().of_logits(logits, y).mean()
        accuracy = 1 - misclassified(logits, y).float().mean()
        self.log_dict({"val/cross_entropy": loss, "val/accuracy": accuracy}, prog_bar=True, batch_size=len(y))

    def configure_optimizers(self) -> Any:
        """Return optimiser and per-step schedule."""
        optimizer = self._optimizer.build(self.model.parameters())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self._schedule.factor(min(step / total, 1.0))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
