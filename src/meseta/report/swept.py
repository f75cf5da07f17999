"""What a sweep found: its cells with their settings and figures, and which of them is best.

Plain pydantic models without torch, as records are, so that pages and tables are written again on any machine.
"""

from pathlib import Path
from typing import Literal

from meseta.errors import UserError
from meseta.evaluation.record import Count, Provenance, Radius, Section, Share, Verdict, parsed_file
from meseta.files import write_text
from meseta.report.comparison import MISSING, NORMS, eps_text, percent, significant
from meseta.report.table import Cell, Column, Table, accuracy_cell

SCHEMA_VERSION = 1
Setting = str | int | float | bool | None
State = Literal["waiting", "under way", "finished", "diverged"]


class Figures(Section):
    """What an evaluation on held-out data says of one cell."""

    provenance: Provenance
    """Of the evaluation; the cell's own record has that of the training too."""
    clean_accuracy: Share
    worst_case: Share
    """At the threat of the sweep."""
    n: Count
    verdict: Verdict | None
    """Of the masking checks; None where nothing was checked."""


class SweptCell(Section):
    """One cell: its settings, and what came of it."""

    number: int
    name: str
    """Of its folder below `cells`."""
    settings: dict[str, Setting]
    """By dotted name; empty while tpe has not chosen them."""
    state: State
    started: Count
    """How many workers began with it: one, and one more for each that ended on the way."""
    found: Figures | None = None
    reason: str = ""
    """Why there are no figures, where training diverged."""


class Swept(Section):
    """Everything that a sweep found so far."""

    schema_version: Literal[1] = 1
    name: str
    search: str
    seed: int
    split: str
    norm: Literal["Linf", "L2", "L1"]
    eps: Radius
    floor: Share | None
    logarithmic: list[str]
    """Options whose ranges count ratios."""
    cells: list[SweptCell]
    provenance: Provenance
    """Of the call that wrote this."""

    def is_feasible(self, cell: SweptCell) -> bool:
        """Return whether a cell may be chosen: accurate enough, and no masking check broke its figures."""
        found = cell.found
        return found is not None and found.verdict != "broken" and found.clean_accuracy >= (self.floor or 0)

    @property
    def best(self) -> SweptCell | None:
        """The feasible cell with the largest worst-case accuracy, of several the most accurate, then the first."""
        feasible = [(cell.found, cell) for cell in self.cells if cell.found and self.is_feasible(cell)]
        ranked = [(found.worst_case, found.clean_accuracy, -cell.number, cell) for found, cell in feasible]
        return max(ranked, key=lambda one: one[:3])[-1] if ranked else None

    @property
    def threat(self) -> str:
        """The threat in words."""
        return f"{NORMS[self.norm]} {eps_text(self.norm, self.eps)}"

    @property
    def options(self) -> list[str]:
        """The dotted names of what was varied."""
        return list(dict.fromkeys(name for cell in self.cells for name in cell.settings))


def read_swept(file: Path) -> Swept:
    """Read what a sweep found.

    Raises:
        UserError: no such file, not JSON, another schema version, or fields that do not fit the schema.
    """
    if not file.exists():
        raise UserError(f"sweep: {file} does not exist. Give the sweep.json of a sweep.")
    return parsed_file(Swept, "sweep", file, SCHEMA_VERSION)


def write_swept(swept: Swept, file: Path) -> None:
    """Write what a sweep found as JSON, whole or not at all."""
    write_text(file, swept.model_dump_json(indent=1) + "\n")


def swept_table(swept: Swept) -> Table:
    """Return a row for each cell, the best one marked."""
    columns = [
        Column("Cell", "", "Cell"),
        Column("State", "", "State"),
        *(Column(name, "Settings", name, setting=True) for name in swept.options),
        Column("Clean accuracy (%)", "Held-out accuracy (%)", "clean"),
        Column(f"Worst case, {swept.threat} (%)", "Held-out accuracy (%)", swept.threat),
        Column("Masking", "", "Masking"),
    ]
    return Table(tuple(columns), tuple(_row(swept, cell) for cell in swept.cells))


def _row(swept: Swept, cell: SweptCell) -> tuple[Cell, ...]:
    best, found = cell == swept.best, cell.found
    nothing = Cell(None, MISSING)
    clean = accuracy_cell(found.clean_accuracy, found.n) if found else nothing
    robust = accuracy_cell(found.worst_case, found.n) if found else nothing
    masking = Cell(found.verdict, found.verdict or "not checked") if found else nothing
    return (
        Cell(cell.number, cell.name, best=best),
        Cell(state(swept, cell), state(swept, cell), detail=cell.reason, best=best),
        *(Cell(cell.settings.get(name), spelled(cell.settings.get(name))) for name in swept.options),
        clean,
        Cell(robust.value, robust.text, robust.note, robust.detail, best),
        masking,
    )


def state(swept: Swept, cell: SweptCell) -> str:
    """Return in words what became of a cell."""
    if cell.found is None:
        return cell.state
    if cell == swept.best:
        return "best"
    if cell.found.verdict == "broken":
        return "gradients masked"
    return "feasible" if swept.is_feasible(cell) else "below the floor"


def spelled(value: Setting) -> str:
    """Return a setting in words; numbers with three digits."""
    if isinstance(value, float):
        return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 else significant(value)
    return MISSING if value is None else str(value)


def in_words(cell: SweptCell) -> str:
    """Return a cell's settings and what was found there, in one line."""
    settings = ", ".join(f"{name}={spelled(value)}" for name, value in cell.settings.items())
    if cell.found is None:
        return f"{cell.name} ({settings})"
    clean, robust = percent(cell.found.clean_accuracy), percent(cell.found.worst_case)
    return f"{cell.name} ({settings}): clean {clean} %, worst case {robust} %"
