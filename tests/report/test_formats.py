import csv
import re
from io import StringIO

import pytest
from report_factory import (
    make_bounded,
    make_bounds,
    make_checked_records,
    make_evaluation,
    make_masking,
    make_record,
    make_records,
    make_robust,
)
from rich.cells import cell_len
from rich.console import Console, RenderableType

from meseta.evaluation.record import Record
from meseta.report import comparison_table, to_csv, to_latex, to_markdown, to_rerun, to_rich
from meseta.report.comparison import runs_of
from meseta.report.formats import escape_latex
from meseta.report.rerun import settings
from meseta.report.table import Cell

EVERYTHING = [*make_checked_records(), make_record("bounds", bounds=make_bounds(50))]


def printed(content: RenderableType, width: int = 200) -> str:
    terminal = StringIO()
    Console(width=width, file=terminal).print(content)
    return terminal.getvalue()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text)))


def with_note(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def test_markdown_tells_what_a_reader_must_know_below() -> None:
    markdown = to_markdown(comparison_table(make_records(1)), ["a|b differ"])
    assert markdown.endswith("|\n\n- a\\|b differ\n")


def test_markdown_shows_the_text_of_every_cell() -> None:
    """The longer side goes downwards: few runs stand side by side, many below one another."""
    for count in (3, 30):
        table = comparison_table(make_records(count))
        lines = to_markdown(table).splitlines()
        shown = [
            [cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]
        ]
        rows = [[column.title for column in table.columns], *([with_note(cell) for cell in row] for row in table.rows)]
        assert shown == (rows if count == 30 else [list(row) for row in zip(*rows, strict=True)])


def test_markdown_escapes_names() -> None:
    markdown = to_markdown(comparison_table([make_record("a|b <script> *x* _y_ in_word &lt; `c`")]))
    assert "a\\|b \\<script\\> \\*x\\* \\_y\\_ in_word &amp;lt; \\`c\\`" in markdown


def test_csv_holds_the_numbers_of_the_records_in_full() -> None:
    for record, row in zip(EVERYTHING, rows_of(to_csv(comparison_table(EVERYTHING))), strict=True):
        evaluation, training = record.evaluation, record.training
        assert evaluation
        assert training
        assert row["Run"] == record.name
        assert float(row["Clean accuracy (share)"]) == evaluation.clean_accuracy
        for one in evaluation.robust:
            if one.norm == "Linf":
                assert float(row[f"Worst case, L∞ {round(255 * one.eps)}/255 (share)"]) == one.worst_case
        for one in record.measures:
            assert float(row[f"{one.name}, median"]) == one.median
        assert float(row["Training, s per epoch"]) == training.seconds_per_epoch
    assert float(row["L2 LinearPiece (proxy), median"]) == record.bounds[2].median


def test_csv_names_each_column_once_and_leaves_empty_what_is_missing() -> None:
    table = comparison_table([*EVERYTHING, make_record("bare", training=None, evaluation=None, measures=[], config={})])
    header = to_csv(table).splitlines()[0]
    names = next(csv.reader([header]))
    assert len(set(names)) == len(names) == len(table.columns)
    *_, bare = rows_of(to_csv(table))
    assert {value for name, value in bare.items() if name not in ("Run", "Setting: objective")} == {""}


def test_csv_tells_a_median_without_adversarial_example_from_a_missing_one() -> None:
    records = [make_record("a", bounds=[make_bounded("attack", [0.0, None, None])]), make_record("b")]
    assert [row["L2 smallest attack, median"] for row in rows_of(to_csv(comparison_table(records)))] == ["none", ""]


def test_csv_keeps_any_name() -> None:
    name = 'a, "b"; [red]c[/red] <b> \\x_y & {{7*7}}'
    (row,) = rows_of(to_csv(comparison_table([make_record(name)])))
    assert row["Run"] == name


@pytest.mark.parametrize("name", ["=1+1", "+1", "-a", "@SUM(A1)"])
def test_csv_has_no_formula_and_numbers_stay_numbers(name: str) -> None:
    records = [make_record(name, config={"a": -2, "=b": name}), make_record("other", config={"a": 1, "=b": "c"})]
    row, _ = rows_of(to_csv(comparison_table(records)))
    assert row["Run"] == f"'{name}"
    assert row["Setting: a"] == "-2"
    assert row["Setting: =b"] == f"'{name}"


def test_no_format_has_control_characters_or_turns_text_around() -> None:
    record = make_record("a\x1b[31m\u202eb\x07", config={"x\x1b": "\x1b]0;t\x07"})
    table = comparison_table([record, make_record("c", config={"x\x1b": "d"})])
    for text in (to_csv(table), to_markdown(table), to_latex(table)):
        assert not set(text) & {"\x1b", "\x07", "\u202e"}


def latex_rows(text: str) -> list[list[str]]:
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r" \\")]
    return [re.split(r"(?<!\\) & ", line) for line in lines]


