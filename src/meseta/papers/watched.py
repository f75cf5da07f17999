"""Curves over the epochs of runs that were watched while they were trained."""

from collections.abc import Callable, Sequence

from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.papers.attacked import spelled
from meseta.report.curves import Logged, logged_by
from meseta.training import Watch


def watched(records: Sequence[Record], wanted: Callable[[Logged], bool], watch: Watch) -> list[Logged]:
    """Return what is wanted of the records' histories, as far as all records have it.

    Args:
        records: of runs that were watched.
        wanted: tells what is drawn; each record must have some of it.
        watch: what to train with, for the error.

    Raises:
        UserError: a record without any; records that have nothing of it in common.
    """
    found = [[one for one in logged_by([record]) if wanted(one)] for record in records]
    for record, names in zip(records, found, strict=True):
        if not names:
            raise UserError(
                f"record: {record.name} has no history of what is drawn, which is logged in training alone. Train it "
                f"again with a watch, for example: meseta train --config {record.name}/config.yaml --name watched "
                f"{options(watch)}"
            )
    shared = [one for one in found[0] if all(one in names for names in found)]
    if not shared:
        each = "; ".join(f"{r.name}: {', '.join(map(str, names))}" for r, names in zip(records, found, strict=True))
        raise UserError(f"records: the runs were watched with different settings, {each}. Watch them alike.")
    return shared


def options(watch: Watch) -> str:
    """Return the options of `meseta train` that make this watch."""
    parts = [f"--watch.splits '[{', '.join(watch.splits)}]'"]
    if watch.every != 1:
        parts.insert(0, f"--watch.every {watch.every}")
    parts.append(f"--watch.attacks '{spelled(watch.attacks)}'")
    if watch.objectives:
        parts.append(f"--watch.objectives '{spelled(watch.objectives)}'")
    return " ".join(parts)
