"""What a figure of a paper is: what it needs to know of each run, and how that is drawn."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.report.figure import Figure
from meseta.workflow import Run


@dataclass(frozen=True, kw_only=True)
class PaperFigure(ABC):
    """A figure of a paper, drawn from records; what they lack is measured on the runs first, and kept in them.

    The docstring of each figure says what the paper shows with it, and what differs here.
    """

    least_runs: ClassVar[int] = 1
    """How many runs it needs; 0 for a figure of a formula, which needs none."""

    def take(self, runs: Sequence[Run], say: Callable[[str], object]) -> None:
        """Measure on the runs what is drawn and their records do not hold yet; `say` tells of what takes long."""
        return None

    @abstractmethod
    def draw(self, records: Sequence[Record]) -> Figure:
        """Return the figure from records alone.

        Raises:
            UserError: a record lacks what is drawn; says which command measures it.
        """

    @property
    def key(self) -> str:
        """A name for files: guo-2."""
        return re.sub(r"(?<=\D)(?=\d)", "-", type(self).__name__.lower())

    def check_runs(self, n: int) -> None:
        """Raise unless n runs are what the figure is drawn from."""
        if n < self.least_runs:
            raise UserError(f"`run`: {type(self).__name__} is drawn from {self.least_runs} runs or more, got {n}.")
        if n and not self.least_runs:
            raise UserError(f"`run`: {type(self).__name__} is drawn from a formula, not from runs. Give none.")
