"""One self-contained HTML page for one figure."""

from pathlib import Path

from meseta.files import check_file, write_text
from meseta.report.figure import Figure
from meseta.report.web import fill, keys_of_runs


def write_figure_page(figure: Figure, path: Path) -> None:
    """Write a figure to `path` as one HTML file, whole or not at all.

    Raises:
        UserError: `path` is a folder.
        MissingExtra: jinja2 is not installed, or plotly or pillow where the figure needs it.
    """
    check_file(path)
    write_text(path, fill("figure.html", [figure], figure=figure, run_keys=keys_of_runs(figure)))
