"""What a reproduction found: the published figures, ours for each seed, and which of the paper's claims held.

Plain pydantic models without torch, as records are, so that pages and tables are written again on any machine.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Literal

from pydantic import Field

from meseta.errors import UserError
from meseta.evaluation.record import Provenance, Section, Verdict, parsed_file
from meseta.files import write_text
from meseta.report.comparison import MISSING

SCHEMA_VERSION = 1


class Entry(Section):
    """One entry of a table: what the paper printed, and what came out here, a value for each seed."""

    published: float | None = None
    """None where the paper has no such figure."""
    published_spread: float | None = None
    """What the paper prints after ±."""
    ours: list[float | None] = Field(default_factory=list)
    """One for each seed; None where a run has no finite value, such as one that diverged."""

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None where any of them has no value, for what is left says nothing of the method."""
        values = [value for value in self.ours if value is not None and math.isfinite(value)]
        return fmean(values) if values and len(values) == len(self.ours) else None

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds; None for fewer than two."""
        values = [value for value in self.ours if value is not None]
        return stdev(values) if len(values) > 1 and len(values) == len(self.ours) else None

    @property
    def difference(self) -> float | None:
        """Ours less the published value."""
        return None if self.mean is None or self.published is None else self.mean - self.published


class Row(Section):
    """One method: its entries, and what an honest evaluation says beside them."""

    name: str
    entries: list[Entry]
    worst_case: list[float | None] = Field(default_factory=list)
    """What the suite and the masking checks left at the threat of the table, in %, one for each seed; empty where the
    row was not judged."""
    verdict: Verdict | None = None
    """The worst of the masking verdicts over the seeds; None where nothing was checked."""
    note: str = ""
    """The setting that was chosen, or what happened."""


class ReproducedTable(Section):
    """A table of the paper, or one that it could have had."""

    key: str
    """A name for files and links: `table-1`."""
    title: str
    columns: list[str]
    rows: list[Row]
    unit: str = "%"
    digits: int = 1
    judged_at: str = ""
    """The threat, suite and number of examples of the worst case; empty where no row was judged."""
    notes: list[str] = Field(default_factory=list)

    @property
    def has_published(self) -> bool:
        """Whether the paper has any of these figures."""
        return any(entry.published is not None for row in self.rows for entry in row.entries)


class Claim(Section):
    """Something that the paper says, or that we say of why it is so, and what our figures say to it."""

    text: str
    holds: bool | None
    """None where our figures cannot tell."""
    evidence: str
    """One sentence with the numbers."""
    by: Literal["paper", "meseta"] = "paper"


class Part(Section):
    """What one part of a reproduction found: a table or a few, a figure or a few, and what they say."""

    title: str
    tables: list[ReproducedTable] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)
    figures: list[Annotated[str, Field(pattern=r"^[\w-]+$")]] = Field(default_factory=list)
    """Keys, which are the names of their files too."""
    notes: list[str] = Field(default_factory=list)
    provenance: Provenance | None = None
    """Of the call that made this part; others may be of other calls."""


class Setting(Section):
    """A setting that this scale changes."""

    name: str
    published: str
    here: str


class Reproduced(Section):
    """Everything that a reproduction found."""

    schema_version: Literal[1] = 1
    paper: str
    title: str
    citation: str
    scale: str
    settings: list[Setting]
    """What differs from the paper's scale."""
    choices: list[str]
    """Ours, where the paper is silent."""
    data: list[str]
    """The data sets, in words."""
    provenance: Provenance
    """Of the last call."""
    parts: dict[str, Part]


def read_reproduced(path: Path) -> Reproduced:
    """Read what a reproduction found; `path` is the file, or the folder that holds `reproduction.json`.

    Raises:
        UserError: no such file, not JSON, or fields that do not fit the schema.
    """
    file = path / "reproduction.json" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"reproduction: {file} does not exist. Make it: meseta reproduce PAPER.")
    return parsed_file(Reproduced, "reproduction", file, SCHEMA_VERSION)


def write_reproduced(found: Reproduced, folder: Path) -> None:
    """Write `reproduction.json` and `reproduction.md` into a folder, each whole or not at all."""
    write_text(folder / "reproduction.json", found.model_dump_json(indent=1) + "\n")
    write_text(folder / "reproduction.md", to_markdown(found))