def test_latex_shows_the_text_of_every_cell_and_the_best_in_bold() -> None:
    for count in (3, 30):
        table = comparison_table(make_records(count))
        grid = latex_rows(to_latex(table))
        cells = [row[1:] for row in (grid if count == 30 else list(zip(*grid, strict=True)))[1:]]
        for row, shown in zip(table.rows, cells, strict=True):
            for cell, text in zip(row[1:], shown, strict=True):
                plain = escape_latex(cell.text)
                minus = isinstance(cell.value, float) and plain.startswith("-")
                plain = f"$-${plain[1:]}" if minus else plain
                note = f" ({escape_latex(cell.note)})" if cell.note else ""
                assert text == (rf"\textbf{{{plain}}}" if cell.best else plain) + note
        assert to_latex(table).count(r"\toprule") == to_latex(table).count(r"\bottomrule") == 1


def test_latex_has_no_command_of_the_users() -> None:
    assert escape_latex(r"\input{x} 5% a_b $x^2$ #1 & ~ [opt] *") == (
        r"\textbackslash{}input\{x\} 5\% a\_b \$x\textasciicircum{}2\$ \#1 \& \textasciitilde{} {[}opt] {*}"
    )
    assert escape_latex("a--b -c") == "a-{}-b -c"
    assert escape_latex("≤40.0 1.00× L∞ –") == r"$\leq$40.0 1.00$\times$ L$\infty$ --"


def test_latex_has_no_character_at_which_pdflatex_stops() -> None:
    assert escape_latex("λ µ ε ν ‖x‖² −1 Müller, Łódź") == (
        r"$\lambda$ $\mu$ $\varepsilon$ $\nu$ $\|$x$\|$$^2$ $-$1 Müller, Łódź"
    )
    assert escape_latex("\U0001f600 日本 \u202e ą \x1b") == "? ?? ? ? ?"


@pytest.mark.parametrize("count", [2, 15])
@pytest.mark.parametrize("width", [80, 200])
def test_terminal_shows_every_number(count: int, width: int) -> None:
    table = comparison_table(make_records(count))
    shown = printed(to_rich(table), width).split()
    assert all(word in shown for row in table.rows for cell in row for word in cell.text.split())


@pytest.mark.parametrize("count", [1, 4, 20])
def test_a_narrow_terminal_cuts_nothing_off_and_names_the_runs_in_every_block(count: int) -> None:
    records = [*make_records(count - 1), make_record("a-name-that-is-much-longer-than-its-column-can-be")]
    table = comparison_table([record.model_copy(update={"bounds": make_bounds(20)}) for record in records])
    lines = printed(to_rich(table), 80).splitlines()
    assert max(map(cell_len, lines)) <= 80
    blocks = sum(set(line.strip()) == {"─"} for line in lines)
    corners = [line.split()[0] for line in lines if line.split()[:1] == ["Run"]]
    assert len(corners) == blocks


def test_the_terminal_marks_an_upper_bound() -> None:
    evaluation = make_evaluation(robust=[make_robust("Linf", 8 / 255, 0.4)], masking=make_masking(BlackBox="broken"))
    assert "≤40.0" in printed(to_rich(comparison_table([make_record(evaluation=evaluation)])))


SPOILED = "[red]x[/red] \x1b[31m"


def test_terminal_shows_markup_as_text_and_obeys_no_escape() -> None:
    record = make_record(SPOILED, config={SPOILED: SPOILED})
    for content in (to_rich(comparison_table([record])), to_rerun(record)):
        shown = printed(content)
        assert "[red]x[/red]" in shown
        assert "\x1b" not in shown


def flowing(text: str) -> str:
    return "".join(text.split())


def test_one_run_is_shown_with_all_it_takes_to_run_it_again() -> None:
    record = Record.model_validate(make_record(bounds=make_bounds(5)).model_dump())
    shown = flowing(printed(to_rerun(record), 80))
    provenance = record.training and record.training.provenance
    assert provenance
    for words in (provenance.command, provenance.commit, provenance.device, "torch 2.13.0", "seed 0"):
        assert flowing(words or "") in shown
    for one in settings(runs_of([record])):
        assert flowing(one.key.removeprefix("config: ")) in shown
        assert flowing(one.values[0]) in shown
    for one in (*record.measures, *record.bounds):
        assert flowing(one.measure if hasattr(one, "measure") else one.bound) in shown
