"""Runs that differ in one setting and in their seeds, drawn against the setting."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from statistics import fmean
from typing import Any

from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.report.comparison import unique
from meseta.report.figure import LineFigure, Series

APART = ("name", "out", "seed", "start_from", "accelerator", "watch")
"""Parts of a configuration in which runs of one line may differ: seeds, and what has no part in the training.

Runs that were fine-tuned may each start from their own baseline, but are no seeds of runs from scratch.
"""
START = "start"
"""Stands for whether a run was fine-tuned, among the settings in which sweeps differ."""


@dataclass(frozen=True)
class Sweep:
    """Runs that are alike but for one setting and their seeds.

    Attributes:
        name: of the objective, with the settings that tell it from other sweeps.
        records: by the value of the setting, in rising order; under None those that have no such setting, or have 0,
            which a logarithmic axis cannot show.
    """

    name: str
    records: Mapping[float | None, Sequence[Record]]

    @property
    def values(self) -> list[float]:
        """The values of the setting, those without one left out."""
        return [x for x in self.records if x is not None]

    def apart(self, without: str) -> list["Sweep"]:
        """Return the runs with the setting and those without it, named so, as two lines."""
        if not self.values or None not in self.records:
            return [self]
        having: dict[float | None, Sequence[Record]] = {x: self.records[x] for x in self.values}
        return [Sweep(self.name, having), Sweep(f"{self.name}, {without}", {None: self.records[None]})]


def sweeps(records: Sequence[Record], setting: str, *, besides: Sequence[str] = ()) -> list[Sweep]:
    """Sort records by what they have in common but for a setting of their objective.

    Args:
        records: of any number of sweeps.
        setting: a dotted ending of its path, such as `weight` or `solver.steps`, found however deep in the objective.
            Of several of that name the one that moves within a sweep.
        besides: other settings of the objective in which runs of one sweep may differ.

    Raises:
        UserError: a record without configuration; a sweep in which two settings of that name move.
    """
    sorted_out: dict[str, list[tuple[Record, dict[str, float]]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for record in records:
        flat = flattened(record.config)
        if "objective.class_path" not in flat:
            raise UserError(f"record: {record.name} does not say how it was trained, so that it is in no sweep.")
        found = {
            path: value for path, value in flat.items() if _is(setting, path) and (value is None or _number(value))
        }
        numbers = {path: value or 0.0 for path, value in found.items()}
        loose = {path for path in flat if path in found or any(_is(name, path) for name in besides)}
        rest = {k: v for k, v in flat.items() if k not in loose and k.split(".")[0] not in APART}
        rest[START] = "from scratch" if flat.get("start_from") is None else "fine-tuned"
        identity = repr(sorted(rest.items()))
        settings[identity] = rest
        sorted_out.setdefault(identity, []).append((record, numbers))
    names = _names(list(settings.values()))
    return [
        Sweep(name, _by_value(name, setting, members)) for name, members in zip(names, sorted_out.values(), strict=True)
    ]


def labels(records: Sequence[Record], setting: str, symbol: str) -> list[str]:
    """Return each record's value of a setting, with its objective where there are several."""
    found = sweeps(records, setting)
    said: dict[int, str] = {}
    for sweep in found:
        for value, group in sweep.records.items():
            parts = [sweep.name] if len(found) > 1 else []
            parts += [f"{symbol} = {value or 0:g}"] if value or len(sweep.records) > 1 or len(found) == 1 else []
            said |= {id(record): ", ".join(parts) for record in group}
    return unique([said[id(record)] for record in records])


def sweep_figure(
    key: str,
    title: str,
    lines: Sequence[tuple[str, int, Sweep, Callable[[Record], float | None]]],
    *,
    x_label: str,
    x_name: str,
    y_label: str,
    percent: bool = False,
    log_x: bool = True,
) -> LineFigure:
    """Return a line for each sweep and quantity: its mean over the seeds at each value of the setting.

    Whiskers go from the smallest to the largest of the seeds. A sweep without the setting is a line across.

    Args:
        lines: the name of each, the number of its style, the sweep, and what is drawn of a record, in % or in units of
            the y axis; None where it has none, which is left out. A point whose mean is not finite is left out too.
    """
    places = [x for _, _, sweep, _ in lines for x in sweep.values]
    drawn = [_line(name, style, sweep, value, places) for name, style, sweep, value in lines]
    seeds = [len(_by_seed(group)) for _, _, sweep, _ in lines for group in sweep.records.values()]
    return LineFigure(
        key=key,
        title=title,
        x_label=x_label,
        y_label=y_label,
        series=tuple(one for one in drawn if one.x),
        notes=(_note(min(seeds), max(seeds)),) if max(seeds, default=0) > 1 else (),
        percent=percent,
        interval="over the seeds" if max(seeds, default=0) > 1 else "",
        x_name=x_name,
        log_x=log_x,
    )


