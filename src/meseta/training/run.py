"""Train one run and write its folder."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from statistics import median
from time import perf_counter
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from meseta.configuration import dump, plain
from meseta.data import ImageData, loader
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.record import Record, Training, write_record
from meseta.files import check_new_folder, write_text
from meseta.models import Network
from meseta.training.config import RunConfig
from meseta.training.history import History
from meseta.training.module import ObjectiveModule


def train(config: RunConfig, *, progress: bool = False) -> Path:
    """Train one run and return its folder.

    The folder holds `config.yaml` (resolved), `metrics.csv` and `tensorboard/` (every term), `checkpoints/last.ckpt`,
    `model.safetensors` and `config.json` (for `Network.from_pretrained`), and last of all `record.json`: a folder with
    a record is a finished run. Data, weights and settings are checked before the folder is made.

    Args:
        config: the run.
        progress: show a progress bar.

    Raises:
        UserError: data or weights missing, a folder that already holds a run, a loss that is not finite.
    """
    folder = Path(config.out) / config.run_name
    check_new_folder(folder)
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("`accelerator`: gpu was asked for, and torch sees none. Use cpu or auto.")
    data = config.data.load()
    if config.augment != "none" and len(data.input_shape) != 3:
        raise UserError(
            f"`augment`: {config.augment} needs images, the data has inputs of shape {data.input_shape}. Use none."
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = _network(config, data)
        if config.watch:
            config.watch.check(network, data)
        module = ObjectiveModule(
            network,
            config.objective,
            config.optimizer,
            config.schedule,
            augmentation=config.augment,
            seed=config.seed,
        )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_text(folder / "config.yaml", dump(config))
            clock, history, metrics = _fit(module, config, data, folder, progress)
        except BaseException:
            if not (folder / "checkpoints" / "last.ckpt").exists():  # nothing worth keeping, so nothing is left
                rmtree(folder)
            raise
    network.eval().cpu().save_pretrained(folder)
    section = Training(
        provenance=clock.stop(),
        objective=repr(config.objective),
        epochs=config.epochs,
        steps=clock.steps,
        parameters=sum(p.numel() for p in network.parameters()),
        examples=len(data.train),
        seconds_per_epoch=round(clock.seconds_per_epoch, 4),
        metrics=metrics,
        history=history,
    )
    write_record(
        Record(
            name=config.run_name,
            model=repr(network.architecture),
            data=data.describe(),
            config=plain(config),
            training=section,
        ),
        folder / "record.json",
    )
    return folder


def _network(config: RunConfig, data: ImageData) -> Network:
    if config.start_from is None:
        return config.architecture.build(data.input_shape, data.num_classes, mean=data.mean, std=data.std)
    network = Network.from_pretrained(config.start_from)
    if (network.input_shape, network.classes) != (data.input_shape, data.num_classes):
        raise UserError(
            f"`start_from`: {config.start_from} takes inputs of {network.input_shape} and {network.classes} classes, "
            f"the data has {data.input_shape} and {data.num_classes}."
        )
    return network


def _fit(
    module: ObjectiveModule, config: RunConfig, data: ImageData, folder: Path, progress: bool
) -> tuple["_Clock", dict[str, list[float | None]], dict[str, float | None]]:
    clock = _Clock(config)
    history = History(config.watch, module.model, data, batch_size=config.batch_size, seed=config.seed)
    with _quiet():
        trainer = lightning.Trainer(
            max_epochs=config.epochs,
            accelerator=config.accelerator,
            devices=1,
            logger=[
                CSVLogger(folder, name="", version="csv"),
                TensorBoardLogger(folder, name="", version="tensorboard"),
            ],
            callbacks=[clock, history, ModelCheckpoint(folder / "checkpoints", "last", enable_version_counter=False)],
            enable_progress_bar=progress,
            enable_model_summary=False,
            inference_mode=False,  # objectives and measures need input gradients everywhere
            log_every_n_steps=max(1, min(50, len(data.train) // config.batch_size)),
            num_sanity_val_steps=0,
        )
        order = torch.Generator().manual_seed(config.seed)
        try:
            trainer.fit(
                module,
                loader(data.train, config.batch_size, shuffle=True, generator=order),
                loader(data.val, max(config.batch_size, 256)),
            )
        finally:
            _keep_metrics(folder)
    return clock, history.by_name(), _finite(trainer.callback_metrics)


class _Clock(Callback):
    """Times training steps alone: no validation, no logging, no checkpoints."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._times: list[float] = []
        self._began = 0.0

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the provenance of the run."""
        self.stop = provenance.start(self._config.seed, pl_module.device)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start a step."""
        self._began = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """End a step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._times.append(perf_counter() - self._began)

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self._times)

    @property
    def seconds_per_epoch(self) -> float:
        """Median step time times steps per epoch: a shared machine's pauses do not count."""
        return median(self._times) * self.steps / self._config.epochs


def _keep_metrics(folder: Path) -> None:
    """Move Lightning's CSV to where the run keeps it."""
    if (folder / "csv" / "metrics.csv").exists():
        (folder / "csv" / "metrics.csv").replace(folder / "metrics.csv")
    rmtree(folder / "csv", ignore_errors=True)


def _finite(metrics: Mapping[str, torch.Tensor]) -> dict[str, float | None]:
    return {name: float(value) if torch.isfinite(value) else None for name, value in metrics.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice on workers and accelerators out of the way; errors still show."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
