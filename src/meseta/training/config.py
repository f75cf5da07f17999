"""What a training run is: the fields of its configuration file."""

from dataclasses import dataclass
from typing import Literal, get_args

from meseta.checks import at_least, one_of, whole
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.models import Architecture, SiluCnn
from meseta.objectives import Erm, Objective
from meseta.objectives.weights import has_weight
from meseta.schedules import Constant, Schedule
from meseta.training.optimizers import Adam, Optimizer
from meseta.training.watch import Watch

Augmentation = Literal["none", "crop", "crop_flip"]
Precision = Literal["float32", "bfloat16", "float64"]
OnDivergence = Literal["stop", "skip", "lower"]


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
        precision: "float32", "float64", or "bfloat16": forwards and exact derivatives under autocast, all else in
            float32. Weights are saved in float32.
        divergence: what happens where the loss or a gradient is not finite. "stop" ends the training; "skip" leaves the
            step out; "lower" does too, and halves the weights of all penalties from there on. The record tells.
        accelerator: "auto" (the GPU if there is one), "cpu" or "gpu".
        devices: how many of them on each machine, one process each; `batch_size` is that of all of them together.
        nodes: machines.
        checkpoint_seconds: at most so many seconds of training, and one step, are lost where it is interrupted; a
            checkpoint is written at the end of each epoch anyway.
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
    precision: Precision = "float32"
    divergence: OnDivergence = "stop"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    checkpoint_seconds: float = 300.0
    watch: Watch | None = None

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("batch_size", self.batch_size, 1)
        whole("seed", self.seed, 0)
        whole("devices", self.devices, 1)
        whole("nodes", self.nodes, 1)
        at_least("checkpoint_seconds", self.checkpoint_seconds, 0)
        one_of("augment", self.augment, get_args(Augmentation))
        one_of("precision", self.precision, get_args(Precision))
        one_of("divergence", self.divergence, get_args(OnDivergence))
        one_of("accelerator", self.accelerator, ("auto", "cpu", "gpu"))
        if self.divergence == "lower" and not has_weight(self.objective):
            raise UserError(
                f"`divergence`: lower halves the weights of penalties, and {type(self.objective).__name__} has none. "
                "Use skip or stop."
            )
        if self.processes > self.batch_size:
            raise UserError(
                f"`batch_size` is that of all processes together, and {self.batch_size} leaves some of "
                f"{self.processes} without an example. Give a larger one."
            )
        if self.model is not None and self.start_from is not None:
            raise UserError("`model` and `start_from` exclude each other: saved weights bring their architecture.")
        if self.name is not None and (self.name in ("", ".", "..") or set(self.name) & set('/\\:*?"<>|\0')):
            raise UserError(f"`name` must be a plain folder name, got {self.name!r}.")

    @property
    def processes(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes

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
