"""The walks that look at a run: surfaces, profiles along a direction, and gradients as pictures; kept in its record."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from meseta.attacks import PGD, Attack
from meseta.autodiff.scalar_fields import CrossEntropy, Decision, ScalarField
from meseta.checks import positive, whole
from meseta.errors import UserError
from meseta.evaluation.gradients import picture_gradients
from meseta.evaluation.profiles import profile
from meseta.evaluation.record import Pictured, Record, Surface
from meseta.evaluation.surfaces import parameter_surface, surface
from meseta.geometry import Expansion
from meseta.surfaces import Adversarial, Axis, Random, Towards, two
from meseta.threat import Norm, Threat
from meseta.workflow import Progress, Run, SplitName, check_counts, update


@dataclass(frozen=True, kw_only=True)
class SurfaceConfig:
    """What surface is looked at.

    Args:
        index: of the example in its split, where the space is that of inputs.
        space: "input", through that example, or "parameters", through the model's own.
        axes: two; None for a random and an adversarial one, or two random ones of parameters.
        fields: what is shown; None for the decision function, or the mean cross-entropy over parameters.
        norm: the norm in which axes have length 1; None for Linf.
        eps: the radius of the ball that is outlined and that the attack stays in; None for the largest that the first
            run was evaluated at in this norm, or 8/255.
        span: the largest coordinate on either axis; None for three times eps, or once the parameters' length.
        resolution: points along each axis; None for 101, or 31 for parameters.
        clipped: bring points that leave the valid inputs [0, 1] back to them, entry by entry.
        path: show the way of an attack.
        attack: whose way; None for 20 steps of PGD from the example on.
        own_axes: each run has axes of its own, as over parameters; elsewhere all are shown on the plane of the first.
        split: "test", "val" or "train".
        n: the first so many examples, whose mean is shown over parameters; None for 256.
    """

    index: int = 0
    space: Literal["input", "parameters"] = "input"
    axes: tuple[Axis, ...] | None = None
    fields: tuple[ScalarField, ...] | None = None
    norm: Norm | None = None
    eps: float | None = None
    span: float | None = None
    resolution: int | None = None
    clipped: bool = False
    path: bool = True
    attack: Attack | None = None
    own_axes: bool = False
    split: SplitName = "test"
    n: int | None = None

    def __post_init__(self) -> None:
        whole("index", self.index, 0)
        check_counts(self.n, None)
        if self.axes is not None:
            two(self.axes)
        if self.resolution is not None:
            whole("resolution", self.resolution, 2)
        if self.span is not None:
            positive("span", self.span)
        if self.eps is not None:
            Threat(self.norm or "Linf", self.eps)
        if self.attack and not self.path:
            raise UserError("`attack` says whose path is shown, and `path` that none is. Give one of them.")
        unused = ("index", "norm", "eps", "attack", "clipped", "own_axes")
        given = [name for name in unused if getattr(self, name)] + ([] if self.path else ["path"])
        if self.space == "parameters" and given:
            raise UserError(f"`{given[0]}` says nothing in the space of parameters. Leave it out, or use space=input.")
        if self.space == "input" and self.n is not None:
            raise UserError("`n` says nothing about one input. Leave it out, or use space=parameters.")

    def threat(self, run: Run) -> Threat:
        """Return the threat in whose norm distances are."""
        norm = self.norm or "Linf"
        return Threat(norm, self.eps or largest_eps(run.record, norm))


def largest_eps(record: Record, norm: Norm) -> float:
    """Return the largest eps at which a run was evaluated in this norm; 8/255 where it was not."""
    met = record.evaluation.robust if record.evaluation else []
    return max((one.eps for one in met if one.norm == norm), default=8 / 255)


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """Which examples the field is followed at, along a direction.

    Args:
        expansion: the field, the direction and the expansions.
        indices: of the examples in their split.
        split: "test", "val" or "train".
    """

    expansion: Expansion = Expansion()
    indices: tuple[int, ...] = (0,)
    split: SplitName = "test"

    def __post_init__(self) -> None:
        check_indices(self.indices)


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """Which examples' gradients are kept as pictures.

    Args:
        field: whose gradient; the decision function by default.
        indices: of the examples in their split.
        hessian: side in pixels of the square in the middle whose second derivatives are pictured too; 0 for none.
        split: "test", "val" or "train".
    """

    field: ScalarField = Decision()
    indices: tuple[int, ...] = (0,)
    hessian: int = 0
    split: SplitName = "test"

    def __post_init__(self) -> None:
        check_indices(self.indices)
        whole("hessian", self.hessian, 0)


def check_indices(indices: Sequence[int]) -> None:
    """Raise unless the indices of examples are whole numbers from 0, at least one."""
    if not indices:
        raise UserError("`indices` must name at least one example, such as [0].")
    for index in indices:
        whole("indices", index, 0)


def profile_run(run: Run, config: ProfileConfig) -> Record:
    """Follow a field along a direction at some examples, write the curves into the run's record and return that."""
    x, y = run.chosen(config.split, config.indices)
    found = profile(run.model, x, y, expansion=config.expansion, indices=config.indices, split=config.split)
    new = {(one.settings, one.split, one.index) for one in found}

    def sections(record: Record) -> dict[str, object]:
        return {"profiles": [*(p for p in record.profiles if (p.settings, p.split, p.index) not in new), *found]}

    return update(run.folder, sections)


