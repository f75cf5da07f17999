"""`metrics.csv`: every term that is logged, with its step and epoch."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from meseta.files import write_text


class MetricsFile(Logger):
    """Keeps what is logged at one step as one row of a file that is always whole.

    In place of Lightning's CSV logger, which drops what an interrupted training had written. What goes on logs the same
    steps again, with the same values.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._rows: dict[int, dict[str, Any]] = {}
        if path.exists():
            with path.open(encoding="utf-8", newline="") as file:
                self._rows = {int(row["step"]): {k: v for k, v in row.items() if v} for row in csv.DictReader(file)}

    @property
    def name(self) -> str:
        """The name that Lightning asks for."""
        return "metrics"

    @property
    def version(self) -> str:
        """The version that Lightning asks for."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: they stand in `config.yaml`."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take what was logged at a step."""
        row = self._rows.setdefault(step or 0, {"step": step or 0})
        row.update(metrics)

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        names = sorted({name for row in self._rows.values() for name in row} - {"step"})
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows[step] for step in sorted(self._rows))
        write_text(self._path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file when training ends, in whatever way."""
        if self._rows:
            self.save()
