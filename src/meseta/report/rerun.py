"""What it takes to run everything again: the settings of the runs, those that differ, and where each figure is from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meseta.evaluation.record import Provenance, Record
from meseta.report.comparison import MISSING, Run, unique

MOST_DIFFERING = 5
"""Settings in the table of comparison; more would leave no room for its figures, and the page lists all below."""


@dataclass(frozen=True)
class Setting:
    """One setting of every run, in the order of the runs."""

    key: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs disagree."""
        return len(set(self.values)) > 1

    @property
    def known(self) -> list[str]:
        """The values of the runs that have this setting."""
        return [value for value in self.values if value != MISSING]


def settings(runs: Sequence[Run]) -> list[Setting]:
    """Return every setting of the runs, the ones that differ first."""
    rows = _rows([_described(run.record) for run in runs])
    return sorted(rows, key=lambda row: not row.differs)


def differing(runs: Sequence[Run]) -> tuple[list[Setting], int]:
    """Return the settings to show beside the figures of each run, under short names, and how many there are in all.

    A setting counts where two runs that have it disagree: one that only a single objective knows says no more than the
    name of the objective. Those that most runs have come first.
    """
    rows = [row for row in _rows([_compared(run.record) for run in runs]) if len(set(row.known)) > 1]
    shown = sorted(rows, key=lambda row: -len(row.known))[:MOST_DIFFERING]
    names = _short([row.key for row in shown])
    return [Setting(name, row.values) for name, row in zip(names, shown, strict=True)], len(rows)


def _rows(flat: Sequence[dict[str, str]]) -> list[Setting]:
    keys = dict.fromkeys(key for one in flat for key in one)
    return [Setting(key, tuple(one.get(key, MISSING) for one in flat)) for key in keys]


def _described(record: Record) -> dict[str, str]:
    described = {"model": record.model, "data": record.data}
    if training := record.training:
        described |= {
            "objective": training.objective,
            "parameters": f"{training.parameters:,}".replace(",", "\u202f"),
            "training examples": f"{training.examples:,}".replace(",", "\u202f"),
            "epochs": str(training.epochs),
            "steps": str(training.steps),
        }
    return described | {f"config: {key}": value for key, value in flatten(record.config).items()}


def _compared(record: Record) -> dict[str, str]:
    """Return the settings by which runs compare: those of a wrapped objective are the objective's, as far as free."""
    objective = {"objective": _classes(record.training.objective)} if record.training else {}
    flat = {
        key: value
        for key, value in flatten(record.config).items()
        if not key.endswith("init_args") and key not in ("name", "out")
    }
    compared = objective | {"model": _classes(record.model)}
    for key, value in sorted(flat.items(), key=lambda item: item[0].count(".")):
        compared.setdefault(_named(key), value)
    return compared


def _named(key: str) -> str:
    """Return a dotted key with classes under the name of what they are: `objective.attack.steps`."""
    parts = [part for part in key.split(".") if part not in ("class_path", "init_args")]
    return ".".join(part for i, part in enumerate(parts) if part != "objective" or part not in parts[:i])


def _classes(text: str) -> str:
    """Return the name of a class from how it is written with its settings; of a wrapped objective both."""
    name, _, settings = text.partition("(")
    if not settings.startswith("objective="):
        return name
    return f"{name}({_classes(settings.removeprefix('objective='))})"


def _short(keys: Sequence[str]) -> list[str]:
    """Return the last parts of dotted keys, as many as tell them apart: `objective.attack.steps` is `steps`."""
    parts = [key.split(".") for key in keys]
    length = dict.fromkeys(range(len(keys)), 1)
    while True:
        names = [" ".join(part[-length[i] :]).replace("_", " ") for i, part in enumerate(parts)]
        same = [i for i, name in enumerate(names) if names.count(name) > 1 and length[i] < len(parts[i])]
        if not same:
            return unique(names)
        length |= {i: length[i] + 1 for i in same}


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Write a nested configuration as dotted keys and texts."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return flat


def sources(record: Record) -> list[tuple[str, Provenance]]:
    """Return where each section of a record comes from; pictures of one call share a line."""
    found: list[tuple[str, Provenance]] = []
    if record.training:
        found.append(("training", record.training.provenance))
    if record.evaluation:
        found.append(("evaluation", record.evaluation.provenance))
        if record.evaluation.masking:
            found.append(("masking checks", record.evaluation.masking.provenance))
    found += [(one.bound, one.provenance) for one in record.bounds]
    found += [(one.measure, one.provenance) for one in record.measures]
    found += [(f"surface: {one.settings}", one.provenance) for one in record.surfaces]
    found += [(f"profile: {one.settings}", one.provenance) for one in record.profiles]
    examples = {(one.settings, one.provenance.created): one for one in record.pictured}
    return found + [(f"pictures: {one.settings}", one.provenance) for one in examples.values()]
