"""One self-contained HTML page from records: no request leaves it, and nothing in it but the records' figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from meseta.evaluation.record import Record
from meseta.files import check_file, write_text
from meseta.report.attack_tables import attack_tables
from meseta.report.comparison import NORMS, MeasureGroup, Run, measure_groups, runs_of, threats_of
from meseta.report.curves import history_figures
from meseta.report.examples import example_figures
from meseta.report.figure import Figure
from meseta.report.figures import (
    attack_curves,
    certified_curves,
    distance_figures,
    measure_figures,
    robustness_curves,
    sandwich_figures,
)
from meseta.report.notices import notices
from meseta.report.profiles import profile_figures
from meseta.report.rerun import settings, sources
from meseta.report.sandwich import KINDS, sandwiches
from meseta.report.surfaces import surface_figures
from meseta.report.table import Cell, Column, comparison_table, transformations, worst_case_cell
from meseta.report.verdict import Examined, Word, examined, is_broken, masking_of, matrix, verdict
from meseta.report.web import fill, run_keys


def write_report(records: Sequence[Record], path: Path) -> None:
    """Write the report on `records` to `path` as one HTML file, whole or not at all.

    Raises:
        UserError: no record, or `path` is a folder.
        MissingExtra: jinja2, plotly or pillow is not installed.
    """
    check_file(path)
    write_text(path, render(records))


def render(records: Sequence[Record]) -> str:
    """Return the page; the same records give the same bytes."""
    runs = runs_of(records)
    checked = examined(runs)
    kinds = [kind for kind in KINDS if any(one.kind == kind for run in runs for one in run.record.bounds)]
    table = comparison_table(records)
    measures = [_measure_section(group) for group in measure_groups(runs)]
    figures: dict[str, list[Figure]] = {
        "curves": [*robustness_curves(records)],
        "certified": [*certified_curves(records), *distance_figures(records)],
        "clouds": [*sandwich_figures(records)],
        "surfaces": [*surface_figures(records)],
        "examples": [*example_figures(records)],
        "profiles": [*profile_figures(records)],
        "attacks": [*attack_curves(records)],
        "histories": [*history_figures(records)],
    }
    measured = [figure for _, first, parts in measures for figure in ([first] if first else []) + parts]
    return fill(
        "page.html",
        [*measured, *(figure for section in figures.values() for figure in section)],
        **figures,
        runs=runs,
        run_keys=run_keys(runs),
        headlines=headlines(runs),
        broken=[run for run in runs if is_broken(run)],
        notices=notices(runs),
        table=table,
        column_groups=column_groups(table.columns),
        differing=any(column.setting for column in table.columns),
        sandwiches=sandwiches(runs),
        distances_title="Certificates" if "sound" in kinds else "Distances",
        kinds=kinds,
        measures=measures,
        examined=checked,
        matrix=matrix(checked),
        threats=attack_tables(runs),
        transformations=transformations(runs),
        settings=settings(runs),
        sources=[(run, sources(run.record)) for run in runs],
    )


def column_groups(columns: Sequence[Column]) -> list[tuple[str, int, bool]]:
    """Return each run of columns of one group with its length, and whether they are settings."""
    groups = ((key, list(members)) for key, members in groupby(columns, key=lambda column: column.group))
    return [(group, len(members), members[0].setting) for group, members in groups]


@dataclass(frozen=True)
class Headline:
    """What a reader must take away from one run: the verdict, why, and the worst case at the threat of the checks."""

    run: Run
    word: Word
    examined: Examined | None
    threat: str
    """Empty where the record has no worst case."""
    worst_case: Cell | None

    @property
    def suite(self) -> str | None:
        """The name of the suite of attacks, if they were not chosen one by one."""
        return self.run.record.evaluation.suite if self.run.record.evaluation else None


def headlines(runs: Sequence[Run]) -> list[Headline]:
    """Return a headline for each run that was attacked, with its worst case at the largest eps that all of them met."""
    checked = {one.run.style: one for one in examined(runs)}
    met = [set(threats_of([run])) for run in runs if run.record.evaluation]
    shared = set.intersection(*met) if met else set()
    norms = {masking.norm for run in runs if (masking := masking_of(run.record))}
    norm = norms.pop() if len(norms) == 1 else None  # in several the checks name no threat at which runs compare
    words = {run.style: word for run in runs if (word := verdict(run.record))}
    return [
        Headline(run, words[run.style], checked.get(run.style), *_headline_worst_case(run, shared, norm))
        for run in runs
        if run.style in words
    ]


def _headline_worst_case(run: Run, shared: set[tuple[str, str]], norm: str | None) -> tuple[str, Cell | None]:
    """Return the largest threat of those shared by all runs, else of its own; of this norm where there is one."""
    found = {threat: cell for threat in threats_of([run]) if (cell := worst_case_cell(run, *threat)).value is not None}
    if not found:
        return "", None
    candidates = [threat for threat in found if threat in shared] or list(found)
    of_norm = [threat for threat in candidates if threat[0] == norm]
    chosen = (of_norm or [threat for threat in candidates if threat[0] == candidates[0][0]])[-1]
    return f"{NORMS[chosen[0]]} {chosen[1]}", found[chosen]


def _measure_section(group: MeasureGroup) -> tuple[MeasureGroup, Figure | None, list[Figure]]:
    """Return a measure, its figure if it has one, and the figures of its parts and curves."""
    figures = measure_figures(group)
    first = next((one for one in figures if one.key == group.key), None)
    return group, first, [one for one in figures if one is not first]
