"""Processes, on one machine or several, that share a task."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from meseta.errors import MissingExtra, UserError

TIMEOUT = timedelta(hours=2)
"""How long processes wait for one another: while one looks at an epoch, or checks for masking, the others do."""


@dataclass(frozen=True)
class Team:
    """This process among those that share a task; alone unless `join` says otherwise.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        wait: returns when all of them have called it.
    """

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = lambda: None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0


def join(devices: int, nodes: int, device: str | None) -> tuple[Team, str | None]:
    """Return the team of this process and its device, after Lightning has started the others.

    On one machine Lightning runs the same program again, with the same arguments, for each further process. Under
    `torchrun` and SLURM, and on several machines, they are started already, and only meet here.

    Args:
        devices: processes on each machine; each has a GPU of its own, where there are any.
        nodes: machines.
        device: "cpu" to leave the GPUs alone, or None; with one process whatever it is called.

    Raises:
        UserError: a device by its number, fewer devices than asked for, or another number of processes already started.
    """
    from meseta.checks import whole  # which needs torch, and `rank` must not

    whole("devices", devices, 1)
    whole("nodes", nodes, 1)
    check_world(devices, nodes)
    if devices * nodes == 1:
        return Team(), device
    if device not in (None, "cpu", "cuda"):
        raise UserError(
            f"`device`: {device} is one device, and {devices * nodes} processes need one each. Leave it out."
        )
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.strategies.ddp import DDPStrategy
    except ModuleNotFoundError as error:
        raise MissingExtra(str(error.name), "train") from None
    accelerator = {None: "auto", "cpu": "cpu", "cuda": "gpu"}[device]
    with refused_devices():
        strategy = DDPStrategy(timeout=TIMEOUT)
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()

    def wait() -> None:
        try:
            fabric.barrier()
        except RuntimeError as error:
            raise another_ended(error) from None

    return Team(fabric.global_rank, fabric.world_size, wait), str(fabric.device)


def rank() -> int:
    """Return the number of this process among those that Lightning, torchrun or SLURM has started together."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    return int(os.environ.get("LOCAL_RANK", 0)) or int(os.environ.get("NODE_RANK", 0))


@contextmanager
def refused_devices() -> Iterator[None]:
    """Let what Lightning says of missing devices, or of an environment that does not fit, name the option."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise UserError(f"`devices`: {' '.join(str(error).split())}") from None


def check_world(devices: int, nodes: int) -> None:
    """Raise where torchrun or SLURM's srun has started another number of processes than is asked for."""
    who, started = "", 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        who, started = "torchrun", int(os.environ.get("WORLD_SIZE", 1))
    elif os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        who, started = "srun", int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if started != devices * nodes and (started > 1 or who == "torchrun"):
        raise UserError(
            f"`devices`: {who} has started {started} processes, and --devices {devices} --nodes {nodes} asks for "
            f"{devices * nodes}. Give both the same."
        )


def another_ended(error: RuntimeError) -> UserError:
    """Return what to tell the user where a process waits for one that has ended; raise any other error."""
    lost = ("gloo", "Connection closed", "Connection reset", "NCCL", "Broken pipe")
    if not any(sign in str(error) for sign in lost):
        raise error
    return UserError(
        "`devices`: another of the processes has ended. What is finished is kept: run the same command again."
    )
