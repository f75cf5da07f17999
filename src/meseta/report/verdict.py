"""What the masking checks say: one word for each run, why, and every check beside every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from meseta.evaluation.record import Finding, Masking, Record
from meseta.report.comparison import Run, unique

Word = Literal["trusted", "suspicious", "broken", "not checked"]

SYMBOLS = {"trusted": "✓", "fine": "✓", "suspicious": "!", "broken": "✗"}
"""A symbol beside the word, so that no colour is needed; what was not tested has none."""
UPPER_BOUND = "gradients are masked, and what attacks left is only an upper bound."
"""What is said below a figure of each run that is broken, after its name."""
_WORST_FIRST = ["broken", "suspicious", "fine", "untested"]
_DOUBTS = ("broken", "suspicious")


def verdict(record: Record) -> Word | None:
    """Return the verdict on a run that was attacked; None where it was not, so that there is nothing to trust."""
    if masking := masking_of(record):
        return masking.verdict
    attacked = record.evaluation and record.evaluation.robust
    return "not checked" if attacked or any(one.kind == "attack" for one in record.bounds) else None


def is_doubted(run: Run) -> bool:
    """Return whether some check found a reason not to take the run's figures for the best."""
    return verdict(run.record) in ("suspicious", "broken")


def is_broken(run: Run) -> bool:
    """Return whether gradient attacks do not see what the model does: all they say of it is an upper bound."""
    return verdict(run.record) == "broken"


def doubts_of(run: Run) -> str:
    """Return what is said of a run's robust figures below a figure that shows them; empty where nothing need be."""
    if is_broken(run):
        return UPPER_BOUND
    return "masking checks find it suspicious, so that its figures may be too high." if is_doubted(run) else ""


def masking_of(record: Record) -> Masking | None:
    """Return what the checks found, if any were run."""
    return record.evaluation.masking if record.evaluation else None


def labelled(word: str) -> str:
    """Write a verdict or a level with its symbol."""
    return f"{word} {SYMBOLS[word]}" if word in SYMBOLS else word


@dataclass(frozen=True)
class Examined:
    """A run that was checked, with its findings, worst first, each with the anchor it has on the page."""

    run: Run
    masking: Masking
    findings: tuple[tuple[str, Finding], ...]

    @property
    def doubts(self) -> list[tuple[str, Finding]]:
        """The findings that make the verdict worse than trusted."""
        return [(anchor, one) for anchor, one in self.findings if one.level in _DOUBTS]

    def of(self, level: str) -> list[Finding]:
        """Return the findings of one level."""
        return [one for _, one in self.findings if one.level == level]


def examined(runs: Sequence[Run]) -> list[Examined]:
    """Return the runs that were checked."""
    return [_examined(run, masking) for run in runs if (masking := masking_of(run.record))]


def _examined(run: Run, masking: Masking) -> Examined:
    findings = sorted(masking.findings, key=lambda one: _WORST_FIRST.index(one.level))
    return Examined(run, masking, tuple((f"finding-{run.style}-{i}", one) for i, one in enumerate(findings)))


def matrix(members: Sequence[Examined]) -> list[tuple[str, list[tuple[str, Finding] | None]]]:
    """Return each check with its finding on each run, None where it was not run; other settings are another check."""
    found = [{(one.name, one.check): (anchor, one) for anchor, one in member.findings} for member in members]
    checks = list(dict.fromkeys((one.name, one.check) for member in members for one in member.masking.findings))
    names = unique([name for name, _ in checks])
    return [(name, [one.get(check) for one in found]) for name, check in zip(names, checks, strict=True)]