def _note(least: int, most: int) -> str:
    count = f"{most}" if least == most else f"{least} to {most}"
    return f"Means over {count} seeds. Whiskers: the smallest and the largest of them."


def _line(
    name: str, style: int, sweep: Sweep, value: Callable[[Record], float | None], places: Sequence[float]
) -> Series:
    points: list[tuple[float, float, float, float]] = []
    for place, group in sweep.records.items():
        found = [[v for v in map(value, runs) if v is not None] for runs in _by_seed(group)]
        values = [fmean(of_seed) for of_seed in found if of_seed]
        if values and isfinite(fmean(values)):
            summary = fmean(values), min(values), max(values)
            points += [(x, *summary) for x in ([place] if place is not None else [min(places), max(places)])]
    x, y, low, high = (tuple(point[k] for point in points) for k in range(4))
    return Series(name, style, x, y, low, high)


def _by_seed(group: Sequence[Record]) -> list[list[Record]]:
    """Return the runs seed by seed; runs fine-tuned from different baselines have different seeds."""
    found: dict[tuple[object, object], list[Record]] = {}
    for record in group:
        found.setdefault((record.config.get("seed"), record.config.get("start_from")), []).append(record)
    return list(found.values())


def _by_value(
    name: str, setting: str, members: Sequence[tuple[Record, Mapping[str, float]]]
) -> dict[float | None, list[Record]]:
    paths = list(members[0][1])
    moving = [path for path in paths if len({numbers[path] for _, numbers in members}) > 1]
    if len(moving) > 1:
        raise UserError(
            f"`run`: among the runs of {name} {' and '.join(moving)} both move. Give runs in which one of them does."
        )
    chosen = next(iter(moving or paths), None)
    values = [(numbers[chosen] if chosen else 0, record) for record, numbers in members]
    found: dict[float | None, list[Record]] = {}
    for number, record in sorted(values, key=lambda pair: pair[0]):
        found.setdefault(number or None, []).append(record)
    return found


def _is(setting: str, path: str) -> bool:
    """Return whether a path in the configuration is that of the setting, inside the objective."""
    bare = [part for part in path.split(".") if part != "init_args"]
    wanted = setting.split(".")
    return bare[0] == "objective" and bare[-len(wanted) :] == wanted


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def flattened(config: object, path: str = "") -> dict[str, Any]:
    """Return the leaves of nested settings by their dotted paths."""
    if isinstance(config, Mapping):
        entries = [(str(key), value) for key, value in config.items()]
    elif isinstance(config, list | tuple):
        entries = [(str(i), value) for i, value in enumerate(config)]
    else:
        return {path: config}
    return {
        leaf: value
        for key, inner in entries
        for leaf, value in flattened(inner, f"{path}.{key}" if path else key).items()
    }


def _names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the objective of each, with the settings in which those of one objective differ."""
    objectives = [_objective(one) for one in settings]
    names = []
    for one, name in zip(settings, objectives, strict=True):
        alike = [other for other, its in zip(settings, objectives, strict=True) if its == name]
        paths = dict.fromkeys(path for other in alike for path in other)
        apart = [path for path in paths if len({repr(other.get(path)) for other in alike}) > 1]
        differing = [
            one[path] if path == START else f"{path.split('.')[-1]}={one[path]}" for path in apart if path in one
        ]
        names.append(", ".join([name, *differing]))
    return unique(names)


def _objective(settings: Mapping[str, Any]) -> str:
    """Return the class of the objective and of those inside it; a schedule is none, nor is a plain `Erm` inside."""
    inside = [
        path
        for path in settings
        if path.split(".")[0] == "objective"
        and path.endswith("class_path")
        and not {"attack", "solver", "schedules", "loss", "threat", "start"} & set(path.split("."))
    ]
    classes = [str(settings[path]) for path in inside if settings[path] != "Scheduled"]
    return " + ".join([one for one in classes if one != "Erm"] or classes)
