"""The cells of a sweep as trials of an Optuna study, handed out so that each is made once, whoever works on it.

Every cell is queued once, with its number, before anybody works: a grid's with its settings, those of tpe without,
which are sampled when the cell is claimed. Claims take place under a file lock, because Optuna's own are not atomic on
SQLite: of 100 queued trials four processes took 13 twice. Databases of many machines lock the row of a trial as well.

Whoever works on a cell holds the cell's file lock, which the kernel frees when the process ends, however it ends. On a
database it tells that it lives every so many seconds instead (Optuna's heartbeat), since locks do not reach other
machines. The trial of a dead worker fails, and its cell is queued again with the same settings.
"""

import random
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from meseta.configuration import dump, plain
from meseta.errors import UserError
from meseta.files import check_folder
from meseta.sweeping.config import Range, SweepConfig, Value

HEARTBEAT, GRACE = 30, 120
"""Seconds between two signs of life beside a database, and without one until a worker counts as dead."""
CELL, BEGUN, FOUND, SWEEP = "cell", "begun", "found", "sweep"
"""Names of attributes: a trial's cell, whether work on it began, what was found; the settings of a study."""


class Queue:
    """The cells of a sweep, shared by processes and machines.

    Raises:
        UserError: the storage cannot be used, or holds a sweep of this name with other settings.
    """

    def __init__(self, config: SweepConfig) -> None:
        self.config = config
        self._distributions = _distributions(config)
        self._locks = config.folder / "locks"
        check_folder(self._locks)
        is_new = not config.folder.exists()
        if not is_new and not self._locks.exists() and any(config.folder.iterdir()):
            raise UserError(
                f"output folder: {config.folder} holds something else than a sweep. Give another name or out."
            )
        self._locks.mkdir(parents=True, exist_ok=True)
        self.locked = FileLock(self._locks / "sweep.lock")
        with self._leaving_nothing(is_new), self.locked, _quiet():
            self._storage = _storage(config)
            self._study = optuna.create_study(
                study_name=config.name, storage=self._storage, direction="maximize", load_if_exists=True
            )
            self._check_same()
            self._fill()

    @contextmanager
    def _leaving_nothing(self, is_new: bool) -> Iterator[None]:
        """Remove a folder that was made for a sweep which cannot be; name a storage that is damaged."""
        try:
            yield
        except (SQLAlchemyError, ValueError, KeyError) as error:
            if is_new:
                rmtree(self.config.folder)
            if isinstance(error, UserError):
                raise
            told = str(error).strip().split("\n")[0]
            where = self.config.storage if "://" in (self.config.storage or "") else _file(self.config)
            raise UserError(f"`storage`: {where} is damaged, or of another program: {told}.") from None

    def trials(self) -> dict[int, list[FrozenTrial]]:
        """Return the trials of every cell, the one that stands for it last."""
        found: dict[int, list[FrozenTrial]] = {}
        for trial in sorted(self._study.get_trials(deepcopy=False), key=_standing):
            found.setdefault(trial.user_attrs[CELL], []).append(trial)
        return dict(sorted(found.items()))

    def left(self) -> int:
        """Return how many cells are not finished."""
        return sum(
            trials[-1].state not in (TrialState.COMPLETE, TrialState.PRUNED) for trials in self.trials().values()
        )

    def claim(self) -> "Claim | None":
        """Return a cell that nobody works on; None where there is none at the moment."""
        with self.locked, _quiet():
            self._fail_dead()
            self._fill()
            for waiting in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                number = waiting.user_attrs[CELL]
                if not self._start(waiting):
                    continue
                if self.trials()[number][-1].number != waiting.number:  # two machines queued it at once
                    self.tell(waiting.number, TrialState.FAIL)
                    continue
                lock = FileLock(self._lock_of(number))
                with suppress(Timeout, UpdateFinishedTrialError):  # somebody was taken for dead: another, or we
                    lock.acquire(timeout=0)
                    return self._begin(waiting, number, lock)
        return None

    def _begin(self, waiting: FrozenTrial, number: int, lock: FileLock) -> "Claim":
        """Choose the settings that a cell does not have yet."""
        self._study.sampler = _sampler(self.config, number)
        trial = optuna.trial.Trial(self._study, waiting._trial_id)
        settings = {name: _suggest(trial, name, one) for name, one in self._distributions.items()}
        trial.set_user_attr(BEGUN, True)
        return Claim(self, trial, number, settings, lock)

    def _check_same(self) -> None:
        """Raise where the study is of another sweep; what it holds may be continued with more trials and workers."""
        known = self._study.user_attrs.get(SWEEP)
        if known is None:
            self._study.set_user_attr(SWEEP, _essence(self.config))
            return
        if known != _essence(self.config):
            raise UserError(
                f"`name`: the storage already holds a sweep {self.config.name!r} with other settings. "
                "Give another name, or those settings."
            )

    def _fill(self) -> None:
        """Queue every cell for which no trial stands: all of them at first, later those whose workers died."""
        known = self.trials()
        cells = self.config.grid() if self.config.search == "grid" else [{}] * self.config.count()
        more = max(0, max(known, default=0) - len(cells))  # of a call that asked for more
        beyond: list[dict[str, Value]] = [{}] * more
        for number, settings in enumerate([*cells, *beyond], 1):
            former = known[number][-1] if number in known else None
            if former is None or not _stands(former):
                self._study.add_trial(
                    create_trial(
                        state=TrialState.WAITING,
                        params=former.params if former else settings,
                        distributions=former.distributions if former else {n: self._distributions[n] for n in settings},
                        user_attrs={CELL: number},
                    )
                )

    def _fail_dead(self) -> None:
        """Let the trials of dead workers fail."""
        if isinstance(self._storage, RDBStorage) and self._storage.heartbeat_interval:
            optuna.storages.fail_stale_trials(self._study)
            return
        for running in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            with suppress(Timeout), FileLock(self._lock_of(running.user_attrs[CELL]), timeout=0):
                self.tell(running.number, TrialState.FAIL)

    def _start(self, waiting: FrozenTrial) -> bool:
        """Return whether a queued trial is ours from now on."""
        self.beat(waiting._trial_id)  # before it runs: a trial without any sign of life would never count as dead
        with suppress(UpdateFinishedTrialError):
            return self._storage.set_trial_state_values(waiting._trial_id, state=TrialState.RUNNING)
        return False

    def beat(self, trial_id: int) -> int | None:
        """Tell that a trial's worker lives; return after how many seconds to do so again, None where nobody asks."""
        if not isinstance(self._storage, RDBStorage) or not self._storage.heartbeat_interval:
            return None
        self._storage.record_heartbeat(trial_id)
        return self._storage.heartbeat_interval

    def tell(self, trial: optuna.Trial | int, state: TrialState, value: float | None = None) -> None:
        """End a trial, unless others took its worker for dead and ended it."""
        self._study.tell(trial, value, state=state, skip_if_finished=True)

    def _lock_of(self, number: int) -> str:
        return str(self._locks / f"cell-{number:03d}.lock")


