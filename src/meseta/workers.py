"""Workers: further processes on this machine, started for one task, each of which tells how far it is."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import Any, Self

import torch

from meseta.errors import UserError

Progress = Callable[[float], object]
Task = Callable[..., object]
"""Called as task(*arguments, device=..., shard=(i, m), progress=...)."""


class Workers:
    """Processes 1 to m - 1 of m, for a block in which this process does its own share, number 0.

    The threads of torch, and its GPUs where the device is all of them, are divided among the processes. Leaving the
    block waits for all of them; an exception inside ends them.

    Args:
        m: how many processes share the task, with this one.
        device: of this process; "cuda" without a number for one GPU each.
        task: what each of them does; it must be importable, and its arguments picklable.
        arguments: of the task.
    """

    def __init__(self, m: int, device: torch.device, task: Task, *arguments: object) -> None:
        context = torch.multiprocessing.get_context("spawn")
        self._threads = torch.get_num_threads()
        self._share = max(1, self._threads // m)
        self._queue: Any = context.Queue()
        self._workers = [
            context.Process(
                target=_work,
                args=(task, arguments, _device(device, i), (i, m), self._share, os.getpid(), self._queue),
            )
            for i in range(1, m)
        ]
        self._progress: Progress = lambda done: None

    def __enter__(self) -> Self:
        torch.set_num_threads(self._share)
        return self

    def start(self) -> None:
        """Start them."""
        for worker in self._workers:
            worker.start()

    def watched(self, progress: Progress | None) -> Progress:
        """Return a function to call with this process's progress, which passes on everybody's."""
        self._progress = progress or self._progress

        def advance(done: float) -> None:
            self._progress(done)
            self._drain()

        return advance

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        torch.set_num_threads(self._threads)
        started = [worker for worker in self._workers if worker.pid is not None]
        if kind is not None:
            for worker in started:
                worker.terminate()
        for worker in started:
            while worker.is_alive():
                self._drain()  # a full queue would keep it from ending
                worker.join(0.1)
        self._drain()
        failed = [worker.exitcode for worker in started if worker.exitcode != 0]
        if kind is None and failed:
            raise UserError(
                f"`processes`: {len(failed)} of {len(started) + 1} ended with exit code {failed[0]}. What is finished "
                "is kept: run the same command again, with fewer processes where memory was short."
            )

    def _drain(self) -> None:
        with suppress(Empty):
            while True:
                self._progress(self._queue.get_nowait())


def _device(device: torch.device, i: int) -> str:
    if device.type == "cuda" and device.index is None:
        return f"cuda:{i % torch.cuda.device_count()}"
    return str(device)


def _work(
    task: Task,
    arguments: tuple[object, ...],
    device: str,
    shard: tuple[int, int],
    threads: int,
    parent: int,
    queue: Any,
) -> None:
    def progress(done: float) -> None:
        if os.getppid() != parent:
            sys.exit("meseta: the process that this one worked for has ended")
        queue.put(done)

    torch.set_num_threads(threads)
    try:
        task(*arguments, device=device, shard=shard, progress=progress)
    except UserError as error:
        sys.exit(f"meseta: error: {error}")
