"""The table of comparison as Markdown, CSV and LaTeX, and in the terminal."""

import csv
import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from meseta.errors import printable
from meseta.evaluation.record import Record
from meseta.report.comparison import MISSING, runs_of, significant, unique
from meseta.report.rerun import settings, sources
from meseta.report.table import Cell, Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table as RichTable

Grid = Sequence[Sequence[Cell]]
"""Titles and cells row by row; the first row and the first column are titles."""

_WIDEST = 24
"""Columns that a cell takes in the terminal before it is folded."""
_PADDING = 2
"""Columns between two cells there."""


def to_markdown(table: Table, notices: Sequence[str] = ()) -> str:
    """Write the table in GitHub's Markdown, numbers to the right with their 95 % intervals, the best in bold.

    The longer side runs downwards; what a reader must know stands below.
    """
    header, *rows = [[_markdown_cell(cell) for cell in row] for row in _grid(table)]
    rule = [":--" if i == 0 else "--:" for i in range(len(header))]
    lines = [f"| {' | '.join(row)} |" for row in [header, rule, *rows]]
    below = ["", *(f"- {escape_markdown(notice)}" for notice in notices)] if notices else []
    return "\n".join([*lines, *below]) + "\n"


def _grid(table: Table) -> Grid:
    """Return titles and cells row by row, with the quantities as rows where those are the most."""
    grid = [tuple(Cell(None, column.title) for column in table.columns), *table.rows]
    return list(zip(*grid, strict=True)) if len(table.columns) > len(table.rows) else grid


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return (f"**{text}**" if cell.best else text) + (f" ({cell.note})" if cell.note else "")


def escape_markdown(text: str) -> str:
    """Write text so that Markdown shows it as it is, inside a table too; underscores within words need no escape."""
    escaped = re.sub(r"([\\`*\[\]<>|~])|(?<!\w)(_)|(_)(?!\w)", lambda match: "\\" + match[0], printable(text))
    return escaped.replace("&", "&amp;")


def to_csv(table: Table) -> str:
    """Write the table as CSV: a row for each run, every value in full precision, shares in [0, 1].

    What is missing is empty, and text that a spreadsheet would take for a formula has an apostrophe before it. Worst
    cases of a run whose verdict is broken are only upper bounds, as in every table: the column Masking tells.
    """
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(unique([_csv_text(_quantity(column.title)) for column in table.columns]))
    writer.writerows([_csv_cell(cell) for cell in row] for row in table.rows)
    return file.getvalue()


def _quantity(title: str) -> str:
    return f"{title.removesuffix(' (%)')} (share)" if title.endswith(" (%)") else title


def _csv_cell(cell: Cell) -> str | float:
    if cell.value is None:
        return "" if cell.text == MISSING else cell.text
    return _csv_text(cell.value) if isinstance(cell.value, str) else cell.value


def _csv_text(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def to_latex(table: Table) -> str:
    """Write the table in LaTeX with booktabs, numbers to the right, the best in bold; the longer side downwards."""
    header, *rows = [" & ".join(_latex_cell(cell) for cell in row) for row in _grid(table)]
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(_grid(table)[0]) - 1)}}}",
        r"\toprule",
        rf"{header} \\",
        r"\midrule",
        *(rf"{row} \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if isinstance(cell.value, int | float) and text.startswith("-"):
        text = f"$-${text[1:]}"
    return (rf"\textbf{{{text}}}" if cell.best else text) + (f" ({escape_latex(cell.note)})" if cell.note else "")


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after the end of a row it would open an argument, and a star would be one
    "*": "{*}",
    "-": "-{}",  # two would join
    "≤": r"$\leq$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "−": "$-$",
    "°": r"$^\circ$",
    "²": "$^2$",
    "‖": r"$\|$",
    "∞": r"$\infty$",
    "α": r"$\alpha$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "ν": r"$\nu$",
    "✓": r"$\surd$",
    "✗": r"$\times$",
    "–": "--",
    "…": r"\ldots{}",
    "\u202f": r"\,",
    "\xa0": "~",
}
_OGONEK = "\u0328"
"""The one accent on a letter that TeX's own encoding of fonts does not have."""


