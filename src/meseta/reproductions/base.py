"""What a reproduction is: a paper's experiments as settings, parts that carry them out, and a page of what came out."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from meseta.checks import usable_device
from meseta.configuration import dump, plain
from meseta.errors import UserError, unknown_name
from meseta.evaluation import provenance
from meseta.evaluation.record import read_record
from meseta.files import write_text
from meseta.report.reproduced import Part, Reproduced, Setting, read_reproduced, write_reproduced
from meseta.report.reproduction_page import write_reproduction_page
from meseta.reproductions.lab import Lab

Scale = Literal["smoke", "short", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
PartOf = Callable[[Lab], Part]


@dataclass(frozen=True, kw_only=True)
class Reproduction(ABC):
    """A paper's experiments: the fields are what a scale sets, their defaults what the paper says.

    The docstring of each reproduction says what the paper does. `smoke` runs everything in a minute on the built-in
    digits, and its figures mean nothing; `short` takes at most 90 minutes on two cores; `paper` is as published.
    """

    paper: ClassVar[str]
    """As the command line names it."""
    title: ClassVar[str]
    citation: ClassVar[str]
    choices: ClassVar[tuple[str, ...]] = ()
    """Ours, where the paper is silent or differs from itself."""

    @classmethod
    @abstractmethod
    def at(cls, scale: Scale) -> Self:
        """Return the reproduction at a scale; at "paper" all fields have their defaults."""

    @abstractmethod
    def parts(self) -> Mapping[str, PartOf]:
        """Return what trains, attacks and measures each part, by its name on the command line."""

    def changed(self) -> list[Setting]:
        """Return the settings that differ from the published ones; of a setting that has settings, those."""
        return list(_differences("", type(self)(), self))


def _differences(name: str, published: Any, here: Any) -> Iterator[Setting]:
    if published == here:
        return
    if is_dataclass(here) and type(here) is type(published):
        for field in fields(here):
            label = f"{name}.{field.name}".removeprefix(".")
            yield from _differences(label, getattr(published, field.name), getattr(here, field.name))
    else:
        yield Setting(name=name, published=_said(published), here=_said(here))


def _said(value: object) -> str:
    value = plain(value)
    return "all" if value is None else value if isinstance(value, str) else json.dumps(value)


def reproduce(
    reproduction: Reproduction,
    scale: str,
    *,
    out: Path,
    only: Sequence[str] = (),
    processes: int = 1,
    say: Callable[[str], object] = print,
) -> Path:
    """Carry out a reproduction and write its page, its tables and its figures into a folder; return the page.

    After an interruption the same call goes on where it stopped. Parts that an earlier call with the same settings
    found stay on the page.

    Args:
        reproduction: with its settings.
        scale: the name for the folder and the page.
        out: the folder in which that of the reproduction is made.
        only: names of parts; all of them if empty.
        processes: how many trainings are under way at once.
        say: tells what is being done.

    Raises:
        UserError: an unknown part, or a folder that holds a reproduction with other settings.
    """
    parts = reproduction.parts()
    for name in only:
        if name not in parts:
            raise unknown_name("part", name, parts)
    folder = out / f"{reproduction.paper}-{scale}"
    found = dict(read_reproduced(folder).parts) if _goes_on(reproduction, folder) else {}
    device = usable_device(None)
    lab = Lab(folder, processes=processes, thorough=scale != "smoke", say=say)
    for name in only or parts:
        say(f"{reproduction.paper}: {name}")
        stop = provenance.start(None, device)
        found[name] = parts[name](lab).model_copy(update={"provenance": (made := stop())})
        section = Reproduced(
            paper=reproduction.paper,
            title=reproduction.title,
            citation=reproduction.citation,
            scale=scale,
            settings=reproduction.changed(),
            choices=list(reproduction.choices),
            data=_data(folder),
            provenance=made,
            parts={key: found[key] for key in parts if key in found},
        )
        write_reproduced(section, folder)  # after each part, so that an interruption loses none
        write_reproduction_page(section, lab.figures, folder)
    return folder / "reproduction.html"


def _goes_on(reproduction: Reproduction, folder: Path) -> bool:
    """Return whether the folder holds what an earlier call with these settings found; keep the settings there.

    Raises:
        UserError: it holds a reproduction with other settings.
    """
    file, written = folder / "reproduction.yaml", dump(reproduction)
    known = file.exists()
    if known and file.read_text(encoding="utf-8") != written:
        raise UserError(
            f"output folder: {folder} holds a reproduction with other settings. Give another --out, or remove it first."
        )
    write_text(file, written)
    return known and (folder / "reproduction.json").exists()


def _data(folder: Path) -> list[str]:
    """Return the data sets of all runs in words, each once: as the run of most training examples has it."""
    records = [read_record(file) for file in sorted(folder.glob("runs/*/record.json"))]
    found: dict[str, tuple[int, str]] = {}
    for record in records:
        key = json.dumps({**record.config["data"], "train_limit": None})
        found[key] = max(found.get(key, (0, "")), (record.training.examples if record.training else 0, record.data))
    return [words for _, words in found.values()]
