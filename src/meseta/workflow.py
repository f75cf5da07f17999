"""The walks from end to end: evaluate and measure a trained run, and compare several objectives in one go."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

import torch
from torch import Tensor

from meseta.attacks import FMN, PGD, Attack, MinimumNormAttack, Transformation
from meseta.autodiff.scalar_fields import CrossEntropy, Decision, Model, ScalarField
from meseta.certificates import CurvatureCertificate, HolderEstimate, LinearPiece, LipschitzCertificate, RadiusBound
from meseta.certificates.chain import read_chain
from meseta.checks import positive, usable_device, whole
from meseta.configuration import dump, read
from meseta.data import ImageData, Split, batches
from meseta.errors import UserError
from meseta.evaluation.gradients import picture_gradients
from meseta.evaluation.judge import predict
from meseta.evaluation.ledger import Ledger, digest, fingerprint, parsed
from meseta.evaluation.masking import MaskingCheck
from meseta.evaluation.nearest import distances
from meseta.evaluation.profiles import profile
from meseta.evaluation.record import Bounded, Evaluation, Masking, Record, Surface, read_record, write_record
from meseta.evaluation.robustness import evaluate
from meseta.evaluation.statistics import certify, measure
from meseta.evaluation.suites import Suite
from meseta.evaluation.surfaces import parameter_surface, surface
from meseta.geometry import Expansion, GradientNorm, Measure, SpectralCurvature
from meseta.models import Network
from meseta.objectives import Objective
from meseta.processes import Workers
from meseta.surfaces import Adversarial, Axis, Random, Towards, two
from meseta.threat import Norm, Threat
from meseta.training import RunConfig, train

SplitName = Literal["train", "val", "test"]
Progress = Callable[[int], None]


INPUT_VALUES = 2**18
"""What a batch holds at most where the batch size is left open, in input values: 64 of CIFAR-10, 1 of 3×224×224."""


def check_counts(n: int | None, batch_size: int | None) -> None:
    """Raise unless n and the batch size are None or positive."""
    if n is not None:
        whole("n", n, 1)
    if batch_size is not None:
        whole("batch_size", batch_size, 1)


def by_norm(attacks: Sequence[MinimumNormAttack]) -> list[tuple[MinimumNormAttack, ...]]:
    """Return the attacks, those of one norm together."""
    norms = dict.fromkeys(attack.threat.norm for attack in attacks)
    return [tuple(attack for attack in attacks if attack.threat.norm == norm) for norm in norms]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What a run is attacked with.

    Args:
        threats: the radii of each norm, such as {Linf: [2/255, 8/255], L2: [0.5, 1]}.
        suite: "quick", "standard" or "autoattack", run as a cascade; None for "standard", or for the attacks.
        attacks: in place of a suite: each run under every threat, in place of its own, on all examples.
        sources: folders of other runs, whose adversarial examples are tried on this one.
        checks: for gradient masking; None for all of them, [] for none.
        checked: how many of the first examples they examine.
        transformations: rotations, noise and other changes that are no norm ball.
        nearest: minimum-norm attacks; the distribution of the smallest distances that those of one norm find.
        split: "test", or "val" and "train" for choosing hyper-parameters.
        n: the first so many examples of the split; None for all.
        batch_size: examples attacked at a time.
        seed: of all randomness.
    """

    threats: dict[Norm, tuple[float, ...]] = field(default_factory=lambda: {"Linf": (2 / 255, 4 / 255, 8 / 255)})
    suite: Suite | None = None
    attacks: tuple[Attack, ...] | None = None
    sources: tuple[str, ...] = ()
    checks: tuple[MaskingCheck, ...] | None = None
    checked: int = 100
    transformations: tuple[Transformation, ...] = ()
    nearest: tuple[MinimumNormAttack, ...] = ()
    split: SplitName = "test"
    n: int | None = None
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self.n, self.batch_size)
        whole("checked", self.checked, 1)
        whole("seed", self.seed, 0)
        if self.attacks is not None and len(self.attacks) == 0:
            raise UserError("`attacks` must hold at least one attack. Leave it out for the standard suite.")
        if self.attacks is not None and self.suite is not None:
            raise UserError("`suite` and `attacks` both say what to attack with. Give one of them.")
        if not self.all_threats():
            raise UserError("`threats` must hold at least one radius, such as {Linf: [8/255]}.")

    def all_threats(self) -> list[Threat]:
        """Return one threat per norm and radius."""
        return [Threat(norm, eps) for norm, radii in self.threats.items() for eps in radii]


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """What is measured on a run.

    Args:
        measures: one or more.
        split: "test", "val" or "train".
        n: the first so many examples of the split; None for all.
        batch_size: examples at a time; None for 64, and fewer where they are larger than CIFAR-10's, so that second
            derivatives of large images fit into memory.
    """

    measures: tuple[Measure, ...] = (SpectralCurvature(), GradientNorm())
    split: SplitName = "test"
    n: int | None = 1000
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self.n, self.batch_size)
        if not self.measures:
            raise UserError("`measures` must hold at least one measure, such as [SpectralCurvature].")


