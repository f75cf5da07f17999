"""One self-contained HTML page from records: no request leaves it, and nothing in it but the records' figures."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meseta.errors import MissingExtra, UserError
from meseta.evaluation.record import Provenance, Record
from meseta.files import write_text
from meseta.report.attack_tables import attack_tables, find
from meseta.report.comparison import (
    MISSING,
    NORMS,
    MeasureGroup,
    Run,
    eps_text,
    measure_groups,
    percent,
    runs_of,
    significant,
    threats_of,
)
from meseta.report.figure import Figure, PanelFigure, PictureFigure
from meseta.report.figures import (
    all_figures,
    attack_curves,
    certified_curves,
    distance_figures,
    measure_figures,
    robustness_curves,
    sandwich_figures,
)
from meseta.report.interactive import to_plotly
from meseta.report.sandwich import KINDS, KINDS_EXPLAINED, largest, sandwiches
from meseta.report.style import cloud_style, style
from meseta.report.table import Cell, Column, comparison_table, transformations, worst_case_cell
from meseta.report.verdict import Examined, Word, examined, is_broken, labelled, masking_of, matrix, verdict
from meseta.version import __version__

if TYPE_CHECKING:
    from markupsafe import Markup


def write_report(records: Sequence[Record], path: Path) -> None:
    """Write the report on `records` to `path` as one HTML file, whole or not at all.

    Raises:
        UserError: no record, or `path` is a folder.
        MissingExtra: jinja2 or plotly is not installed.
    """
    if path.is_dir():
        raise UserError(f"report: {path} is a folder. Give a file, for example {path / 'report.html'}.")
    write_text(path, render(records))


def render(records: Sequence[Record]) -> str:
    """Return the page; the same records give the same bytes."""
    runs = runs_of(records)
    checked = examined(runs)
    kinds = [kind for kind in KINDS if any(one.kind == kind for run in runs for one in run.record.bounds)]
    figures = {figure.key: figure for figure in all_figures(records)}
    page: str = _template().render(
        runs=runs,
        style=style,
        cloud_style=cloud_style,
        version=__version__,
        css=_text("page.css"),
        js=_text("page.js"),
        plotly_js=_plotly_js() if figures else "",
        headlines=headlines(runs),
        broken=[run for run in runs if is_broken(run)],
        notices=notices(runs),
        table=comparison_table(records),
        curves=[figure.key for figure in robustness_curves(records)],
        sandwiches=sandwiches(runs),
        certified=[figure.key for figure in (*certified_curves(records), *distance_figures(records))],
        distances_title="Certificates" if "sound" in kinds else "Distances",
        kinds=kinds,
        clouds=[figure.key for figure in sandwich_figures(records)],
        figures=figures,
        drawings={
            key: to_plotly(one) for key, one in figures.items() if not isinstance(one, PictureFigure | PanelFigure)
        },
        measures=[_measure_section(group, figures) for group in measure_groups(runs)],
        examined=checked,
        matrix=matrix(checked),
        threats=attack_tables(runs),
        attacks=[figure.key for figure in attack_curves(records)],
        transformations=transformations(runs),
        settings=settings(runs),
        sources=[(run, sources(run.record)) for run in runs],
    )
    return page


def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise MissingExtra("jinja2", "report") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("meseta", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "breakable": breakable}
    environment.globals |= {
        "column_groups": column_groups,
        "eps_text": eps_text,
        "is_broken": is_broken,
        "labelled": labelled,
        "verdict": verdict,
        "KINDS": KINDS,
        "KINDS_EXPLAINED": KINDS_EXPLAINED,
        "MISSING": MISSING,
        "NORMS": NORMS,
    }
    return environment.get_template("page.html")


def _text(name: str) -> str:
    return files("meseta.report").joinpath(name).read_text(encoding="utf-8")


def _plotly_js() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise MissingExtra("plotly", "report") from None
    return str(get_plotlyjs())


def number(value: float | None) -> str:
    """Write a number that may be missing."""
    return MISSING if value is None or not math.isfinite(value) else significant(value)


def breakable(text: str) -> "Markup":
    """Escape a title, and let it break before its brackets."""
    from markupsafe import Markup, escape

    return escape(text).replace("(", Markup("<wbr>("))


def column_groups(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Return each run of columns of one group with its length, for the upper row of the header."""
    return [(group, len(list(members))) for group, members in groupby(columns, key=lambda column: column.group)]


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
    words = {run.style: word for run in runs if (word := verdict(run.record))}
    return [
        Headline(run, words[run.style], checked.get(run.style), *_headline_worst_case(run, shared))
        for run in runs
        if run.style in words
    ]


def _headline_worst_case(run: Run, shared: set[tuple[str, str]]) -> tuple[str, Cell | None]:
    """Return the largest threat of those shared, of the norm that the checks ran in if it is there, else of its own."""
    found = {threat: cell for threat in threats_of([run]) if (cell := worst_case_cell(run, *threat)).value is not None}
    if not found:
        return "", None
    masking = masking_of(run.record)
    candidates = [threat for threat in found if threat in shared] or list(found)
    norm = masking.norm if masking and any(of == masking.norm for of, _ in candidates) else candidates[0][0]
    chosen = [threat for threat in candidates if threat[0] == norm][-1]
    return f"{NORMS[chosen[0]]} {chosen[1]}", found[chosen]


