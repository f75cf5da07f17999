"""The Lightning module around one objective."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from meseta.attacks.base import misclassified
from meseta.autodiff.scalar_fields import CrossEntropy
from meseta.data import augment
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
        self.nonfinite = ""
        """In words what of this process's last loss is not finite; "" where it is."""

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> ObjectiveValue:
        """Return the objective on a batch, with its settings as they are at this point of training."""
        return self._objective_now()(self.model, x, y, generator=generator)

    def _objective_now(self) -> Objective:
        """Return the objective as it is at the middle of this step; with its full settings outside a trainer."""
        if self._trainer is None:
            return self.objective
        return self.objective.at((self.global_step + 0.5) / max(1, int(self.trainer.estimated_stepping_batches)))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> dict[str, Any]:
        """Return the loss of one step and the means of its terms over the batches of all processes, and log them.

        The processes' gradients are averaged, so each loss counts by its share of the examples.
        """
        x, y = batch
        world = self.trainer.world_size
        seed = step_seed(self._seed, self.global_step, self.global_rank, world)
        torch.manual_seed(seed)  # of dropout, and whatever else draws from torch's own generator
        generator = torch.Generator(x.device).manual_seed(seed)
        if self._augmentation != "none":
            x = augment(x, flip=self._augmentation == "crop_flip", generator=generator)
        value: ObjectiveValue = self(x, y, generator)
        self.nonfinite = nonfinite(value)
        n, means = self._over_all(value, len(y))
        terms = {f"train/{name}": mean for name, mean in means.items()}
        self.log_dict(terms, on_step=True, on_epoch=False, batch_size=n)
        return {"loss": value.total if world == 1 else value.total * (world * len(y) / n), "terms": terms, "n": n}

    def _over_all(self, value: ObjectiveValue, n: int) -> tuple[int, dict[str, Tensor]]:
        """Return the number of examples of all processes, and the means of total and terms over them."""
        parts = {"total": value.total.detach() * n, **{name: term.sum() for name, term in value.terms.items()}}
        counts = [n, *(len(term) for term in value.terms.values())]
        if self.trainer.world_size == 1:
            return n, {name: part / count for (name, part), count in zip(parts.items(), counts, strict=True)}
        numbers = [*parts.values(), *torch.tensor(counts).to(value.total.device)]
        sums = self.trainer.strategy.reduce(torch.stack([n.double() for n in numbers]), reduce_op="sum")
        totals, over = sums.split(len(parts))
        return int(over[0]), dict(zip(parts, totals / over, strict=True))

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Log clean loss and accuracy on the validation split."""
        x, y = batch
        logits = self.model(x)
        loss = CrossEntropy().of_logits(logits, y).mean()
        accuracy = 1 - misclassified(logits, y).float().mean()
        self.log_dict(
            {"val/cross_entropy": loss, "val/accuracy": accuracy},
            prog_bar=True,
            batch_size=len(y),
            sync_dist=self.trainer.world_size > 1,
        )

    def configure_optimizers(self) -> Any:
        """Return optimiser and per-step schedule."""
        optimizer = self._optimizer.build(self.model.parameters())
        total = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self._schedule.factor(min(step / total, 1.0))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def nonfinite(value: ObjectiveValue) -> str:
    """Return in words which terms of a loss are not finite; "" where the loss is."""
    if value.total.isfinite():
        return ""
    worst = [name for name, term in value.terms.items() if not term.isfinite().all()]
    return f"the loss is not finite (terms that are not: {', '.join(worst) or 'none alone'})"
