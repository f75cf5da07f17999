"""What a sweep is: the options that it varies, how it searches them, and the run that each cell stands for."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from itertools import product
from math import exp, isfinite, log, prod
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from meseta.checks import whole
from meseta.configuration import build, plain
from meseta.errors import UserError
from meseta.threat import Norm, Threat
from meseta.training import RunConfig
from meseta.workflow import EvaluateConfig

Search = Literal["tpe", "grid"]
Value = str | int | float | bool | None
"""Of one option in one cell: a number or a word; a method with settings is written `Soar(weight=2)`."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of an option between two ends, which belong to it.

    Args:
        low: the lowest value.
        high: the highest value.
        log: whether equal ratios count as equal steps.
        num: of how many values it stands for in a grid.
    """

    low: float
    high: float
    log: bool = False
    num: int | None = None

    def points(self) -> list[float]:
        """Return the values that it stands for in a grid."""
        if self.num is None or self.num == 1:
            return [self.low]
        scaled = (log(self.low), log(self.high)) if self.log else (self.low, self.high)
        between = [scaled[0] + (scaled[1] - scaled[0]) * i / (self.num - 1) for i in range(1, self.num - 1)]
        return [self.low, *(float(f"{exp(x) if self.log else x:.12g}") for x in between), self.high]


Option = Range | dict[Value, Any]
"""A range, or what may be chosen: the plain value of an option by how it is called."""


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """A search for the settings that make the most robust model among those that are accurate enough.

    Args:
        name: of the sweep and its folder.
        out: folder that it is made in.
        run: what all cells share; name and folder are set per cell.
        space: what is varied: options of the run by their dotted names, such as `objective.weight`, each with a list of
            values or a range {low, high, log, num}.
        search: "tpe", the tree-structured Parzen estimator, or "grid", every combination.
        trials: how many cells "tpe" tries; a larger number goes on with an earlier search. None for a grid.
        seed: of the search; the runs have their own.
        evaluate: how each cell is attacked, on held-out data: split "val", or "train", never "test".
        goal: the threat whose worst-case accuracy is to be large, such as {Linf: 8/255}; None where there is but one.
        floor: the least clean accuracy of a cell that may be chosen, in [0, 1]; None for any.
        storage: None for an SQLite file in the sweep's folder, "journal" for a journal file in it, or the URL of a
            database, such as postgresql://host/name, that many machines share.
        workers: processes that this command starts; the same command may run elsewhere or again beside it.
    """

    name: str = "sweep"
    out: str = "runs"
    run: RunConfig = RunConfig()
    space: dict[str, Any] = field(default_factory=dict)
    search: Search = "tpe"
    trials: int | None = None
    seed: int = 0
    evaluate: EvaluateConfig = field(default_factory=lambda: EvaluateConfig(split="val"))
    goal: dict[Norm, float] | None = None
    floor: float | None = None
    storage: str | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        replace(self.run, name=self.name)  # names are checked where runs check theirs
        whole("seed", self.seed, 0)
        whole("workers", self.workers, 1)
        if self.search not in ("tpe", "grid"):
            raise UserError(f"`search` must be tpe or grid, got {self.search!r}.")
        if self.evaluate.split == "test":
            raise UserError(
                "`evaluate.split` must be val or train, got test: what is chosen on the test set says nothing of it. "
                "Evaluate the chosen run on it afterwards."
            )
        if self.floor is not None and not 0 <= self.floor <= 1:
            raise UserError(f"`floor` must be a clean accuracy in [0, 1], such as 0.95, got {self.floor}.")
        if self.storage is not None and self.storage != "journal" and "://" not in self.storage:
            raise UserError(
                "`storage` must be journal or the URL of a database, such as postgresql://host/name, got "
                f"{self.storage!r}."
            )
        if self.storage and "://" in self.storage:
            _check_url(self.storage)
        if self.run.processes > 1 or {"devices", "nodes"} & self.space.keys():
            raise UserError("`devices`: each cell is trained by one process. Take more `workers`, for several at once.")
        self._check_trials()
        self.threat()
        self.check_cells()

    def _check_trials(self) -> None:
        if self.search == "tpe" and self.trials is None:
            raise UserError("`trials`: tpe needs to know how many cells it may try, such as 30.")
        if self.search == "grid" and self.trials is not None:
            raise UserError("`trials`: a grid has as many as its cells. Leave it out, or search with tpe.")
        if self.trials is not None:
            whole("trials", self.trials, 1)
        sizes = [_size(given) for given in self.space.values()] if self.search == "grid" else [self.trials or 0]
        if prod(sizes) > MOST_CELLS:  # before any is written out
            raise UserError(
                f"`space`: {prod(sizes):,} cells are more than {MOST_CELLS:,}. Vary less, or in fewer steps."
            )

    @property
    def folder(self) -> Path:
        """Where the cells and the report go."""
        return Path(self.out) / self.name

    def threat(self) -> Threat:
        """Return the threat whose worst-case accuracy is to be large.

        Raises:
            UserError: it is not one of those that cells are attacked with, or there are several and none was named.
        """
        known = self.evaluate.all_threats()
        shown = ", ".join(f"{{{threat.norm}: {threat.eps:.6g}}}" for threat in known)
        if self.goal is None and len(known) == 1:
            return known[0]
        if self.goal is None or len(self.goal) != 1:
            raise UserError(f"`goal` must name one of the threats of `evaluate`, such as {shown}.")
        ((norm, eps),) = self.goal.items()
        found = [threat for threat in known if threat.norm == norm and abs(threat.eps - eps) <= 1e-9 * eps]
        if not found:
            raise UserError(f"`goal`: cells are not attacked at {{{norm}: {eps:.6g}}}. Choose from {shown}.")
        return found[0]

    def options(self) -> dict[str, Option]:
        """Return what is varied, by dotted name; an option of an option follows it."""
        if not self.space:
            raise UserError("`space` must vary at least one option, such as {objective.weight: [0.1, 1]}.")
        for name in self.space:
            if not isinstance(name, str):
                raise UserError(f"`space` must name options, such as objective.weight, got {name!r}.")
        ordered = sorted(self.space, key=lambda name: name.count("."))
        return {name: _option(name, self.space[name], self.search) for name in ordered}

    def grid(self) -> list[dict[str, Value]]:
        """Return the settings of every cell of a grid, in order."""
        values = {name: self.points(name, option) for name, option in self.options().items()}
        return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]

    def points(self, name: str, option: Option) -> list[Value]:
        """Return the values of an option in a grid."""
        if not isinstance(option, Range):
            return list(option)
        points = option.points()
        return list(dict.fromkeys(round(point) for point in points)) if self.is_whole(name) else list(points)

    def count(self) -> int:
        """Return how many cells there are."""
        if self.trials is not None:
            return self.trials
        return prod(len(self.points(name, option)) for name, option in self.options().items())

    def is_whole(self, name: str) -> bool:
        """Return whether an option takes whole numbers alone."""
        value: Any = self.cell(self._first())
        for part in name.split("."):
            value = getattr(value, part)
        return isinstance(value, int) and not isinstance(value, bool)

    def _first(self) -> dict[str, Value]:
        """Return the first value of every option."""
        return {
            n: option.low if isinstance(option, Range) else next(iter(option)) for n, option in self.options().items()
        }

    def check_cells(self) -> None:
        """Raise where a cell would be no run: every cell of a grid, every choice and both ends of ranges for tpe."""
        if self.search == "grid":
            for settings in self.grid():
                self.cell(settings)
            return
        first = self._first()
        for name, option in self.options().items():
            for value in [option.low, option.high] if isinstance(option, Range) else option:
                self.cell({**first, name: value})

    def cell(self, settings: Mapping[str, Value], number: int = 1) -> RunConfig:
        """Return the run of a cell.

        Raises:
            UserError: an option that the run does not have, or a value that it does not take.
        """
        entries = plain(self.run)
        options = self.options()
        for name, value in settings.items():
            option = options[name]
            _put(entries, name, value if isinstance(option, Range) else deepcopy(option[value]))
        try:
            run = build(RunConfig, entries)
        except UserError as error:
            told = ", ".join(f"{name}={value}" for name, value in settings.items())
            raise UserError(f"`space`: no run has {told}: {error}") from None
        return replace(run, name=f"cell-{number:03d}", out=str(self.folder / "cells"))


MOST_CELLS = 10_000
"""Cells of a sweep: each is checked before the first is trained."""


def _size(given: Any) -> int:
    """Return of how many values what a space says of an option stands for, where it can be told."""
    num = given.get("num") if isinstance(given, Mapping) else given.num if isinstance(given, Range) else None
    size = num if isinstance(num, int) else len(given) if isinstance(given, list | tuple) else 1
    return max(1, size)


def _check_url(storage: str) -> None:
    """Raise where the URL of a database is none, tells a password, or keeps nothing."""
    try:
        parts = urlsplit(storage)
        _ = parts.port
    except ValueError as error:
        raise UserError(f"`storage`: {storage!r} is no URL of a database: {error}.") from None
    if parts.password or "password=" in storage:
        raise UserError(
            "`storage`: the URL holds a password, which records would tell. Leave it out, and give it as the "
            "database's client reads it, for PostgreSQL in ~/.pgpass or PGPASSWORD."
        )
    if parts.scheme.partition("+")[0] == "sqlite" and parts.path.strip("/") in ("", ":memory:"):
        raise UserError("`storage`: SQLite without a file keeps nothing. Leave `storage` out for one in the folder.")


def _option(name: str, given: Any, search: Search) -> Option:
    """Return what a space says of one option."""
    if isinstance(given, Mapping):
        known = [one.name for one in fields(Range)]
        if unknown := set(given) - set(known):
            raise UserError(f"`space`: {name}: a range has {', '.join(known)}, got {', '.join(map(str, unknown))}.")
        if not {"low", "high"} <= set(given):
            raise UserError(f"`space`: {name}: a range needs low and high, such as {{low: 0.1, high: 10, log: true}}.")
        given = Range(**given)
    if isinstance(given, Range):
        _check_range(name, given, search)
        return given
    if not isinstance(given, list | tuple) or not given:
        raise UserError(f"`space`: {name} must be a list of values or a range {{low, high}}, got {given!r}.")
    named = {called(plain(value)): plain(value) for value in given}
    if len(named) < len(given):
        raise UserError(f"`space`: {name} names a value twice: {', '.join(str(called(plain(v))) for v in given)}.")
    return named


def _check_range(name: str, given: Range, search: Search) -> None:
    for end in (given.low, given.high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not isfinite(end):
            raise UserError(f"`space`: {name}: low and high must be finite numbers, got {end!r}.")
    if not given.low < given.high:
        raise UserError(f"`space`: {name}: low must be below high, got {given.low} and {given.high}.")
    if not isinstance(given.log, bool):
        raise UserError(f"`space`: {name}: log must be true or false, got {given.log!r}.")
    if given.log and given.low <= 0:
        raise UserError(f"`space`: {name}: with log, low must be positive, got {given.low}.")
    if search == "tpe" and given.num is not None:
        raise UserError(f"`space`: {name}: tpe takes any value of a range. Leave num out, or search the grid.")
    if search == "grid":
        if given.num is None:
            raise UserError(f"`space`: {name}: a grid needs to know of how many values. Add num, or give a list.")
        whole(f"space.{name}.num", given.num, 2)


def called(value: Any) -> Value:
    """Return how a plain value is called: itself, or a method's name with the settings given."""
    if isinstance(value, dict) and "class_path" in value:
        given = value.get("init_args", {})
        if not isinstance(given, dict):
            raise UserError(f"`space`: the settings of {value['class_path']} must be a mapping, got {given!r}.")
        settings = ", ".join(f"{name}={called(one)}" for name, one in given.items())
        return f"{value['class_path']}({settings})" if settings else str(value["class_path"])
    return value if isinstance(value, Value) else json.dumps(value)


def _put(entries: dict[str, Any], name: str, value: Any) -> None:
    """Set an option in the plain entries of a run, by its dotted name."""
    if name in ("name", "out"):
        raise UserError(f"`space`: {name} is set for each cell by the sweep. Vary something else.")
    *path, last = name.split(".")
    at: Any = entries
    for depth, part in enumerate([*path, last]):
        if isinstance(at, dict) and "class_path" in at:
            at = at.setdefault("init_args", {})
        if not isinstance(at, dict) or (depth == 0 and part not in at):
            raise UserError(f"`space`: {name}: a run has no such option. `meseta train --help` tells them all.")
        if depth == len(path):
            at[part] = value
            return
        if isinstance(at.get(part), str):  # the name of a method
            at[part] = {"class_path": at[part]}
        at = at.get(part)
