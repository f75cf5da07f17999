"""Train one run and write its folder; go on with one that was interrupted."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import isfinite
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from meseta.configuration import dump, plain, read
from meseta.data import ImageData
from meseta.errors import Diverged, UserError
from meseta.evaluation import provenance
from meseta.evaluation.record import Provenance, Record, Training, write_record
from meseta.files import LOCK, check_folder, locked, remove, remove_unfinished, write_text
from meseta.models import Network
from meseta.processes import TIMEOUT, another_ended, check_world, rank, refused_devices
from meseta.training.checkpoint import LAST, Checkpoint, WholeFiles, check_checkpoint
from meseta.training.config import RunConfig
from meseta.training.divergence import Divergence
from meseta.training.history import History
from meseta.training.metrics import MetricsFile
from meseta.training.module import ObjectiveModule
from meseta.training.order import TrainingBatches, ValidationBatches

PRECISION: dict[str, Literal["32-true", "bf16-mixed", "64-true"]] = {
    "float32": "32-true",
    "bfloat16": "bf16-mixed",
    "float64": "64-true",
}


def train(config: RunConfig, *, progress: bool = False, say: Callable[[str], object] = lambda text: None) -> Path:
    """Train one run and return its folder; go on where a training with the same configuration was interrupted.

    The folder holds `config.yaml` (resolved), `metrics.csv` and `tensorboard/` (every term), `checkpoints/last.ckpt`,
    `model.safetensors` and `config.json` (for `Network.from_pretrained`), and last of all `record.json`: a folder with
    a record is a finished run. Data, weights and settings are checked before the folder is made.

    What goes on ends with bitwise the same weights as what was never interrupted, on a CPU and with as many processes:
    the order of the examples and all randomness follow from the seed and the number of the step.

    With several `devices` or `nodes`, Lightning starts the same program again in the other processes, which return here
    too, once all is trained; see docs/distributed.md.

    Args:
        config: the run.
        progress: show a progress bar.
        say: tells where training goes on.

    Raises:
        UserError: data or weights missing; a folder that holds a finished run, or one with another configuration, or
            that another process is training in.
        Diverged: a loss, gradient or weight that is not finite, with the step, the term and the last good checkpoint.
    """
    folder = Path(config.out) / config.run_name
    check_world(config.devices, config.nodes)
    if rank() == 0:  # which writes into the folder meanwhile
        check_folder(folder)
        check_free(config)
    if config.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("`accelerator`: gpu was asked for, and torch sees none. Use cpu or auto.")
    data = config.data.load()
    if config.augment != "none" and len(data.input_shape) != 3:
        raise UserError(
            f"`augment`: {config.augment} needs images, the data has inputs of shape {data.input_shape}. Use none."
        )
    if len(data.train) < config.processes:
        raise UserError(f"`devices`: {config.processes} processes cannot share {len(data.train)} examples. Use fewer.")
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = _network(config, data)
        if config.watch:
            config.watch.check(network, data)
        training = _Training(config, network, data, folder, progress)
        if not training.leads:
            training.fit()
            return folder
        with locked(folder, "is being trained by another process"):
            check_free(config)  # it may have been finished meanwhile
            for name in MADE:
                remove_unfinished(folder / name)
            if (folder / LAST).exists():
                say(f"going on with {folder}")
            else:
                remove(folder, MADE)  # nothing worth keeping in it
            write_text(folder / "config.yaml", dump(config))
            try:
                training.fit()
            except BaseException:
                if not (folder / LAST).exists():
                    _leave_nothing(folder)
                raise
            network.eval().float().cpu().save_pretrained(folder)
            write_record(training.record(), folder / "record.json")
    return folder


MADE = (
    *("config.yaml", "metrics.csv", "tensorboard", str(LAST), str(LAST.parent), "model.safetensors", "config.json"),
    "record.json",
)
"""What training writes into a run's folder."""


def _leave_nothing(folder: Path) -> None:
    """Remove a run that came to nothing; what others have put beside it stays."""
    remove(folder, MADE)
    (folder / LOCK).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def check_free(config: RunConfig) -> None:
    """Raise where the folder of a run holds a finished one, or an unfinished one with another configuration."""
    folder = Path(config.out) / config.run_name
    if (folder / "record.json").exists():
        raise UserError(
            f"output folder: {folder} already holds a run. Give another name or folder, or remove it first."
        )
    check_same(config)


def check_same(config: RunConfig) -> None:
    """Raise where the folder of a run holds one with another configuration."""
    folder = Path(config.out) / config.run_name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output folder: {folder} is a file. Give another folder.")
    # what an interruption leaves while the configuration is written
    if not folder.exists() or all(file.name == LOCK or file.match(".config.yaml.*.yaml") for file in folder.iterdir()):
        return
    written = folder / "config.yaml"
    finished = (folder / "record.json").exists()
    if not (written.exists() and _says(written, config, finished)):
        raise UserError(
            f"output folder: {folder} already holds a run with another configuration. Give another name or out folder, "
            "or remove it first."
        )


def _says(written: Path, config: RunConfig, finished: bool) -> bool:
    """Return whether a file holds this configuration, or did before a later setting came in."""
    if written.read_text(encoding="utf-8") == dump(config):
        return True
    return _placed(read(RunConfig, written), finished) == _placed(config, finished)


