"""What a reproduction found: means, spreads and differences, as Markdown and as a page."""

import math
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meseta.errors import UserError
from meseta.evaluation.record import Provenance
from meseta.report.figure import LineFigure, Series
from meseta.report.reproduced import (
    Claim,
    Entry,
    Part,
    Reproduced,
    ReproducedTable,
    Row,
    Setting,
    differs,
    read_reproduced,
    seeds,
    to_markdown,
    with_spread,
    worst_case,
    write_reproduced,
)
from meseta.report.reproduction_page import render

PROVENANCE = Provenance(
    command="meseta reproduce <b>me</b>",
    created="2026-01-01T00:00:00+00:00",
    seconds=1,
    seed=None,
    device="cpu",
    versions={"meseta": "0"},
    commit=None,
)


def found(*tables, claims=(), figures=()):
    part = Part(title="Table 1", tables=list(tables), claims=list(claims), figures=list(figures))
    return Reproduced(
        paper="ma2020",
        title="A | title",
        citation="Ma <i>et al.</i>",
        scale="short",
        settings=[Setting(name="epochs", published="200", here="15")],
        choices=["Silent | here"],
        data=["CIFAR-10; images stored as JPEG, which is lossy"],
        provenance=PROVENANCE,
        parts={"table-1": part},
    )


def table(*rows, **options):
    return ReproducedTable(key="table-1", title="Robust", columns=["clean"], rows=list(rows), **options)


@given(st.lists(st.floats(0, 100), min_size=2, max_size=6))
def test_an_entry_is_the_mean_of_its_seeds_and_their_standard_deviation(values):
    entry = Entry(published=50.0, ours=values)
    assert entry.mean == pytest.approx(fmean(values))
    assert entry.spread == pytest.approx(stdev(values))
    assert entry.difference == pytest.approx(fmean(values) - 50)


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_seed_without_a_value_leaves_no_mean_of_the_others(bad):
    entry = Entry(published=50.0, ours=[40.0, bad])
    assert (entry.mean, entry.difference) == (None, None)
    assert differs(entry, 1) == ""


def test_one_seed_has_no_spread():
    assert Entry(ours=[40.0]).spread is None
    assert with_spread(40.0, None, 1) == "40.0"


def test_values_are_written_with_their_digits_and_tiny_ones_are_not_written_as_zero():
    assert with_spread(3.14159, 0.05, 2) == "3.14 ± 0.05"
    assert with_spread(1e-5, None, 2) == "1.00e-05"
    assert with_spread(0.0, None, 1) == "0.0"
    assert with_spread(None, 1.0, 1) == "–"
    assert differs(Entry(published=1.0, ours=[3.0]), 1) == "+2.0"
    assert differs(Entry(published=3.0, ours=[1.0]), 1) == "-2.0"
    assert [differs(Entry(published=99.2, ours=[99.2 + by]), 1) for by in (0.04, -0.04)] == ["+0.0", "+0.0"]
    assert differs(Entry(published=1e-5, ours=[3e-5]), 1) == "+2.00e-05"


def test_the_worst_case_of_a_masked_model_is_an_upper_bound():
    row = Row(name="soar", entries=[], worst_case=[71.0], verdict="broken")
    assert worst_case(row) == "≤71.0"
    assert worst_case(row.model_copy(update={"verdict": "trusted"})) == "71.0"


def test_markdown_shows_published_ours_and_the_difference_and_no_name_breaks_its_tables():
    row = Row(name="SO|AR", entries=[Entry(published=81.73, published_spread=0.12, ours=[70.0, 72.0])])
    text = to_markdown(found(table(row), claims=[Claim(text="a | b", holds=False, evidence="1 against 2")]))
    assert "81.7 ± 0.1 → 71.0 ± 1.4 (-10.7)" in text
    assert "SO\\|AR" in text
    assert "| a \\| b | paper | does not hold | 1 against 2 |" in text
    assert "images stored as JPEG" in text
    assert "| epochs | 200 | 15 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_each_part_says_when_it_was_made_and_the_page_what_the_last_call_was():
    one = found(table(Row(name="ours", entries=[Entry(ours=[1.0])])))
    assert "`--only table-1`\n" in to_markdown(one)
    earlier = PROVENANCE.model_copy(update={"created": "2020-01-02T00:00:00+00:00", "commit": "abc"})
    one.parts["table-1"] = one.parts["table-1"].model_copy(update={"provenance": earlier})
    text = to_markdown(one)
    assert "`--only table-1`, made 2020-01-02 at abc" in text
    assert f"Last call: `{PROVENANCE.command}`" in text


def test_a_table_without_published_figures_speaks_of_none():
    text = to_markdown(found(table(Row(name="ours", entries=[Entry(ours=[1.0])]))))
    assert "published →" not in text


def test_seeds_are_counted_where_there_are_some():
    rows = [Row(name="a", entries=[Entry(ours=[1.0])]), Row(name="b", entries=[Entry(ours=[1.0, 2.0, 3.0]), Entry()])]
    assert seeds([table(*rows)]) == "1 to 3 seeds"
    assert seeds([table(rows[0])]) == "1 seed"
    assert seeds([table()]) == ""


def test_what_was_found_is_read_back(tmp_path):
    one = found(table(Row(name="x", entries=[Entry(ours=[None, 1.0])])))
    write_reproduced(one, tmp_path)
    assert read_reproduced(tmp_path) == one
    assert (tmp_path / "reproduction.md").read_text() == to_markdown(one)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ('{"schema_version": 9}', "version 9"), ('{"schema_version": 1}', "does not fit")],
)
def test_a_file_that_is_none_is_named(tmp_path, content, message):
    (tmp_path / "reproduction.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_reproduced(tmp_path)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(UserError, match="meseta reproduce"):
        read_reproduced(tmp_path)


def test_the_page_shows_everything_and_escapes_it(tmp_path):
    line = LineFigure("yu-4", "A figure", "x", "y", (Series("run", 0, (0.0, 1.0), (1.0, 2.0), (1.0, 2.0), (1.0, 2.0)),))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_bytes(b"png")
    row = Row(name="<script>", entries=[Entry(published=1.5, ours=[2.0])], worst_case=[1.0], verdict="suspicious")
    one = found(
        table(row, judged_at="L∞ 8/255"),
        claims=[Claim(text="c", holds=None, evidence="e")],
        figures=["yu-4", "old", "gone"],
    )
    page = render(one, {"yu-4": line}, tmp_path)
    assert "&lt;script&gt;" in page
    assert "<b>me</b>" not in page
    assert "paper 1.5, +0.5" in page
    assert "not decided" in page
    assert 'id="figure-yu-4"' in page
    assert "data:image/png;base64," in page
    assert "figure-gone" not in page
    assert "suspicious" in page