def spelled(value: float | None, digits: int = 1) -> str:
    """Write a value with so many digits after the point; very large and very small ones in scientific notation."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.2e}" if _extreme(value, digits) else f"{value:.{digits}f}"


def with_spread(value: float | None, spread: float | None, digits: int) -> str:
    """Write a value and, where it has one, its spread."""
    text = spelled(value, digits)
    return text if spread is None or value is None else f"{text} ± {spread:.{digits}f}"


def differs(entry: Entry, digits: int) -> str:
    """Write by how much ours differs from the published value, with its sign; empty where there is nothing to tell."""
    if entry.difference is None or entry.published is None:
        return ""
    if _extreme(entry.published, digits):
        return f"{entry.difference:+.2e}"
    return f"{round(entry.difference, digits) + 0.0:+.{digits}f}"  # a difference of -0.0 is none


def _extreme(value: float, digits: int) -> bool:
    """Return whether a value is written in scientific notation."""
    return bool(value) and (abs(value) < 10**-digits / 2 or abs(value) >= 1e6)


def worst_case(row: Row) -> str:
    """Write the worst case of a row; an upper bound where gradients are masked."""
    entry = Entry(ours=row.worst_case)
    text = with_spread(entry.mean, entry.spread, 1)
    return f"≤{text}" if row.verdict == "broken" and entry.mean is not None else text


def seeds(tables: Sequence[ReproducedTable]) -> str:
    """Return how many seeds stand behind the entries, in words."""
    counts = {len(entry.ours) for table in tables for row in table.rows for entry in row.entries if entry.ours}
    if not counts:
        return ""
    many = f"{max(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"{many} seed{'' if many == '1' else 's'}"


HOLDS = {True: "holds", False: "does not hold", None: "not decided"}


def to_markdown(found: Reproduced) -> str:
    """Return everything found as Markdown."""
    lines = [f"# {found.title}", "", f"{found.citation}", "", f"Scale: **{found.scale}**.", ""]
    lines += [f"- Data: {data}" for data in found.data] + ["", *settings_in_markdown(found)]
    for key, part in found.parts.items():
        lines += [f"## {part.title}", "", f"`--only {key}`{made_in_words(part)}", ""]
        lines += [*claims_in_markdown(part.claims), ""] if part.claims else []
        for table in part.tables:
            lines += [*table_in_markdown(table), ""]
        lines += [f"![{figure}](figures/{figure}.png)\n" for figure in part.figures]
        lines += [*(f"- {note}" for note in part.notes), ""] if part.notes else []
    made = found.provenance
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    lines += [f"Last call: `{made.command}`, {made.created}, {versions}, {made.device}.", ""]
    return "\n".join(lines)


def settings_in_markdown(found: Reproduced) -> list[str]:
    """Return what the scale changes, and our choices."""
    lines = []
    if found.settings:
        lines += [f"What the scale `{found.scale}` changes:", "", "| setting | paper | here |", "|---|---|---|"]
        lines += [f"| {one.name} | {escaped(one.published)} | {escaped(one.here)} |" for one in found.settings] + [""]
    if found.choices:
        lines += ["Where the paper is silent, or differs from itself:", "", *(f"- {one}" for one in found.choices), ""]
    return lines


def made_in_words(part: Part) -> str:
    """Return when a part was made, and at which commit."""
    made = part.provenance
    if made is None:
        return ""
    return f", made {made.created[:10]}" + (f" at {made.commit}" if made.commit else "")


def claims_in_markdown(claims: Sequence[Claim]) -> list[str]:
    """Return the claims as a table."""
    lines = ["| claim | by | here | evidence |", "|---|---|---|---|"]
    for claim in claims:
        cells = (claim.text, claim.by, HOLDS[claim.holds], claim.evidence)
        lines.append(f"| {' | '.join(map(escaped, cells))} |")
    return lines


def table_in_markdown(table: ReproducedTable) -> list[str]:
    """Return a table: of each entry the published value, ours, and the difference."""
    judged = any(row.worst_case or row.verdict for row in table.rows)
    unit = f" ({table.unit})" if table.unit else ""
    header = ["", *(f"{column}{unit}" for column in table.columns), *(["worst case (%)", "masking"] if judged else [])]
    how = "; published → ours (difference)" if table.has_published else ""
    lines = [
        f"**{escaped(table.title)}**, {seeds([table]) or 'published only'}{how}.",
        "",
        f"| {' | '.join(map(escaped, header))} |",
        "|---" * len(header) + "|",
    ]
    for row in table.rows:
        cells = [row.name, *(_in_one(entry, table.digits) for entry in row.entries)]
        cells += [worst_case(row), row.verdict or "not checked"] if judged else []
        lines.append(f"| {' | '.join(map(escaped, cells))} |")
    lines += ["", f"Worst case: {table.judged_at}."] if judged and table.judged_at else []
    chosen = [f"{row.name}: {row.note}" for row in table.rows if row.note]
    lines += ["", *(f"- {escaped(note)}" for note in [*table.notes, *chosen])] if table.notes or chosen else []
    return lines


def _in_one(entry: Entry, digits: int) -> str:
    published = with_spread(entry.published, entry.published_spread, digits) if entry.published is not None else ""
    ours = with_spread(entry.mean, entry.spread, digits) if entry.ours else ""
    parts = [part for part in (published, ours) if part]
    difference = differs(entry, digits)
    return " → ".join(parts) + (f" ({difference})" if difference else "") or MISSING


def escaped(text: str) -> str:
    """Escape what would break a row of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")