def _placed(config: RunConfig, finished: bool) -> RunConfig:
    """Return a configuration whose paths are whole, which may lie anywhere, and be trained with any machines.

    One that is not finished may go on with another answer to a divergence.
    """
    start_from = config.start_from and str(Path(config.start_from).resolve())
    anywhere = RunConfig()
    return replace(
        config,
        out="",
        start_from=start_from,
        accelerator=anywhere.accelerator,
        devices=anywhere.devices,
        nodes=anywhere.nodes,
        checkpoint_seconds=anywhere.checkpoint_seconds,
        divergence=config.divergence if finished else anywhere.divergence,
    )


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


class _Training:
    """The trainer of a run and what it leaves behind."""

    def __init__(self, config: RunConfig, network: Network, data: ImageData, folder: Path, progress: bool) -> None:
        if config.precision == "float64":
            network.double()  # before a checkpoint is loaded into it, which would round
        self._config, self._network, self._data = config, network, data
        self._module = ObjectiveModule(
            network,
            config.objective,
            config.optimizer,
            config.schedule,
            augmentation=config.augment,
            seed=config.seed,
        )
        self._last = folder / LAST
        self._history = History(config.watch, network, data, batch_size=config.batch_size, seed=config.seed)
        self._clock = _Clock(config)
        self._divergence = Divergence(config.divergence)
        self._checkpoint = Checkpoint(folder, config.checkpoint_seconds)
        with _quiet(), refused_devices():
            self._trainer = lightning.Trainer(
                max_epochs=config.epochs,
                accelerator=config.accelerator,
                devices=config.devices,
                num_nodes=config.nodes,
                strategy=DDPStrategy(timeout=TIMEOUT) if config.processes > 1 else "auto",
                precision=PRECISION[config.precision],
                plugins=[WholeFiles()],
                logger=[MetricsFile(folder / "metrics.csv"), TensorBoardLogger(folder, name="", version="tensorboard")],
                callbacks=[self._clock, self._divergence, self._history, self._checkpoint],
                enable_checkpointing=False,  # ours also resumes inside an epoch
                enable_progress_bar=progress,
                enable_model_summary=False,
                inference_mode=False,  # objectives and measures need input gradients everywhere
                log_every_n_steps=max(1, min(50, len(data.train) // config.batch_size)),
                num_sanity_val_steps=0,
            )

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self._trainer.is_global_zero

    def fit(self) -> None:
        """Train, from the checkpoint on where there is one."""
        trainer, config = self._trainer, self._config
        start = self._last if self._last.exists() else None
        if start:
            check_checkpoint(start, self._module)
        shard = trainer.global_rank, trainer.world_size
        batches = TrainingBatches(
            self._data.train, config.batch_size, seed=config.seed, step=lambda: trainer.global_step, shard=shard
        )
        validation = ValidationBatches(self._data.val, max(config.batch_size, 256), shard=shard)
        try:
            with _quiet():
                trainer.fit(self._module, batches, validation, ckpt_path=start, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        except Diverged as error:
            raise Diverged(f"{error} {self._last_good()}") from None
        except RuntimeError as error:
            raise (another_ended(error) if config.processes > 1 else error) from None

    def _last_good(self) -> str:
        if self._checkpoint.step is None:
            return "No checkpoint was kept yet."
        return f"The last good checkpoint is {self._checkpoint.path}, after {self._checkpoint.step} steps."

    def record(self) -> Record:
        """Return the record of the run."""
        config, clock = self._config, self._clock
        section = Training(
            provenance=clock.provenance(),
            objective=repr(config.objective),
            epochs=config.epochs,
            steps=clock.steps,
            parameters=sum(p.numel() for p in self._network.parameters()),
            examples=len(self._data.train),
            seconds_per_epoch=round(clock.seconds_per_epoch, 4),
            metrics=_finite(self._history.last),
            history=self._history.by_name(),
            precision=config.precision,
            processes=config.processes,
            resumed=clock.resumed,
            left_out=self._divergence.left_out,
            weight_factor=self._divergence.factor,
        )
        return Record(
            name=config.run_name,
            model=repr(self._network.architecture),
            data=self._data.describe(),
            config=plain(config),
            training=section,
        )


class _Clock(Callback):
    """Times training steps alone, over all calls: no validation, no logging, no checkpoints."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._times: list[float] = []
        self._before = 0.0
        self._began = self._step_began = perf_counter()
        self.resumed: list[int] = []
        """The steps at which training went on."""

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the provenance of this call."""
        self._began = perf_counter()
        self._stop = provenance.start(self._config.seed, pl_module.device)
        if self._times:
            self.resumed.append(len(self._times))

    def on_train_batch_start(self, *_: Any) -> None:
        """Start a step."""
        self._step_began = perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """End a step."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._times.append(perf_counter() - self._step_began)

    def state_dict(self) -> dict[str, Any]:
        """Return what an interruption must not lose."""
        seconds = self._before + perf_counter() - self._began
        return {"times": torch.tensor(self._times), "seconds": seconds, "resumed": self.resumed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self._times, self._before = state_dict["times"].tolist(), state_dict["seconds"]
        self.resumed = state_dict["resumed"]

    def provenance(self) -> Provenance:
        """Return the provenance of this call, with the seconds of all."""
        found = self._stop()
        return found.model_copy(update={"seconds": round(found.seconds + self._before, 3)})

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self._times)

    @property
    def seconds_per_epoch(self) -> float:
        """Median step time times steps per epoch: a shared machine's pauses do not count."""
        return median(self._times) * self.steps / self._config.epochs


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in metrics.items()}


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
            warnings.filterwarnings("ignore", message="Grad strides do not match")  # channels last, under DDP
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