class Claim:
    """A cell that this process alone works on until the block ends; a cell that was not ended then is given back."""

    def __init__(
        self, queue: Queue, trial: optuna.Trial, number: int, settings: dict[str, Value], lock: FileLock
    ) -> None:
        self.number = number
        self.settings = settings
        self._queue = queue
        self._trial = trial
        self._lock = lock
        self._ended = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._lock.release)
        self._stack.enter_context(self._alive())
        return self

    def finish(self, found: Mapping[str, Any], goal: float | None, violations: Mapping[str, float]) -> None:
        """Keep what was found at the cell.

        Args:
            found: plain entries.
            goal: what is to be large; None for a cell that came to nothing.
            violations: by how much each constraint is missed; 0 or less where it is met.
        """
        self._ended = True
        with self._queue.locked, _quiet(), suppress(UpdateFinishedTrialError):  # where we were taken for dead
            self._trial.set_user_attr(FOUND, dict(found))
            for name, violation in violations.items():
                if name not in self._trial.constraints:
                    self._trial.set_constraint(name, violation)
            state = TrialState.PRUNED if goal is None else TrialState.COMPLETE
            self._queue.tell(self._trial, state, goal)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._stack:
            if not self._ended:
                with self._queue.locked:
                    self._queue.tell(self._trial, TrialState.FAIL)

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Tell that this process lives, again and again, where somebody asks."""
        interval = self._queue.beat(self._trial._trial_id)
        if interval is None:
            yield
            return
        ended = Event()

        def beat() -> None:
            while not ended.wait(interval):
                with suppress(StorageInternalError, SQLAlchemyError):  # the database may be back before the next
                    self._queue.beat(self._trial._trial_id)

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _stands(trial: FrozenTrial) -> bool:
    """Return whether a trial stands for its cell: one that failed has lost its worker."""
    return trial.state != TrialState.FAIL


def _standing(trial: FrozenTrial) -> tuple[bool, int]:
    """Return the place of a trial among those of its cell: last the first one queued of those that stand."""
    return (True, -trial.number) if _stands(trial) else (False, trial.number)


def _essence(config: SweepConfig) -> str:
    """Return the settings without those that may change from one call to the next."""
    free = {"out", "storage", "workers"} | ({"trials"} if config.search == "tpe" else set())
    return dump({name: value for name, value in plain(config).items() if name not in free})


def _storage(config: SweepConfig) -> RDBStorage | JournalStorage:
    """Open the storage, which is made where there is none."""
    file = _file(config)
    if file.exists() and not file.is_file():
        raise UserError(f"`storage`: {file} is no regular file. Move it away.")
    if config.storage is None:
        return RDBStorage(f"sqlite:///{file.absolute()}")
    if config.storage == "journal":
        return JournalStorage(JournalFileBackend(str(file)))
    try:
        try:
            return _database(config.storage)
        except DatabaseError:  # as where two machines make the tables at once; the second time they are there
            time.sleep(1)
            return _database(config.storage)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        told = str(error.__cause__ or error).strip().split("\n")[0]
        raise UserError(f"`storage`: the database cannot be used: {told}. Is it there, and its driver?") from None


def _file(config: SweepConfig) -> Path:
    """Return the file of a storage that is no database of others."""
    return config.folder / ("sweep.journal" if config.storage == "journal" else "sweep.db")


def _database(url: str) -> RDBStorage:
    return RDBStorage(url, heartbeat_interval=HEARTBEAT, grace_period=GRACE)


def _distributions(config: SweepConfig) -> dict[str, BaseDistribution]:
    """Return what Optuna is told of each option; a grid's ranges are the values that they stand for."""
    made: dict[str, BaseDistribution] = {}
    for name, option in config.options().items():
        if not isinstance(option, Range) or config.search == "grid":
            made[name] = CategoricalDistribution(config.points(name, option))
        elif config.is_whole(name):
            made[name] = IntDistribution(int(option.low), int(option.high), log=option.log)
        else:
            made[name] = FloatDistribution(option.low, option.high, log=option.log)
    return made


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Value:
    """Return a trial's value of an option: the one that it has, or else a new one."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
    assert isinstance(distribution, FloatDistribution)
    return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


def _sampler(config: SweepConfig, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of one cell, with a seed of its own: workers with a common one would try the same."""
    seed = random.Random(f"{config.seed} {number}").getrandbits(32)
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's news of studies and of experimental parts out of the way; warnings still show."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
