"""Fill the tables of `docs/reproduction.md` from `results/`; take over what `meseta reproduce` found into `results/`.

    python docs/fill_reproduction.py                                   # what stands between the marks
    python docs/fill_reproduction.py runs/reproductions/ma2020-short   # the same, after copying what was found there

A mark `<!-- found: ma2020-short table-1 -->` begins what is filled in from that part, up to `<!-- end -->`: claims,
tables, and those figures that lie in `results/`; of the part `settings` what the scale changes, and our choices.
Nothing in between is written by hand.
"""

import re
import shutil
import sys
from pathlib import Path

from meseta.evaluation.record import read_record
from meseta.report.reproduced import Part, claims_in_markdown, read_reproduced, settings_in_markdown, table_in_markdown

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "results"
PAGE = DOCS / "reproduction.md"
MARK = re.compile(r"(<!-- found: ([\w-]+) ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
LARGEST = 600_000
"""Of a figure, in bytes; larger ones stay where they were made."""


def filled(text: str) -> str:
    """Return the page with everything between its marks as it is in `results/`."""
    return MARK.sub(lambda mark: f"{mark[1]}\n{_part(mark[2], mark[3])}\n{mark[5]}", text)


def _part(name: str, key: str) -> str:
    whole = read_reproduced(RESULTS / name) if (RESULTS / name).exists() else None
    if key == "settings":
        lines = settings_in_markdown(whole) if whole else []
        return "\n".join(["<details><summary>What is not the paper's</summary>", "", *lines, "</details>", ""])
    found = whole.parts if whole else {}
    if key not in found:
        paper, scale = name.rsplit("-", 1)
        return f"Not carried out yet: `meseta reproduce {paper} --scale {scale} --only {key}`.\n"
    part: Part = found[key]
    lines = claims_in_markdown(part.claims) if part.claims else []
    for table in part.tables:
        lines += ["", *table_in_markdown(table)]
    for figure in part.figures:
        if (RESULTS / name / f"{figure}.png").exists():
            lines += ["", f"![{part.title}](../results/{name}/{figure}.png)"]
    lines += ["", *(f"- {note}" for note in part.notes)] if part.notes else []
    return "\n".join([*lines, ""])


def take_over(folder: Path) -> None:
    """Copy what was found, the records of all runs and the figures into `results/`.

    Of the records the grids of surfaces and the pictures stay behind: they are large, and the figures show them.
    """
    found = read_reproduced(folder)
    target = RESULTS / f"{found.paper}-{found.scale}"
    shutil.rmtree(target, ignore_errors=True)
    (target / "records").mkdir(parents=True)
    shutil.copy(folder / "reproduction.json", target)
    for record in sorted(folder.glob("runs/*/record.json")):
        light = read_record(record).model_copy(update={"surfaces": [], "pictured": []})
        (target / "records" / f"{record.parent.name}.json").write_text(light.model_dump_json(indent=1) + "\n")
    for part in found.parts.values():
        for figure in part.figures:
            file = folder / "figures" / f"{figure}.png"
            if file.exists() and file.stat().st_size <= LARGEST:
                shutil.copy(file, target)


def main() -> None:
    """Take over the folders that are given, then fill the page."""
    for folder in sys.argv[1:]:
        take_over(Path(folder))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