def picture_run(run: Run, config: PictureConfig) -> Record:
    """Take the gradients of a field at some examples as pictures into the run's record, and return that."""
    x, y = run.chosen(config.split, config.indices)
    found = picture_gradients(
        run.model, x, y, field=config.field, indices=config.indices, hessian=config.hessian, split=config.split
    )
    new = {_subject(one) for one in found}
    return update(
        run.folder,
        lambda record: {"pictured": [*(one for one in record.pictured if _subject(one) not in new), *found]},
    )


def _subject(one: Pictured) -> tuple[object, ...]:
    """Return what tells pictures apart: the example, the field or attack, and the square of the Hessian."""
    square = one.pictures.get("hessian")
    return one.kind, one.settings, one.split, one.index, square and square.shape


def surface_runs(runs: Sequence[Run], config: SurfaceConfig, *, progress: Progress | None = None) -> list[Surface]:
    """Look at one surface of each run, write it into its record and return all; other surfaces in it are kept.

    All runs are shown on the plane of the first, whose gradients its axes follow, or each on its own.

    Raises:
        UserError: runs on inputs of other shapes than the first, or whose example is not the same.
    """
    if not runs:
        raise UserError("`run`: there is none. Give the folder of a run, such as runs/demo/erm.")
    for run in runs:  # before any is looked at
        check_same_example(run, runs[0], config)
    found = []
    for run in runs:
        axes_of = run if config.own_axes else runs[0]
        section = _surface(run, axes_of, config, config.threat(runs[0]), progress)
        update(run.folder, partial(_with, section))
        found.append(section)
    return found


def _with(section: Surface, record: Record) -> dict[str, object]:
    """Return the surfaces of a record with a new one in place of the same at the same example."""

    def subject(one: Surface) -> tuple[object, ...]:
        return one.settings, one.plane, one.split, one.index

    return {"surfaces": [*(one for one in record.surfaces if subject(one) != subject(section)), section]}


def _surface(run: Run, axes_of: Run, config: SurfaceConfig, threat: Threat, progress: Progress | None) -> Surface:
    common: dict[str, Any] = {
        "of": axes_of.record.name,
        "split": config.split,
        "settings": repr(config),
        "progress": progress,
    }
    if config.space == "parameters":
        x, y = (part.to(run.device) for part in run.examples(config.split, 256 if config.n is None else config.n)[:])
        return parameter_surface(
            run.model,
            x,
            y,
            axes=config.axes or (Random(), Random()),
            fields=config.fields or (CrossEntropy(),),
            span=1.0 if config.span is None else config.span,
            resolution=31 if config.resolution is None else config.resolution,
            **common | {"of": run.record.name},
        )
    x, y = _needed(run, config)
    return surface(
        run.model,
        x,
        y,
        index=config.index,
        axes=config.axes or (Random(), Adversarial()),
        fields=config.fields or (Decision(),),
        threat=threat,
        span=config.span,
        resolution=101 if config.resolution is None else config.resolution,
        clipped=config.clipped,
        attack=(config.attack or PGD(steps=20, random_start=False)) if config.path else None,
        axes_of=axes_of.model,
        **common,
    )


def _needed(run: Run, config: SurfaceConfig) -> tuple[Tensor, Tensor]:
    """Return the examples up to the last that is looked at or pointed to."""
    examples = run.examples(config.split, None)
    indices = [config.index, *(axis.index for axis in config.axes or () if isinstance(axis, Towards))]
    if max(indices) >= len(examples):
        raise UserError(f"`index` must be below the {len(examples)} examples of {config.split}, got {max(indices)}.")
    x, y = examples[: max(indices) + 1]
    return x.to(run.device), y.to(run.device)


def check_same_example(run: Run, first: Run, config: SurfaceConfig) -> None:
    """Raise unless both runs take the same inputs, and have the same example where one is looked at."""
    x = _needed(run, config)[0] if config.space == "input" else None
    if run is first:
        return
    if run.model.input_shape != first.model.input_shape or run.model.classes != first.model.classes:
        raise UserError(
            f"`run`: {run.folder} takes {run.model.input_shape} and {run.model.classes} classes, {first.folder} takes "
            f"{first.model.input_shape} and {first.model.classes}. Give runs on the same data."
        )
    if x is not None and not torch.equal(x, _needed(first, config)[0].to(run.device)):
        raise UserError(
            f"`run`: example {config.index} of {config.split} is not the same in {run.folder} and {first.folder}. "
            "Give runs on the same data, or look at one at a time."
        )
