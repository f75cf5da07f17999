"""Every attack at every threat: what each left of all examples, or what stood after it in a cascade."""

from collections.abc import Sequence
from dataclasses import dataclass

from meseta.evaluation.record import AttackResult, Evaluation, RobustAccuracy
from meseta.report.comparison import NORMS, Run, eps_text, threats_of, unique
from meseta.report.table import Cell, accuracy_cell, worst_case_cell


@dataclass(frozen=True)
class AttackTable:
    """The attacks at one threat: one row per run, one column per attack with its settings."""

    title: str
    cascade: bool
    attacks: tuple[tuple[str, str], ...]
    rows: tuple["AttackRow", ...]

    @property
    def by_others(self) -> bool:
        """Whether masking checks or minimum-norm attacks broke anything that the attacks did not."""
        return any(row.robust.by_others for row in self.rows)


@dataclass(frozen=True)
class AttackRow:
    """One run under one threat; None where this run did not meet an attack."""

    run: Run
    evaluation: Evaluation
    robust: RobustAccuracy
    results: tuple["Left | None", ...]
    worst_case: Cell


@dataclass(frozen=True)
class Left:
    """What one attack left."""

    accuracy: Cell
    result: AttackResult
    n: int

    @property
    def broke(self) -> int | None:
        """The examples it broke of those it met; None where the record does not say how many it met."""
        met = self.result.attacked
        return None if met is None else met - round(self.result.accuracy * self.n)


def attack_tables(runs: Sequence[Run]) -> list[AttackTable]:
    """Return a table for each threat, and one more for each cascade of attacks that the runs met at it.

    Attacks of one name with other settings are other columns. In a cascade the order of the columns is the order of the
    attacks, so only runs that met the same ones in the same order share a table.
    """
    return [table for norm, eps in threats_of(runs) for table in _tables(norm, eps, runs)]


def find(run: Run, norm: str, eps: str) -> RobustAccuracy | None:
    """Return the run's results at one threat."""
    robust = run.record.evaluation.robust if run.record.evaluation else []
    return next((one for one in robust if (one.norm, eps_text(one.norm, one.eps)) == (norm, eps)), None)


_Met = tuple[Run, RobustAccuracy]


def _tables(norm: str, eps: str, runs: Sequence[Run]) -> list[AttackTable]:
    groups: dict[tuple[str, ...] | None, list[_Met]] = {}
    for run in runs:
        if robust := find(run, norm, eps):
            order = tuple(one.attack for one in robust.attacks) if robust.cascade else None
            groups.setdefault(order, []).append((run, robust))
    return [_table(norm, eps, order is not None, members) for order, members in groups.items()]


def _table(norm: str, eps: str, cascade: bool, members: Sequence[_Met]) -> AttackTable:
    attacks = list(dict.fromkeys((one.name, one.attack) for _, robust in members for one in robust.attacks))
    names = unique([name for name, _ in attacks])
    return AttackTable(
        title=f"{NORMS[norm]}, eps = {eps}" + (", cascade" if cascade else ""),
        cascade=cascade,
        attacks=tuple((name, attack) for name, (_, attack) in zip(names, attacks, strict=True)),
        rows=tuple(
            AttackRow(run, e, robust, _results(robust, e.n, attacks), worst_case_cell(run, norm, eps))
            for run, robust in members
            if (e := run.record.evaluation)
        ),
    )


def _results(robust: RobustAccuracy, n: int, attacks: Sequence[tuple[str, str]]) -> tuple[Left | None, ...]:
    found = {(one.name, one.attack): one for one in robust.attacks}
    return tuple(Left(accuracy_cell(one.accuracy, n), one, n) if (one := found.get(key)) else None for key in attacks)
