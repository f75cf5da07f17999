def test_markdown_shows_the_text_of_every_cell() -> None:
    """The longer side goes downwards: few runs stand side by side, many below one another."""
    for count in (3, 30):
        table = comparison_table(make_records(count))
        lines = to_markdown(table).splitlines()
        shown = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]
        rows = [[column.title for column in table.columns], *([cell.text for cell in row] for row in table.rows)]
        assert shown == (rows if count == 30 else [list(row) for row in zip(*rows, strict=True)])


def test_markdown_escapes_names() -> None:
    markdown = to_markdown(comparison_table([make_record("a|b <script> *x* _y_ in_word &lt; `c`")]))
    assert "a\\|b \\<script\\> \\*x\\* \\_y\\_ in_word &amp;lt; \\`c\\`" in markdown


@pytest.mark.parametrize("count", [2, 15])
def test_terminal_shows_every_number(count: int) -> None:
    table = comparison_table(make_records(count))
    terminal = StringIO()
    console = Console(width=200, file=terminal)
    console.print(to_rich(table))
    shown = terminal.getvalue().split()
    assert all(word in shown for row in table.rows for cell in row for word in cell.text.split())


def test_terminal_shows_brackets_as_text() -> None:
    terminal = StringIO()
    console = Console(width=200, file=terminal)
    console.print(to_rich(comparison_table([make_record("[red]x[/red]")])))
    assert "[red]x[/red]" in terminal.getvalue()
