import json
import math
import re
import struct
from base64 import b64decode
from pathlib import Path

import pytest
from report_factory import make_picture

from meseta.errors import UserError
from meseta.report import write_figure_page
from meseta.report.figure import Figure, LineFigure, PanelFigure, PictureFigure, Series, SurfaceFigure, Tile
from meseta.report.web import keys_of_runs, notes, own_keys

EVIL = "</script><img src=x onerror=alert(1)>{{7*7}}&amp;"


def lines(key: str, names: tuple[str, ...] = ("erm",), **changes: object) -> LineFigure:
    series = tuple(Series(name, i, (0.0, 1.0), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0)) for i, name in enumerate(names))
    return LineFigure(key, f"title of {key}", "x", "y", series, percent=False, **changes)


def surface(key: str = "s", **changes: object) -> SurfaceFigure:
    grid = tuple(tuple(x + y for x in (-1.0, 0.0, 1.0)) for y in (-1.0, 0.0, 1.0))
    settings = {"value_label": "decision", "x": (-1.0, 0.0, 1.0), "y": (-1.0, 0.0, 1.0), "values": grid}
    settings |= {"x_label": "x", "y_label": "y", "span": (-2.0, 2.0), "diverging": True, "boundary": grid}
    settings |= {"origin_label": "the example itself"}
    return SurfaceFigure(**({"key": key, "title": f"title of {key}"} | settings | changes))


def page(figure: Figure, tmp_path: Path) -> str:
    write_figure_page(figure, tmp_path / "figure.html")
    return (tmp_path / "figure.html").read_text()


def drawings(html: str) -> dict:
    return json.loads(re.search(r'id="drawings">(.*?)</script>', html)[1])


def test_every_panel_is_on_the_page_once_also_where_keys_repeat(tmp_path: Path) -> None:
    panels = PanelFigure("p", "all", ((lines("a"), lines("a")), (surface("a"), PictureFigure("q", "no", (), ()))))
    html = page(panels, tmp_path)
    plots = re.findall(r'data-figure="([^"]*)"', html)
    assert plots == [*drawings(html)] == ["p/1/1", "p/1/2", "p/2/1"]


def test_panels_share_a_legend_and_say_each_note_once() -> None:
    one = lines("a", ("erm", "pgd"), notes=("twice",))
    panels = PanelFigure("p", "all", ((one, lines("b", ("erm",), notes=("twice", "once"))),), notes=("first",))
    assert [(key.name, key.run) for key in keys_of_runs(panels)] == [("erm", 0), ("pgd", 1)]
    assert own_keys(panels) == []
    assert notes(panels) == ["first", "twice", "once"]


def test_lines_that_are_no_runs_have_keys_that_hide_nothing() -> None:
    figure = lines("a", ("PGD", "FGSM"), of_attacks=True)
    assert keys_of_runs(figure) == []
    assert [(key.name, key.run) for key in own_keys(figure)] == [("PGD", -1), ("FGSM", -1)]


def test_what_lies_on_a_map_is_in_its_legend() -> None:
    bare = surface(boundary=None)
    full = surface(ball=((0, 1), (1, 0)), ball_label="L2 ball", path=((0, 0), (1, 1)), path_label="PGD")
    assert [key.name for key in own_keys(bare)] == ["the example itself"]
    assert [key.name for key in own_keys(full)] == ["decision boundary", "L2 ball", "PGD", "the example itself"]


def test_pictures_need_no_plotly(tmp_path: Path) -> None:
    tiles = (Tile(make_picture(3), "in colour"), None, Tile(None, "none found"))
    html = page(PictureFigure("p", "pictures", ("a", "b", "c"), (("row", tiles),)), tmp_path)
    assert len(html) < 100_000
    assert html.count("<img ") == 1
    assert 'alt="row, a: in colour"' in html
    assert "none found" in html


def test_markup_is_text_everywhere(tmp_path: Path) -> None:
    series = (Series(EVIL, 0, (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),)
    line = LineFigure("a", EVIL, EVIL, EVIL, series, notes=(EVIL,), percent=False)
    pictures = PictureFigure("b", EVIL, (EVIL,), ((EVIL, (Tile(make_picture(), EVIL),)),), (EVIL,))
    plane = surface("c", title=EVIL, x_label=EVIL, value_label=EVIL, ball=((0, 1), (1, 0)), ball_label=EVIL)
    html = page(PanelFigure("d", EVIL, ((line, pictures, plane),), (EVIL,)), tmp_path)
    assert html.count("<script") - html.count('"<script') == 3 or html.count("</script>") == 3
    assert "<img src=x" not in html
    assert "49" not in re.sub(r"<script.*?</script>|<style.*?</style>|base64,[^\"]*", "", html, flags=re.DOTALL)


def test_values_that_are_missing_stay_missing_and_others_keep_six_digits(tmp_path: Path) -> None:
    grid = ((None, float("nan"), 1 / 3), (1e-9 / 3, float("inf"), -2 / 3), (0.0, 0.0, 123456.7))
    (drawing,) = drawings(page(surface(values=grid), tmp_path)).values()
    packed = drawing["data"][0]["z"]
    shown = struct.unpack("<9f", b64decode(packed["f4"]))
    assert packed["columns"] == 3
    assert [None if math.isnan(z) else float(f"{z:.6g}") for z in shown] == [
        *(None, None, 0.333333),
        *(3.33333e-10, None, -0.666667),
        *(0.0, 0.0, 123457.0),
    ]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        write_figure_page(lines("a"), tmp_path)
