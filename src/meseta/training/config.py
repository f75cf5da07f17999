"""What a training run is: the fields of its configuration file."""

from dataclasses import dataclass
from typing import Literal, get_args

from meseta.checks import whole
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.models import Architecture, SiluCnn
from meseta.objectives import Erm, Objective
from meseta.schedules import Constant, Schedule
from meseta.training.optimizers import Adam, Optimizer
from meseta.training.watch import Watch

Augmentation = Literal["none", "crop", "crop_flip"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run.

    Args:
        name: of the run and its folder; None for data set, model and objective in one word.
        out: folder that run folders are made in.
        data: data set, classes and splits.
        augment: "crop" for random crops with 4 pixels of padding, "crop_flip" with horizontal flips too, or "none".
        model: architecture; None for SiluCnn, or for that of `start_from`.
        start_from: folder or hub id of saved weights to fine-tune; None to train from scratch.
        objective: what is minimised.
        optimizer: optimiser and its settings.
        schedule: learning rate over training.
        epochs: passes over the training split.
        batch_size: examples per step.
        seed: of weights, order, augmentation and attacks; the data split has its own.
        accelerator: "auto" (the GPU if there is one), "cpu" or "gpu".
        watch: what is looked at after every few epochs, for training curves; None for nothing.
    """

    name: str | None = None
    out: str = "runs"
    data: DataConfig = DataConfig()
    augment: Augmentation = "none"
    model: Architecture | None = None
    start_from: str | None = None
    objective: Objective = Erm()
    optimizer: Optimizer = Adam()
    schedule: Schedule = Constant()
    epochs: int = 5
    batch_size: int = 128
    seed: int = 0
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    watch: Watch | None = None

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("batch_size", self.batch_size, 1)
        whole("seed", self.seed, 0)
        if self.augment not in get_args(Augmentation):
            raise UserError(f"`augment` must be none, crop or crop_flip, got {self.augment!r}.")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise UserError(f"`accelerator` must be auto, cpu or gpu, got {self.accelerator!r}.")
        if self.model is not None and self.start_from is not None:
            raise UserError("`model` and `start_from` exclude each other: saved weights bring their architecture.")
        if self.name is not None and (self.name in ("", ".", "..") or set(self.name) & set('/\\:*?"<>|\0')):
            raise UserError(f"`name` must be a plain folder name, got {self.name!r}.")

    @property
    def run_name(self) -> str:
        """The name given, or one made of data set, model and objective."""
        source = self.data.source.rstrip("/").split("/")[-1].removesuffix(".safetensors")
        model = "tuned" if self.start_from else type(self.architecture).__name__
        return self.name or f"{source}-{model}-{type(self.objective).__name__}".lower()

    @property
    def architecture(self) -> Architecture:
        """The architecture to train from scratch."""
        return self.model or SiluCnn()
