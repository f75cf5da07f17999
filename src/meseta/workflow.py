"""The walks from a trained run on: load it, then attack, measure and certify it into its record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from meseta.attacks import FMN, Attack, MinimumNormAttack, Transformation
from meseta.autodiff.scalar_fields import Model
from meseta.certificates import CurvatureCertificate, HolderEstimate, LinearPiece, LipschitzCertificate, RadiusBound
from meseta.certificates.chain import read_chain
from meseta.checks import usable_device, whole
from meseta.configuration import read
from meseta.data import ImageData, Split, batches
from meseta.errors import UserError
from meseta.evaluation.judge import predict
from meseta.evaluation.ledger import digest, fingerprint
from meseta.evaluation.masking import MaskingCheck
from meseta.evaluation.nearest import distances
from meseta.evaluation.pictures import is_image, pictured
from meseta.evaluation.record import Bounded, Evaluation, Masking, Measured, Pictured, Record, read_record, write_record
from meseta.evaluation.robustness import evaluate, transferred_from
from meseta.evaluation.statistics import certify, measure
from meseta.evaluation.suites import Suite
from meseta.files import SMALL, locked, read_text, remove_unfinished
from meseta.geometry import GradientNorm, Measure, SpectralCurvature
from meseta.models import Network
from meseta.processes import Team
from meseta.threat import Norm, Threat
from meseta.training import RunConfig

SplitName = Literal["train", "val", "test"]
Progress = Callable[[int], None]
ALONE = Team()


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
        pictured: of how many of the first examples the smallest adversarial example of the first threat's norm is kept
            in pictures, where inputs are images of 1 or 3 channels; 0 for none.
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
    pictured: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self.n, self.batch_size)
        whole("checked", self.checked, 1)
        whole("pictured", self.pictured, 0)
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
    """Load a finished run, onto the GPU if there is one, unless another device is named or it was trained for the CPU.

    Raises:
        UserError: no record, or a damaged or foreign record, configuration or checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f"run: {folder} does not exist. Give the folder of a run, such as runs/demo/erm.")
    record = read_record(folder)
    file = folder / "config.yaml"
    config = _config(file, read_text("config", file, SMALL))
    target = usable_device(device or ("cpu" if config.accelerator == "cpu" else None))
    model = Network.from_pretrained(folder, target)
    data = config.data.load()
    if (model.input_shape, model.classes) != (data.input_shape, data.num_classes):
        raise UserError(
            f"run: the model in {folder} takes {model.input_shape} and {model.classes} classes, its data now has "
            f"{data.input_shape} and {data.num_classes}. Was the data folder changed?"
        )
    return Run(folder, record, config, model, data)


@lru_cache(maxsize=1024)
def _config(file: Path, content: str) -> RunConfig:
    """Read a run's configuration once for each content of the file: parsing takes as long as a small attack."""
    return read(RunConfig, file)