def escape_latex(text: str) -> str:
    """Write text so that LaTeX shows it as it is, without a package; for what pdflatex does not know stands ?."""
    escaped = "".join(_LATEX.get(character) or _latex_character(character) for character in text)
    return re.sub(r"-\{\}(?!-)", "-", escaped)


def _latex_character(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    known = parts[0].isascii() and character.isprintable() and _OGONEK not in parts and character <= "ſ"
    return character if known or character in "ßæøœłÆØŒŁ" else "?"


def to_rich(table: Table) -> "RenderableType":
    """Return the table for the terminal, the best values in bold; the longer side downwards.

    Where the terminal is too narrow the columns go on below, beside the first one again.
    """
    return _Blocks(_grid(table))


class _Blocks:
    """A grid that knows how wide the terminal is when it is printed."""

    def __init__(self, grid: Grid) -> None:
        self.columns = list(zip(*grid, strict=True))

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator["RenderableType"]:
        first, *others = self.columns
        room = options.max_width + _PADDING  # the last column needs none
        widths = [min(_width(column), _WIDEST, room // 2) + _PADDING for column in others]
        label = min(_width(first), max(_WIDEST, room - sum(widths) - _PADDING), room // 2) + _PADDING
        block = 0
        while block < len(others):
            end = block + 1
            while end < len(others) and label + sum(widths[block : end + 1]) <= room:
                end += 1
            yield _block([first, *others[block:end]], [label, *widths[block:end]])
            yield ""
            block = end


def _width(column: Sequence[Cell]) -> int:
    """Return the columns that hold a column of cells in one line each, its title in lines of words."""
    from rich.cells import cell_len

    words = _broken(column[0].text).split()
    return max(map(cell_len, [*words, *(cell.text for cell in column[1:])]))


def _block(columns: Sequence[Sequence[Cell]], widths: Sequence[int]) -> "RichTable":
    """Return columns side by side; widths count the space between them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for i, (column, width) in enumerate(zip(columns, widths, strict=True)):
        title = Text(printable(_broken(column[0].text)))
        size = width - _PADDING
        rich.add_column(title, justify="right" if i else "left", overflow="fold", min_width=size, max_width=size)
    for first, *rest in zip(*(column[1:] for column in columns), strict=True):
        rich.add_row(
            Text(_folded(printable(first.text), widths[0] - _PADDING)),
            *(Text(printable(cell.text), style="bold" if cell.best else "") for cell in rest),
        )
    return rich


def _folded(text: str, width: int) -> str:
    """Return a text in lines of the width, broken before brackets, between words and after hyphens."""
    if len(text) <= width:
        return text
    return "\n".join(textwrap.fill(part, width) for part in re.split(r"(?<=\w)(?=\()", text, maxsplit=1))


def _broken(title: str) -> str:
    """Return a long title in lines of its parts: adversarial-/training, SpectralCurvature/(Margin), median."""
    return re.sub(r"(?<=\w-)(?=\w)|(?<=\w)(?=\()", "\n", title) if len(title) > 14 else title


def to_rerun(record: Record) -> "RenderableType":
    """Return for the terminal what it takes to run everything again: the settings, and where the figures are from."""
    from rich.console import Group
    from rich.text import Text

    chosen = [(one.key.removeprefix("config: "), one.values[0]) for one in settings(runs_of([record]))]
    parts: list[RenderableType] = [Text("Settings", style="bold"), _pairs(chosen), Text("")]
    by_call: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for section, one in sources(record):
        call: tuple[tuple[str, str], ...] = (
            ("command", one.command),
            ("versions", ", ".join(f"{package} {version}" for package, version in one.versions.items())),
            ("commit", one.commit or "not in git"),
            ("device", one.device),
        )
        seed = "" if one.seed is None else f"seed {one.seed}, "
        by_call.setdefault(call, []).append(f"{section} ({seed}{significant(one.seconds)} s, {one.created})")
    for call, made in by_call.items():
        parts += [Text("Measured by", style="bold"), _pairs([*call, ("figures", "\n".join(made))]), Text("")]
    return Group(*parts)


def _pairs(rows: Sequence[tuple[str, str]]) -> "RichTable":
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=None, pad_edge=False, show_header=False)
    grid.add_column(overflow="fold", max_width=36)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(printable(name)), Text(printable(value)))
    return grid
