"""The pages as a reader meets them, in headless Chromium: nothing missing or cut off, no complaint, no request."""

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_factory import make_bounds, make_checked_records, make_picture, make_pictured, make_record

from meseta.report import write_figure_page, write_report
from meseta.report.figure import PanelFigure, PictureFigure, SurfaceFigure, Tile

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

LOOKS = [(width, scheme) for width in (1280, 390) for scheme in ("light", "dark")]
READ = """for (const plot of document.querySelectorAll(".plot")) {
  plot.scrollIntoView({ behavior: "instant" });
  while (plot.checkVisibility() && !plot.data) await new Promise(requestAnimationFrame);
}"""
EVIL = "<img src=x onerror=alert(1)> <b>b</b> {{7*7}} &amp; [red]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that draws in 3-D without a graphics card."""
    options = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with playwright.sync_playwright() as tools:
        started = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


class Opened:
    """A page with everything that it complained of or asked for."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.troubles: list[str] = []
        self.page = browser.new_page()
        self.page.on("console", lambda message: self.troubles.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.troubles.append(f"dialog: {dialog.message}"))
        self.page.on("request", lambda request: self.requested(request.url))
        self.page.goto(file.as_uri())
        self.troubles = [one for one in self.troubles if one != f"request: {file.as_uri()}"]

    def requested(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")):
            self.troubles.append(f"request: {url}")

    def look(self, width: int, scheme: str) -> None:
        """Turn the page to a width and a colour scheme, and read it from top to bottom."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.evaluate(f"async () => {{ {READ} }}")
        assert self.page.locator(".plot:visible:not(:has(.main-svg))").count() == 0
        self.wait("document.documentElement.scrollWidth <= innerWidth")  # figures follow the window a moment later

    def wait(self, condition: str) -> None:
        """Wait until a condition holds, for five seconds at most."""
        waiting = f"while (!({condition}) && performance.now() < end) await new Promise(requestAnimationFrame);"
        held = f"async () => {{ const end = performance.now() + 5000; {waiting} return Boolean({condition}); }}"
        assert self.page.evaluate(held), condition

    def undrawn(self) -> int:
        return int(self.page.locator(".plot:not(:has(.main-svg))").count())


def surface(key: str, shift: float) -> SurfaceFigure:
    x = tuple(i / 10 - 1 for i in range(21))
    grid = tuple(tuple(a * a + b * b - 0.5 + shift if a < 0.95 else None for a in x) for b in x)
    return SurfaceFigure(
        key=key,
        title=EVIL,
        x_label="adversarial direction, L∞ (units of 1/255)",
        y_label=EVIL,
        value_label="decision",
        x=x,
        y=x,
        values=grid,
        span=(-1.0, 2.0),
        diverging=True,
        origin_label="the example itself",
        boundary=grid,
        ball=tuple((math.cos(t / 5) / 2, math.sin(t / 5) / 2) for t in range(32)),
        ball_label=EVIL,
        path=((0.0, 0.0), (0.5, 0.5)),
        path_label="PGD",
    )


def test_the_report_in_every_look(browser: Any, tmp_path: Path) -> None:
    spoiled = make_record(EVIL, 5, pictured=[make_pictured(0), make_pictured(1, predicted=4)])
    records = [*make_checked_records(), spoiled, make_record("bounds", 6, bounds=make_bounds(30))]
    write_report(records, tmp_path / "report.html")
    opened = Opened(browser, tmp_path / "report.html")
    page = opened.page
    for look in LOOKS:
        opened.look(*look)
    assert page.locator("#comparison-table th[scope=row]").all_inner_texts()[4] == EVIL
    assert page.locator("img").count() == 4

    def column(index: int) -> list[str]:
        return [
            text.split()[0] for text in page.locator(f"#comparison-table tbody td:nth-child({index})").all_inner_texts()
        ]

    title = page.locator("th[title='Clean accuracy (%)'] button")
    at = title.evaluate("button => button.closest('th').cellIndex") + 1
    title.click()
    down = column(at)
    assert down == sorted(down, key=float, reverse=True)
    title.click()
    assert column(at) == down[::-1]

    lines = "document.querySelector('.plot').data.filter(trace => trace.visible).length"
    before = page.evaluate(lines)
    page.locator(".key").first.click()
    assert page.evaluate(lines) == before - 1

    titles = page.locator("#comparison-table thead tr:last-child th").all_text_contents()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.undrawn() == 0
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 1017, "height": 700})  # A4 across, without its margins
    assert page.evaluate("document.documentElement.scrollWidth") <= 1017
    parts = page.locator("table.sortable:visible").all()
    printed = [part.locator("thead tr:last-child th").all_text_contents() for part in parts]
    assert len(parts) > 1
    assert [title for part in printed for title in part[1:]] == titles[1:]
    assert {part[0] for part in printed} == {"Run"}
    assert all(
        part.locator("tbody td, tbody th").count() == 6 * len(names) for part, names in zip(parts, printed, strict=True)
    )
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("table.sortable").count() == 1
    assert opened.troubles == []


def test_a_map_turns_into_a_relief_and_back(browser: Any, tmp_path: Path) -> None:
    pictures = PictureFigure("p", EVIL, (EVIL,), ((EVIL, (Tile(make_picture(3), EVIL),)),), ())
    crosses = replace(surface("crosses", 0.0), x_label="a $b$ c")
    panels = PanelFigure("panels", EVIL, ((crosses, surface("never", 1.0)), (pictures,)), (EVIL,))
    write_figure_page(panels, tmp_path / "figure.html")
    opened = Opened(browser, tmp_path / "figure.html")
    page = opened.page
    for look in LOOKS:
        opened.look(*look)
    assert page.locator("h1").inner_text() == EVIL
    assert page.locator(".legend").inner_text().count(EVIL) == 1
    assert page.locator("canvas").count() == 0
    button = page.get_by_role("button", name="Turn it in 3-D").first
    button.click()
    plot = "document.querySelector('.plot')"
    opened.wait(f"{plot}.data[0].type === 'surface' && {plot}.querySelector('canvas')")
    assert page.locator("canvas").count() == 1
    low, high = page.evaluate(f"{plot}._fullLayout.scene.zaxis.range")
    assert (low, high) == pytest.approx((-1.3, 2.3))  # the span of all panels, with some air
    assert page.evaluate(f"{plot}.data[0].z[10][10]") == -0.5
    page.get_by_role("button", name=re.compile("^Map")).click()
    assert page.evaluate(f"{plot}.data.map(trace => trace.type)")[:2] == ["contour", "contour"]
    assert page.evaluate(f"{plot}.data[1].z[10][10]") == -0.5
    assert page.locator("canvas").count() == 0
    assert opened.troubles == []
