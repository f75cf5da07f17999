"""How large the report on many runs is, and how long a browser takes to open it.

Runs with everything: evaluations, masking checks, four measures of a thousand values, bounds, two surfaces of 101 x 101
points with two fields each, a profile, histories, six examples of 3 x 32 x 32 in pictures. The records are made up, by
the tests' factory; what is measured is the page. A page is open when a fresh headless Chromium page has run its scripts
and drawn the figures near the window.
"""

import shutil
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from common import Options, Page, Spread, options, seconds, table

from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.record import Record
from meseta.report import write_report

sys.path.append(str(Path(__file__).parents[1] / "tests" / "report"))

from report_factory import (
    lognormal,
    make_bounds,
    make_evaluation,
    make_masking,
    make_measured,
    make_pictured,
    make_profile,
    make_record,
    make_surface,
    make_transformed,
)

FIELDS = ("CrossEntropy", "Margin")
MEASURES = [f"{measure}({field})" for measure in ("SpectralCurvature", "GradientNorm") for field in FIELDS]
LOGGED = {"train/loss": 2.0, "val/loss": 3.0}


def full_record(seed: int) -> Record:
    """Return a record with every section."""
    checked = {"masking": make_masking(), "transformed": make_transformed(0.9)}
    record = make_record(f"run-{seed:02d}", seed, evaluation=make_evaluation(0.95 - 0.005 * seed, **checked))
    history = {name: [start / (1 + epoch + seed) for epoch in range(30)] for name, start in LOGGED.items()}
    return record.model_copy(
        update={
            "training": record.training and record.training.model_copy(update={"history": history}),
            "measures": [make_measured(name, lognormal(40 / (1 + seed), 1000, seed)) for name in MEASURES],
            "bounds": make_bounds(500, seed),
            "surfaces": [make_surface(seed, index=index) for index in (7, 8)],
            "profiles": [make_profile(seed)],
            "pictured": [make_pictured(i, channels=3, size=32) for i in range(6)],
        }
    )


def main(given: Options) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("`chromium` is not installed: the page cannot be opened.")
    from playwright.sync_api import sync_playwright

    stop = provenance.start(None, "cpu")
    counts, rounds = ((1, 2), 2) if given.quick else ((1, 5, 20), 7)
    measured, rows = {}, []
    with TemporaryDirectory() as folder, sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for count in counts:
            file = Path(folder) / f"{count}.html"
            records = [full_record(seed) for seed in range(count)]
            writing = seconds(partial(write_report, records, file))
            opening = Spread.of([opened(browser, file) for _ in range(rounds)])
            size = file.stat().st_size
            measured[str(count)] = {"bytes": size, "seconds_to_write": writing, "seconds_to_open": opening}
            times = (writing, opening.median, opening.min, opening.max)
            rows.append([str(count), f"{size / 1e6:.1f}", *(f"{time:.2f}" for time in times)])
        browser.close()
    header = ["runs", "MB", "seconds to write", "seconds to open (median)", "min", "max"]
    Page("Weight and speed of the report", measured, table(header, rows)).write("report", given, stop)


def opened(browser: Any, file: Path) -> float:
    """Return the seconds from the call until the figures in view are drawn, in a page without a cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    began = perf_counter()
    page.goto(file.as_uri())
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)))")
    time = perf_counter() - began
    context.close()
    return time


if __name__ == "__main__":
    main(options(__doc__))