def notices(runs: Sequence[Run]) -> list[str]:
    """Return what a reader must know before comparing the numbers."""
    return [*_incomparable(runs), *(notice for run in runs for notice in _doubts(run))]


def _incomparable(runs: Sequence[Run]) -> Iterable[str]:
    evaluated = [(run.record.data, run.record.evaluation) for run in runs if run.record.evaluation]
    if len({(data, e.split, e.n) for data, e in evaluated}) > 1:
        yield "The runs were not evaluated on the same examples (data, split or n differ); compare them with care."
    for norm, eps in threats_of(runs):
        suites = {frozenset(one.attack for one in robust.attacks) for run in runs if (robust := find(run, norm, eps))}
        if len(suites) > 1:
            yield f"At {NORMS[norm]} {eps} the runs met different attacks: their worst cases do not compare directly."

    checks = [(one.norm, eps_text(one.norm, one.eps)) for run in runs if (one := masking_of(run.record))]
    if len(set(checks)) > 1:
        yield "The masking checks ran at different thresholds: a verdict holds at its own."
    for norm, by_run in largest(runs).items():
        if len({(one.split, one.n, one.run.record.data) for one in by_run.values()}) > 1:
            yield f"The {NORMS[norm]} distances were not taken on the same examples; compare them with care."


def _doubts(run: Run) -> Iterable[str]:
    evaluation = run.record.evaluation
    if evaluation and evaluation.nonfinite_logits:
        yield (
            f"{run.label}: {evaluation.nonfinite_logits} of {evaluation.n} examples have NaN or infinite logits; "
            "they count as misclassified."
        )
    if evaluation and (total := sum(a.violations for robust in evaluation.robust for a in robust.attacks)):
        yield f"{run.label}: attacks left the ball or the bounds {total} times; the judge brought those examples back."
    if evaluation and (found := [one for one in evaluation.robust if one.by_others]):
        counts = [f"{one.by_others} at {NORMS[one.norm]} {eps_text(one.norm, one.eps)}" for one in found]
        yield (
            f"{run.label}: masking checks or minimum-norm attacks broke examples that no attack of the list broke, "
            f"{', '.join(counts)}; the worst case counts them as broken."
        )
    for one in run.record.measures:
        if one.nonfinite:
            yield f"{run.label}: {one.name} is not finite on {one.nonfinite} of {one.n} examples."
    for bound in run.record.bounds:
        if bound.ignored:
            yield f"{run.label}: the judge did not accept {bound.ignored} results of {bound.name}."
    for sandwich in sandwiches([run]):
        if sandwich.contradictions:
            yield (
                f"{run.label}: on {sandwich.contradictions} of {sandwich.n} examples an attack is nearer than the "
                f"{NORMS[sandwich.norm]} radius that was certified. A bound is not sound: do not use it."
            )


def _measure_section(group: MeasureGroup, figures: dict[str, Figure]) -> tuple[MeasureGroup, Figure | None, list[str]]:
    """Return a measure, its figure if it has one, and the keys of the figures of its parts and curves."""
    return group, figures.get(group.key), [one.key for one in measure_figures(group) if one.key != group.key]


@dataclass(frozen=True)
class Setting:
    """One setting of every run, in the order of the runs."""

    key: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs disagree."""
        return len(set(self.values)) > 1


def settings(runs: Sequence[Run]) -> list[Setting]:
    """Return every setting of the runs, the ones that differ first."""
    flat = [_described(run.record) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    rows = [Setting(key, tuple(one.get(key, MISSING) for one in flat)) for key in keys]
    return sorted(rows, key=lambda row: not row.differs)


def _described(record: Record) -> dict[str, str]:
    described = {"model": record.model, "data": record.data}
    if training := record.training:
        described |= {
            "objective": training.objective,
            "parameters": f"{training.parameters:,}".replace(",", "\u202f"),
            "training examples": f"{training.examples:,}".replace(",", "\u202f"),
            "epochs": str(training.epochs),
            "steps": str(training.steps),
        }
    return described | {f"config: {key}": value for key, value in flatten(record.config).items()}


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Write a nested configuration as dotted keys and texts."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return flat


def sources(record: Record) -> list[tuple[str, Provenance]]:
    """Return where each section of a record comes from; measures of one call share a line."""
    found: list[tuple[str, Provenance]] = []
    if record.training:
        found.append(("training", record.training.provenance))
    if record.evaluation:
        found.append(("evaluation", record.evaluation.provenance))
    if masking := masking_of(record):
        found.append(("masking checks", masking.provenance))
    found += [(one.bound, one.provenance) for one in record.bounds]
    return found + [(one.measure, one.provenance) for one in record.measures]