def evaluate_run(
    run: Run,
    config: EvaluateConfig,
    *,
    team: Team = ALONE,
    beside: bool = False,
    progress: Callable[[float], object] | None = None,
    examined: Callable[[Masking | None], object] | None = None,
) -> Record:
    """Attack a run, write the result into its record and return that; other sections of it are kept.

    What is finished lies in the run's folder until the record has it, so that a call after an interruption goes on.

    Args:
        run: a finished run.
        config: what it is attacked with.
        team: of processes that share the work, each of which calls this; the figures do not depend on it.
        beside: keep the evaluation that stands for the run, and put this one beside it.
        progress: called with how many examples this process did since the last call, in parts.
        examined: called with what the masking checks found, before the attacks.
    """
    sources = source_models(run, config.sources)
    settings = evaluation_settings(config, sources)
    keep = run.folder / UNFINISHED / settings[:16]
    nearest = [_nearest(run, config, suite, keep, team) for suite in by_norm(config.nearest)]
    attack = partial(_evaluate, run, config, sources, nearest, keep)
    section: Evaluation | None
    if team.size == 1:
        section = attack(progress=progress, examined=examined)
    else:
        batches = -(-len(run.examples(config.split, config.n)) // config.batch_size)
        if team.leads:

            def begin(masking: Masking | None) -> None:  # after the checks, whose findings the others read
                if examined:
                    examined(masking)
                team.wait()

            attack(shard=_shard(team, batches), progress=progress, examined=begin)
        else:
            team.wait()
            if shard := _shard(team, batches):
                attack(shard=shard, progress=progress)
        team.wait()
        section = attack() if team.leads else None  # all is done, and added up
    if section:
        section = section.model_copy(update={"settings": settings})
        pictured = [] if beside else _pictured(run, config)
        update(run.folder, lambda record: _with_evaluation(record, section, nearest, pictured, beside))
        _remove(keep)
    team.wait()
    return read_record(run.folder)


def _with_evaluation(
    record: Record, section: Evaluation, nearest: Sequence[Bounded], pictured: Sequence[Pictured], beside: bool
) -> dict[str, object]:
    """Return the sections of a record with an evaluation that stands for the run, or beside the one that does."""
    bounds = _with_bounds(nearest, record)
    if beside:
        others = [one for one in record.other_evaluations if one.settings != section.settings]
        return bounds | {"other_evaluations": [*others, section]}
    gradients = [one for one in record.pictured if one.kind != "adversarial"]
    return bounds | {"evaluation": section, "pictured": [*gradients, *pictured]}


UNFINISHED = "unfinished"
"""The folder, in that of the run, of what evaluations and measures have finished so far, one folder each."""


def _shard(team: Team, batches: int) -> tuple[int, int] | None:
    """Return the share of a member of the team; None where there are fewer batches than members."""
    m = min(team.size, batches)
    return (team.rank, m) if team.rank < m else None


def _nearest(run: Run, config: EvaluateConfig, suite: Sequence[MinimumNormAttack], keep: Path, team: Team) -> Bounded:
    """Return the smallest distances that attacks of one norm find, a share of them by each of the team."""
    batches = partial(run.batches, config.split, config.n, config.batch_size)
    take = partial(distances, run.model, attacks=suite, seed=config.seed, split=config.split, keep=keep)
    _take_share(take, batches, team, None)
    return take(batches())


def _take_share(
    take: Callable[..., object],
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    team: Team,
    progress: Callable[[int], None] | None,
) -> None:
    """Do a member's share of the batches, which is kept, and wait until all have; nothing where it is alone."""
    if team.size == 1:
        return
    if shard := _shard(team, sum(1 for _ in batches())):
        take(batches(), shard=shard, progress=progress)
    team.wait()


def _pictured(run: Run, config: EvaluateConfig) -> list[Pictured]:
    """Return the first examples with the smallest adversarial example found at each; none that cannot be shown."""
    if config.pictured == 0 or not is_image(run.data.input_shape):
        return []
    x, y = run.examples(config.split, min(config.pictured, config.n or config.pictured))[:]
    attack = FMN(threat=Threat(config.all_threats()[0].norm))
    return pictured(run.model, x.to(run.device), y.to(run.device), attack=attack, seed=config.seed, split=config.split)


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


def source_models(run: Run, folders: Sequence[str]) -> dict[str, Model]:
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


def measure_run(run: Run, config: MeasureConfig, *, team: Team = ALONE, progress: Progress | None = None) -> Record:
    """Measure a run, write the results into its record and return that; other measures in it are kept.

    What is finished is kept, as by `evaluate_run`; `team` and `progress` as there.
    """
    for chosen in config.measures:
        batches = partial(run.batches, config.split, config.n, config.batch_size)
        take = partial(measure, run.model, measure=chosen, split=config.split)
        section = _shared(run, take, batches, f"{chosen!r} {config}", team, progress)
        if section:  # written at once, so that a later one that fails loses nothing
            update(run.folder, partial(_with_measure, section))
        team.wait()
    return read_record(run.folder)


def _with_measure(new: Measured, record: Record) -> dict[str, object]:
    """Return the measures of a record with a new one in place of the same on the same split."""
    others = [one for one in record.measures if (one.measure, one.split) != (new.measure, new.split)]
    return {"measures": [*others, new]}


Kind = TypeVar("Kind")


def _shared(
    run: Run,
    take: Callable[..., Kind],
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    settings: str,
    team: Team,
    progress: Callable[[int], None] | None,
) -> Kind | None:
    """Return what is taken of all batches, a share by each of the team; None for those who do not lead it."""
    keep = run.folder / UNFINISHED / digest(settings)[:16]
    take = partial(take, keep=keep)
    _take_share(take, batches, team, progress)
    if not team.leads:
        return None
    # of several all is done by now, and added up
    section = take(batches(), progress=progress if team.size == 1 else None)
    _remove(keep)
    return section


def _remove(keep: Path) -> None:
    """Remove what was kept until a section was finished."""
    rmtree(keep, ignore_errors=True)
    with suppress(OSError):  # another section's lies there
        keep.parent.rmdir()


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


def certify_run(run: Run, config: CertifyConfig, *, team: Team = ALONE, progress: Progress | None = None) -> Record:
    """Take bounds on a run, write the results into its record and return that; other bounds in it are kept.

    What is finished is kept, as by `evaluate_run`; `team` and `progress` as there.
    """
    config, _ = settle(run, config)
    taken: list[Callable[..., Bounded]] = [
        *(partial(certify, bound=bound) for bound in config.bounds or ()),
        *(partial(distances, attacks=suite) for suite in by_norm(config.attacks)),
    ]
    batches = partial(run.batches, config.split, config.n, config.batch_size, most=256)
    for take, name in zip(taken, config.sections(), strict=True):
        section = _shared(
            run, partial(take, run.model, split=config.split), batches, f"{name} {config}", team, progress
        )
        if section:
            update(run.folder, partial(_with_bounds, [section]))
        team.wait()
    return read_record(run.folder)


def _with_bounds(new: Sequence[Bounded], record: Record) -> dict[str, object]:
    """Return the bounds of a record with new ones in place of those with the same settings."""
    replaced = {(one.bound, one.split) for one in new}
    return {"bounds": [*(one for one in record.bounds if (one.bound, one.split) not in replaced), *new]}


def evaluation_settings(config: EvaluateConfig, sources: Mapping[str, Model]) -> str:
    """Return a digest of what an evaluation does, by which a record tells that it was done."""
    models = [*sources.values(), *transferred_from(config.attacks or (), config.checks or ())]
    return digest(repr(config), *map(fingerprint, models))


def update(folder: Path, sections: Callable[[Record], Mapping[str, object]]) -> Record:
    """Put into the record in a run's folder the sections made of it, and return it; others that write there wait."""
    with locked(folder, "is being written by another process", wait=60):
        remove_unfinished(folder / "record.json")
        record = read_record(folder)
        record = record.model_copy(update=sections(record))
        write_record(record, folder / "record.json")
    return record
