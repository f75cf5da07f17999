"""Curves over the epochs of runs that were watched while they were trained."""

import shlex
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.papers.attacked import spelled
from meseta.papers.base import PaperFigure
from meseta.report.curves import Logged, logged_by
from meseta.training import Watch
from meseta.workflow import Run


@dataclass(frozen=True, kw_only=True)
class WatchedFigure(PaperFigure):
    """A figure over the epochs of runs that were watched: what they lack only training again can give."""

    @property
    @abstractmethod
    def watch(self) -> Watch:
        """What to train with."""

    @abstractmethod
    def is_drawn(self, one: Logged) -> bool:
        """Return whether this is drawn; each run must have some of it."""

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Raise unless all runs were watched.

        Raises:
            UserError: names those that were not, and the command that trains them again.
        """
        self.check_watched([run.record for run in runs], [run.folder for run in runs])

    def check_watched(self, records: Sequence[Record], folders: Sequence[Path] = ()) -> None:
        """Raise unless each record has some of what is drawn; `folders` are the runs' where they are known."""
        lacking = [i for i, record in enumerate(records) if not any(map(self.is_drawn, logged_by([record])))]
        if not lacking:
            return
        names = list(dict.fromkeys(records[i].name for i in lacking))
        known = list(dict.fromkeys(folders[i] for i in lacking)) if folders else []
        run = " or ".join(map(str, known)) or "its folder"
        config, name, where = "RUN/config.yaml", "NAME", f", where RUN is {run} and NAME a new name"
        if len(known) == 1:
            config, name, where = str(known[0] / "config.yaml"), f"{known[0].name}-watched", ""
        raise UserError(
            f"record: {', '.join(names)} {'has' if len(names) == 1 else 'have'} no history of what is drawn, which is "
            f"logged in training alone. Train again with a watch{where}: meseta train --config {shlex.quote(config)} "
            f"--name {shlex.quote(name)} {options(self.watch)}"
        )


def shared(records: Sequence[Record], wanted: Callable[[Logged], bool]) -> list[Logged]:
    """Return what is wanted of the records' histories, as far as all records have it.

    Raises:
        UserError: records that have nothing of it in common.
    """
    found = [[one for one in logged_by([record]) if wanted(one)] for record in records]
    common = [one for one in found[0] if all(one in names for names in found)]
    if not common:
        each = "; ".join(f"{r.name}: {', '.join(map(str, names))}" for r, names in zip(records, found, strict=True))
        raise UserError(f"records: the runs were watched with different settings, {each}. Watch them alike.")
    return common


def options(watch: Watch) -> str:
    """Return the options of `meseta train` that make this watch."""
    parts = [f"--watch.splits '[{', '.join(watch.splits)}]'"]
    if watch.every != 1:
        parts.insert(0, f"--watch.every {watch.every}")
    parts.append(f"--watch.attacks '{spelled(watch.attacks)}'")
    if watch.objectives:
        parts.append(f"--watch.objectives '{spelled(watch.objectives)}'")
    return " ".join(parts)
