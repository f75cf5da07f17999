"""The page of a reproduction: published figures, ours, and what the paper claims beside what we found."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

from meseta.files import write_text
from meseta.report.comparison import MISSING
from meseta.report.figure import Figure
from meseta.report.reproduced import HOLDS, Reproduced, differs, made_in_words, seeds, spelled, with_spread, worst_case
from meseta.report.web import fill, keys_of_runs


def write_reproduction_page(found: Reproduced, figures: Mapping[str, Figure], folder: Path) -> Path:
    """Write `reproduction.html` into the folder, whole or not at all, and return it.

    Args:
        found: what is shown.
        figures: by key; of those that are not among them the page shows the PNG in `figures/`, if there is one.
        folder: of the reproduction.
    """
    path = folder / "reproduction.html"
    write_text(path, render(found, figures, folder))
    return path


def render(found: Reproduced, figures: Mapping[str, Figure], folder: Path) -> str:
    """Return the page."""
    keys = [key for part in found.parts.values() for key in part.figures]
    drawn = {key: figures[key] for key in keys if key in figures}
    pictures = {key: picture for key in keys if key not in drawn and (picture := _png(folder, key))}
    return fill(
        "reproduction.html",
        list(drawn.values()),
        found=found,
        drawn=drawn,
        pictures=pictures,
        keys_of_runs=keys_of_runs,
        spelled=spelled,
        with_spread=with_spread,
        differs=differs,
        worst_case=worst_case,
        seeds=seeds,
        holds=HOLDS,
        made_in_words=made_in_words,
        nothing=MISSING,
    )


def _png(folder: Path, key: str) -> str:
    file = folder / "figures" / f"{key}.png"
    return f"data:image/png;base64,{b64encode(file.read_bytes()).decode()}" if file.exists() else ""
