"""Curves over the epochs of runs that were watched while they were trained."""

import re
from collections.abc import Sequence

from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.papers.attacked import spelled
from meseta.report.curves import history
from meseta.training import Watch


def watched(records: Sequence[Record], name: str, watch: Watch) -> list[str]:
    """Return the names in the records' histories that match a pattern, those that all records have.

    Args:
        records: of runs that were watched.
        name: a regular expression for the whole name.
        watch: what to train with, for the error.

    Raises:
        UserError: a record without any; records that have nothing of it in common.
    """
    found = [[logged for logged in history(record) if re.fullmatch(name, logged)] for record in records]
    for record, names in zip(records, found, strict=True):
        if not names:
            raise UserError(
                f"record: {record.name} has no history of what is drawn, which is logged in training alone. Train it "
                f"with a watch: meseta train --config {record.name}.yaml {options(watch)}"
            )
    shared = [one for one in found[0] if all(one in names for names in found)]
    if not shared:
        each = "; ".join(f"{r.name}: {', '.join(names)}" for r, names in zip(records, found, strict=True))
        raise UserError(f"records: the runs were watched with different settings, {each}. Watch them alike.")
    return shared


def options(watch: Watch) -> str:
    """Return the options of `meseta train` that make this watch."""
    parts = [f"--watch.splits '[{', '.join(watch.splits)}]'"]
    if watch.every != 1:
        parts.insert(0, f"--watch.every {watch.every}")
    if watch.attacks:
        parts.append(f"--watch.attacks '{spelled(watch.attacks)}'")
    if watch.objectives:
        parts.append(f"--watch.objectives '{spelled(watch.objectives)}'")
    return " ".join(parts)
