"""The page of a sweep: its cells in a table, robust against clean accuracy, and the goal against each option."""

from collections.abc import Sequence
from pathlib import Path

from meseta.files import check_file, write_text
from meseta.report.comparison import slug, unique, wilson
from meseta.report.figure import PointFigure, Points
from meseta.report.page import column_groups
from meseta.report.swept import Setting, Swept, SweptCell, in_words, spelled, swept_table
from meseta.report.web import fill

LABELLED = 24
"""Of more cells the points have no names, which would hide them."""


def write_sweep_page(swept: Swept, path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        UserError: `path` is a folder.
        MissingExtra: jinja2 or plotly is not installed.
    """
    check_file(path)
    write_text(path, render(swept))


def render(swept: Swept) -> str:
    """Return the page."""
    figures = sweep_figures(swept)
    table = swept_table(swept)
    return fill(
        "sweep.html",
        figures,
        swept=swept,
        best=swept.best and in_words(swept.best),
        diverged=[cell for cell in swept.cells if cell.state == "diverged"],
        table=table,
        column_groups=column_groups(table.columns),
        drawn=figures,
    )


def sweep_figures(swept: Swept) -> list[PointFigure]:
    """Return robust accuracy against clean accuracy, then against each option."""
    cells = [cell for cell in swept.cells if cell.found]
    if not cells:
        return []
    clean = {cell.number: 100 * cell.found.clean_accuracy for cell in cells if cell.found}
    trade = _figure(swept, "trade-off", "Robust and clean accuracy", "clean accuracy (%)", cells, clean)
    keys = unique([f"by-{slug(name)}" for name in swept.options])
    return [trade, *(_against(swept, key, name, cells) for key, name in zip(keys, swept.options, strict=True))]


def _against(swept: Swept, key: str, name: str, cells: Sequence[SweptCell]) -> PointFigure:
    """Return robust accuracy against one option: on an axis where it is a number, else one place for each value."""
    values = {cell.number: cell.settings.get(name) for cell in cells}
    numbers = {
        number: float(v) for number, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)
    }
    title = f"Robust accuracy by {name}"
    if len(numbers) == len(values):
        return _figure(swept, key, title, name, cells, numbers, log_x=name in swept.logarithmic)
    names: list[Setting] = list(dict.fromkeys(values.values()))
    places = {number: float(names.index(value)) for number, value in values.items()}
    ticks = {float(i): spelled(value) for i, value in enumerate(names)}
    return _figure(swept, key, title, name, cells, places, ticks=ticks)


def _figure(
    swept: Swept,
    key: str,
    title: str,
    x_label: str,
    cells: Sequence[SweptCell],
    x: dict[int, float],
    *,
    log_x: bool = False,
    ticks: dict[float, str] | None = None,
) -> PointFigure:
    """Return the cells' worst cases at places along x, those that may be chosen apart from the others."""
    kinds = [
        ("best", 2, [cell for cell in cells if cell == swept.best]),
        ("feasible", 0, [cell for cell in cells if swept.is_feasible(cell) and cell != swept.best]),
        ("not feasible", 4, [cell for cell in cells if not swept.is_feasible(cell)]),
    ]
    return PointFigure(
        key=key,
        title=title,
        x_label=x_label,
        y_label=f"worst case, {swept.threat} (%)",
        groups=tuple(
            _points(name, style, chosen, x, len(cells) <= LABELLED) for name, style, chosen in kinds if chosen
        ),
        ticks=ticks or {},
        log_x=log_x,
    )


def _points(name: str, style: int, cells: Sequence[SweptCell], x: dict[int, float], labelled: bool) -> Points:
    found = [(cell, cell.found) for cell in cells if cell.found]
    spans = [wilson(one.worst_case, one.n) for _, one in found]
    return Points(
        name,
        style,
        labels=tuple(str(cell.number) if labelled else "" for cell, _ in found),
        x=tuple(x[cell.number] for cell, _ in found),
        y=tuple(100 * one.worst_case for _, one in found),
        low=tuple(100 * low for low, _ in spans),
        high=tuple(100 * high for _, high in spans),
    )