@dataclass(frozen=True, kw_only=True)
class CertifyConfig:
    """What bounds are taken on a run, from below and from above.

    Args:
        bounds: certificates, estimates and proxies; None for `offered_bounds`, as far as they cover the network.
        attacks: minimum-norm attacks; the smallest distance that those of one norm find is the bound from above.
        split: "test", "val" or "train".
        n: the first so many examples of the split; None for all.
        batch_size: examples at a time; None for 256, and fewer where they are large.
    """

    bounds: tuple[RadiusBound, ...] | None = None
    attacks: tuple[MinimumNormAttack, ...] = (FMN(threat=Threat("L2")),)
    split: SplitName = "test"
    n: int | None = 500
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_counts(self.n, self.batch_size)
        if self.bounds == () and not self.attacks:
            raise UserError("`bounds` and `attacks` are both empty. Give at least one bound, such as [LinearPiece].")

    def sections(self) -> list[str]:
        """Return what the records of all bounds and attacks say that they are, in order."""
        suites = [", ".join(map(repr, suite)) for suite in by_norm(self.attacks)]
        return [*map(repr, self.bounds or ()), *suites]


@dataclass(frozen=True, kw_only=True)
class SurfaceConfig:
    """What surface is looked at.

    Args:
        index: of the example in its split, where the space is that of inputs.
        space: "input", through that example, or "parameters", through the model's own.
        axes: two; None for a random and an adversarial one, or two random ones of parameters.
        fields: what is shown; None for the decision function, or the mean cross-entropy over parameters.
        norm: the norm in which axes have length 1.
        eps: the radius of the ball that is outlined and that the attack stays in; None for the largest that the first
            run was evaluated at in this norm, or 8/255.
        span: the largest coordinate on either axis; None for three times eps, or once the parameters' length.
        resolution: points along each axis; None for 101, or 31 for parameters.
        clipped: bring points that leave the valid inputs [0, 1] back to them, entry by entry.
        attack: its way is seen on the plane; None for 20 steps of PGD from the example on.
        own_axes: each run has axes of its own, as over parameters; elsewhere all are shown on the plane of the first.
        split: "test", "val" or "train".
        n: the first so many examples, whose mean is shown over parameters; None for 256.
    """

    index: int = 0
    space: Literal["input", "parameters"] = "input"
    axes: tuple[Axis, ...] | None = None
    fields: tuple[ScalarField, ...] | None = None
    norm: Norm = "Linf"
    eps: float | None = None
    span: float | None = None
    resolution: int | None = None
    clipped: bool = False
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
            Threat(self.norm, self.eps)
        unused = ("index", "eps", "attack", "clipped", "own_axes")
        given = [name for name in unused if getattr(self, name)]
        if self.space == "parameters" and given:
            raise UserError(f"`{given[0]}` says nothing in the space of parameters. Leave it out, or use space=input.")
        if self.space == "input" and self.n is not None:
            raise UserError("`n` says nothing about one input. Leave it out, or use space=parameters.")

    def threat(self, run: "Run") -> Threat:
        """Return the threat in whose norm distances are."""
        met = run.record.evaluation.robust if run.record.evaluation else []
        radii = [one.eps for one in met if one.norm == self.norm]
        return Threat(self.norm, self.eps or max(radii, default=8 / 255))


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


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several objectives, trained alike, evaluated alike and reported side by side.

    Args:
        name: of the comparison and its folder.
        out: folder that it is made in.
        run: what all runs share; its name, folder and objective are set per run.
        objectives: by the name of their run.
        evaluate: how each run is attacked.
        measure: what is measured on each run.
        certify: what bounds are taken on each run; None for none.
    """

    name: str = "comparison"
    out: str = "runs"
    run: RunConfig = RunConfig()
    objectives: dict[str, Objective] = field(default_factory=dict)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    measure: MeasureConfig = MeasureConfig()
    certify: CertifyConfig | None = None

    def __post_init__(self) -> None:
        if not self.objectives:
            raise UserError("`objectives` must name at least one objective, such as {erm: Erm}.")
        if "figures" in self.objectives:
            raise UserError("`objectives`: a run cannot be named figures, which is the folder of the report's figures.")
        replace(self.run, name=self.name)  # names are checked where runs check theirs

    @property
    def folder(self) -> Path:
        """Where the runs and the report go."""
        return Path(self.out) / self.name

    def runs(self) -> list[RunConfig]:
        """Return the configuration of every run."""
        shared = replace(self.run, out=str(self.folder))
        return [replace(shared, name=name, objective=objective) for name, objective in self.objectives.items()]


@dataclass(frozen=True)
class Run:
    """A finished run, loaded: its folder, record, configuration, model on its device and data."""

    folder: Path
    record: Record
    config: RunConfig
    model: Network
    data: ImageData

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def batches(
        self, split: SplitName, n: int | None, batch_size: int | None, *, most: int = 64
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the first n examples of a split in batches; without a size `most`, as far as memory may allow."""
        fitting = max(1, min(most, INPUT_VALUES // prod(self.data.input_shape)))
        return batches(self.examples(split, n), batch_size or fitting)

    def examples(self, split: SplitName, n: int | None) -> Split:
        """Return the first n examples of a split, all of them where n is None."""
        chosen: Split = getattr(self.data, split)
        return chosen.head(n)

    def chosen(self, split: SplitName, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of a split at some indices, on the model's device.

        Raises:
            UserError: an index beyond the split.
        """
        examples = self.examples(split, None)
        if max(indices) >= len(examples):
            raise UserError(f"`indices` must be below {len(examples)}, the size of {split}, got {max(indices)}.")
        x, y = examples[list(indices)]
        return x.to(self.device), y.to(self.device)


def load_run(folder: Path, *, device: str | None = None) -> Run:
    """Load a finished run.

    Raises:
        UserError: no record, or a damaged or foreign record, configuration or checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f"run: {folder} does not exist. Give the folder of a run, such as runs/demo/erm.")
    target = usable_device(device)
    record = read_record(folder)
    config = read(RunConfig, folder / "config.yaml")
    model = Network.from_pretrained(folder, target)
    data = config.data.load()
    if (model.input_shape, model.classes) != (data.input_shape, data.num_classes):
        raise UserError(
            f"run: the model in {folder} takes {model.input_shape} and {model.classes} classes, its data now has "
            f"{data.input_shape} and {data.num_classes}. Was the data folder changed?"
        )
    return Run(folder, record, config, model, data)


def evaluate_run(
    run: Run,
    config: EvaluateConfig,
    *,
    processes: int = 1,
    progress: Callable[[float], object] | None = None,
    examined: Callable[[Masking | None], object] | None = None,
) -> Record:
    """Attack a run, write the result into its record and return that; other sections of it are kept.

    What is finished lies in the run's folder until the end, so that a call after an interruption goes on from there.

    Args:
        run: a finished run.
        config: what it is attacked with.
        processes: how many share the work; the figures do not depend on it.
        progress: called with how many examples were done since the last call, in parts.
        examined: called with what the masking checks found, before the attacks.
    """
    whole("processes", processes, 1)
    sources = _sources(run, config.sources)
    settings = _settings(config, sources)
    keep = run.folder / UNFINISHED / settings[:16]
    nearest = [_nearest(run, config, suite, keep) for suite in by_norm(config.nearest)]
    attack = partial(_evaluate, run, config, sources, nearest, keep)
    m = min(processes, -(-len(run.examples(config.split, config.n)) // config.batch_size))
    if m > 1:
        with Workers(m, run.device, _share_of_evaluation, run.folder, config, nearest, keep) as workers:

            def start(masking: Masking | None) -> None:  # after the checks, whose findings the others read
                if examined:
                    examined(masking)
                workers.start()

            attack(shard=(0, m), progress=workers.watched(progress), examined=start)
        section = attack()  # all is done, and added up
    else:
        section = attack(progress=progress, examined=examined)
    record = _update(
        run.folder,
        evaluation=section.model_copy(update={"settings": settings}),
        bounds=_replaced(read_record(run.folder).bounds, nearest),
    )
    rmtree(keep, ignore_errors=True)
    with suppress(OSError):  # another evaluation's lies there
        keep.parent.rmdir()
    return record


UNFINISHED = "evaluation.unfinished"
"""The folder, in that of the run, of what evaluations have finished so far, one folder each."""


def _nearest(run: Run, config: EvaluateConfig, suite: Sequence[MinimumNormAttack], keep: Path) -> Bounded:
    """Return the smallest distances that attacks of one norm find; kept, as steps of the evaluation are."""
    ledger, key = Ledger(keep), digest(fingerprint(run.model), repr(suite))
    found = parsed(Bounded, ledger.get(key))
    if found is None:
        examples = run.batches(config.split, config.n, config.batch_size)
        found = distances(run.model, examples, attacks=suite, seed=config.seed, split=config.split)
        ledger.put(key, found.model_dump_json())
    return found


def _evaluate(
    run: Run,
    config: EvaluateConfig,
    sources: Mapping[str, Model],
    nearest: Sequence[Bounded],
    keep: Path,
    **options: Any,
) -> Evaluation:
    return evaluate(
        run.model,
        run.batches(config.split, config.n, config.batch_size),
        threat=config.all_threats(),
        suite=config.suite,
        attacks=config.attacks,
        sources=sources,
        checks=config.checks,
        checked=config.checked,
        nearest=nearest,
        transformations=config.transformations,
        seed=config.seed,
        split=config.split,
        keep=keep,
        **options,
    )


def _sources(run: Run, folders: Sequence[str]) -> dict[str, Model]:
    """Return the models of other runs by their folders' names.

    Raises:
        UserError: one takes other inputs or has other classes than the run attacked.
    """
    models: dict[str, Model] = {}
    for folder in map(Path, folders):
        model = Network.from_pretrained(folder, run.device)
        if (model.input_shape, model.classes) != (run.model.input_shape, run.model.classes):
            raise UserError(
                f"`sources`: {folder} takes {model.input_shape} and {model.classes} classes, the run attacked takes "
                f"{run.model.input_shape} and {run.model.classes}. Give runs on the same data."
            )
        models[folder.name if folder.name not in models else str(folder)] = model
    return models


def _share_of_evaluation(
    folder: Path, config: EvaluateConfig, nearest: Sequence[Bounded], keep: Path, *, device: str, **options: Any
) -> None:
    """Take one shard of an evaluation; what is finished goes into the folder to keep."""
    run = load_run(folder, device=device)
    _evaluate(run, config, _sources(run, config.sources), nearest, keep, **options)


def measure_run(run: Run, config: MeasureConfig, *, progress: Progress | None = None) -> Record:
    """Measure a run, write the results into its record and return that; other measures in it are kept."""
    for chosen in config.measures:
        examples = run.batches(config.split, config.n, config.batch_size)
        section = measure(run.model, examples, measure=chosen, split=config.split, progress=progress)
        kept = [m for m in read_record(run.folder).measures if (m.measure, m.split) != (section.measure, section.split)]
        _update(run.folder, measures=[*kept, section])  # each at once, so that a later one that fails loses nothing
    return read_record(run.folder)


def profile_run(run: Run, config: ProfileConfig) -> Record:
    """Follow a field along a direction at some examples, write the curves into the run's record and return that."""
    x, y = run.chosen(config.split, config.indices)
    found = profile(run.model, x, y, expansion=config.expansion, indices=config.indices, split=config.split)
    new = {(one.settings, one.split, one.index) for one in found}
    kept = [one for one in read_record(run.folder).profiles if (one.settings, one.split, one.index) not in new]
    return _update(run.folder, profiles=[*kept, *found])


def picture_run(run: Run, config: PictureConfig) -> Record:
    """Take the gradients of a field at some examples as pictures into the run's record, and return that."""
    x, y = run.chosen(config.split, config.indices)
    found = picture_gradients(
        run.model, x, y, field=config.field, indices=config.indices, hessian=config.hessian, split=config.split
    )
    new = {(one.kind, one.settings, one.split, one.index) for one in found}
    earlier = read_record(run.folder).pictured
    kept = [one for one in earlier if (one.kind, one.settings, one.split, one.index) not in new]
    return _update(run.folder, pictured=[*kept, *found])


WIDE = 2048
"""From so many units in a layer on, certificates in balls take seconds for each example."""


def offered_bounds(run: Run, x: Tensor) -> tuple[RadiusBound, ...]:
    """Return what `meseta certify` takes where nothing is asked for: two certificates, an estimate and a proxy.

    The certificates follow a ball around each example, or hold everywhere where the network is wide.
    """
    try:
        chain = read_chain(run.model, x, "certify", curved=False)
    except UserError:  # which says why when the certificates are tried
        widest = 0
    else:
        widest = max(prod(affine.out_shape) for affine in chain.maps)
    curvature = CurvatureCertificate(bound="local" if widest < WIDE else "interval")
    return curvature, LipschitzCertificate(local=widest < WIDE), HolderEstimate(), LinearPiece()


def settle(run: Run, config: CertifyConfig) -> tuple[CertifyConfig, list[str]]:
    """Return the configuration with its bounds named, and why those that do not cover the network were left out."""
    if config.bounds is not None:
        return config, []
    x, y = next(run.batches(config.split, 4, 4))
    y = predict(run.model, x, y).argmax(1)  # a bound may refuse a network only where it is right
    covering, refused = [], []
    for bound in offered_bounds(run, x):
        try:
            bound(run.model, x, y)
            covering.append(bound)
        except UserError as error:
            refused.append(str(error))
    return replace(config, bounds=tuple(covering)), refused


def certify_run(run: Run, config: CertifyConfig, *, progress: Progress | None = None) -> Record:
    """Take bounds on a run, write the results into its record and return that; other bounds in it are kept."""
    config, _ = settle(run, config)
    taken: list[Callable[..., Bounded]] = [
        *(partial(certify, bound=bound) for bound in config.bounds or ()),
        *(partial(distances, attacks=suite) for suite in by_norm(config.attacks)),
    ]
    for take in taken:
        examples = run.batches(config.split, config.n, config.batch_size, most=256)
        section = take(run.model, examples, split=config.split, progress=progress)
        _update(run.folder, bounds=_replaced(read_record(run.folder).bounds, [section]))
    return read_record(run.folder)


def surface_runs(runs: Sequence[Run], config: SurfaceConfig, *, progress: Progress | None = None) -> list[Surface]:
    """Look at one surface of each run, write it into its record and return all; other surfaces in it are kept.

    All runs are shown on the plane of the first, whose gradients its axes follow, or each on its own.

    Raises:
        UserError: runs on inputs of other shapes than the first, or whose example is not the same.
    """
    if not runs:
        raise UserError("`run`: there is none. Give the folder of a run, such as runs/demo/erm.")
    found = []
    for run in runs:
        axes_of = run if config.own_axes else runs[0]
        _check_same_example(run, runs[0], config)
        section = _surface(run, axes_of, config, config.threat(runs[0]), progress)
        kept = read_record(run.folder).surfaces
        same = (section.settings, section.plane, section.split, section.index)
        others = [one for one in kept if (one.settings, one.plane, one.split, one.index) != same]
        _update(run.folder, surfaces=[*others, section])
        found.append(section)
    return found


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
        attack=config.attack or PGD(steps=20, random_start=False),
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


def _check_same_example(run: Run, first: Run, config: SurfaceConfig) -> None:
    if run is first:
        return
    if run.model.input_shape != first.model.input_shape or run.model.classes != first.model.classes:
        raise UserError(
            f"`run`: {run.folder} takes {run.model.input_shape} and {run.model.classes} classes, {first.folder} takes "
            f"{first.model.input_shape} and {first.model.classes}. Give runs on the same data."
        )
    if config.space == "input" and not torch.equal(_needed(run, config)[0], _needed(first, config)[0].to(run.device)):
        raise UserError(
            f"`run`: example {config.index} of {config.split} is not the same in {run.folder} and {first.folder}. "
            "Give runs on the same data, or look at one at a time."
        )


def _replaced(bounds: Sequence[Bounded], by: Sequence[Bounded]) -> list[Bounded]:
    """Return bounds with new ones in place of those with the same settings."""
    new = {(b.bound, b.split) for b in by}
    return [*(b for b in bounds if (b.bound, b.split) not in new), *by]


def compare(config: Comparison, *, progress: bool = False, say: Callable[[str], object] = print) -> list[Record]:
    """Train, evaluate and measure every run of a comparison; what an earlier call finished is kept.

    A finished run with the same configuration is not trained again, and one that was evaluated and measured with the
    same settings is left alone, so that an interrupted comparison goes on where it stopped. An unfinished run is
    trained again from the start.

    Raises:
        UserError: a run of that name exists with another configuration; nothing is changed then.
    """
    runs = config.runs()
    for run in runs:
        _check_same(Path(run.out) / run.run_name, run)
    records = []
    for run in runs:
        folder = Path(run.out) / run.run_name
        if not (folder / "record.json").exists():
            say(f"{run.run_name}: training {run.objective!r}")
            if folder.exists():
                rmtree(folder)
            train(run, progress=progress)
        loaded = load_run(folder)
        if not _evaluated(loaded, config.evaluate):
            say(f"{run.run_name}: attacking")
            evaluate_run(loaded, config.evaluate)
        if not _measured(loaded, config.measure):
            say(f"{run.run_name}: measuring")
            measure_run(loaded, config.measure)
        if config.certify and not _certified(loaded, settle(loaded, config.certify)[0]):
            say(f"{run.run_name}: certifying")
            certify_run(loaded, config.certify)
        records.append(read_record(folder))
    return records


def _check_same(folder: Path, run: RunConfig) -> None:
    written = folder / "config.yaml"
    if folder.exists() and any(folder.iterdir()) and (not written.exists() or written.read_text() != dump(run)):
        raise UserError(
            f"output folder: {folder} already holds a run with another configuration. Give another name or out folder, "
            "or remove it first."
        )


def _evaluated(run: Run, config: EvaluateConfig) -> bool:
    """Return whether the record holds an evaluation with just these settings, of the same sources."""
    done = run.record.evaluation
    return done is not None and done.settings == _settings(config, _sources(run, config.sources))


def _settings(config: EvaluateConfig, sources: Mapping[str, Model]) -> str:
    return digest(repr(config), *map(fingerprint, sources.values()))


def _measured(run: Run, config: MeasureConfig) -> bool:
    """Return whether the record holds all these measures, on just these examples."""
    n = len(run.examples(config.split, config.n))
    done = {(m.measure, m.split, m.n) for m in run.record.measures}
    return all((repr(chosen), config.split, n) in done for chosen in config.measures)


def _certified(run: Run, config: CertifyConfig) -> bool:
    """Return whether the record holds all these bounds, on just these examples."""
    n = len(run.examples(config.split, config.n))
    done = {(b.bound, b.split, b.n) for b in run.record.bounds}
    return all((section, config.split, n) in done for section in config.sections())


def _update(folder: Path, **sections: object) -> Record:
    record = read_record(folder).model_copy(update=sections)
    write_record(record, folder / "record.json")
    return record
