"""What a sweep found, as a file, a table and a page: the best is feasible, and what is missing is not shown as 0."""

from pathlib import Path
from typing import Any

import pytest
from report_factory import make_record

from meseta.errors import UserError
from meseta.report import to_rich, write_sweep_page
from meseta.report.sweep_page import render, sweep_figures
from meseta.report.swept import Figures, State, Swept, SweptCell, read_swept, swept_table, write_swept


def cell(number: int, clean: float, robust: float, *, state: State = "finished", **settings: Any) -> SweptCell:
    evaluation = make_record("a", 0).evaluation
    assert evaluation
    verdict = settings.pop("verdict", "trusted")
    figures = Figures(provenance=evaluation.provenance, clean_accuracy=clean, worst_case=robust, n=100, verdict=verdict)
    return SweptCell(
        number=number,
        name=f"cell-{number:03d}",
        settings=settings,
        state=state,
        started=1,
        found=figures if state == "finished" else None,
        reason="the loss of step 3 is nan" if state == "diverged" else "",
    )


@pytest.fixture
def swept() -> Swept:
    evaluation = make_record("a", 0).evaluation
    assert evaluation
    return Swept(
        name="<b>sweep</b>",
        search="grid",
        seed=0,
        split="val",
        norm="Linf",
        eps=8 / 255,
        floor=0.9,
        logarithmic=["weight"],
        cells=[
            cell(1, 0.95, 0.5, weight=0.1, objective="Soar"),
            cell(2, 0.85, 0.8, weight=1.0, objective="Soar"),  # below the floor
            cell(3, 0.97, 0.9, weight=0.1, objective="Erm", verdict="broken"),
            cell(4, 0.93, 0.6, weight=1.0, objective="Erm", verdict=None),
            cell(5, 0, 0, weight=10.0, objective="Soar", state="diverged"),
            cell(6, 0, 0, state="waiting"),
        ],
        provenance=evaluation.provenance,
    )


def numbered(cell: SweptCell | None) -> int | None:
    return cell.number if cell else None


def test_the_best_is_the_most_robust_of_those_that_may_be_chosen(swept: Swept) -> None:
    assert numbered(swept.best) == 4
    free = swept.model_copy(update={"floor": None})
    assert numbered(free.best) == 2
    assert swept.model_copy(update={"floor": 0.99}).best is None
    tied = swept.model_copy(update={"cells": [cell(1, 0.95, 0.5), cell(2, 0.96, 0.5), cell(3, 0.96, 0.5)]})
    assert numbered(tied.best) == 2


def test_a_file_gives_it_back(swept: Swept, tmp_path: Path) -> None:
    write_swept(swept, tmp_path / "sweep.json")
    assert read_swept(tmp_path / "sweep.json") == swept
    with pytest.raises(UserError, match="does not exist"):
        read_swept(tmp_path / "no.json")
    for content in ("{}", "[", '{"schema_version": 1}', '{"schema_version": 2}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(UserError, match=r"bad\.json"):
            read_swept(tmp_path / "bad.json")


def test_the_table_has_a_row_for_each_cell(swept: Swept) -> None:
    table = swept_table(swept)
    states = [row[1].text for row in table.rows]
    assert states == ["feasible", "below the floor", "gradients masked", "best", "diverged", "waiting"]
    assert [row[5].text for row in table.rows] == ["50.0", "80.0", "90.0", "60.0", "–", "–"]
    assert [row[0].best for row in table.rows] == [False, False, False, True, False, False]
    assert to_rich(table)


def test_figures_show_each_option_on_an_axis_of_its_own(swept: Swept) -> None:
    trade, weight, objective = sweep_figures(swept)
    drawn = {(x, y) for group in trade.groups for x, y in zip(group.x, group.y, strict=True)}
    assert drawn == {(95, 50), (85, 80), (97, 90), (93, 60)}
    assert {group.name: group.labels for group in weight.groups} == {
        "best": ("4",),
        "feasible": ("1",),
        "not feasible": ("2", "3"),
    }
    assert weight.log_x
    assert not weight.ticks
    assert objective.ticks == {0: "Soar", 1: "Erm"}


def test_the_page_is_safe_and_whole(swept: Swept, tmp_path: Path) -> None:
    write_sweep_page(swept, tmp_path / "sweep.html")
    page = (tmp_path / "sweep.html").read_text()
    assert page == render(swept)
    assert "&lt;b&gt;sweep&lt;/b&gt;" in page
    assert "<b>sweep" not in page
    assert "cell-005 diverged: the loss of step 3 is nan" in page
    unfinished = swept.model_copy(update={"cells": swept.cells[-1:]})
    assert "No cell is feasible" in render(unfinished)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        write_sweep_page(swept, tmp_path / "folder")
