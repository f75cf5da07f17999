"""The walks from a trained run on: load it, then attack, measure and certify it into its record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from shutil import rmtree
from typing import Any, Literal

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
from meseta.evaluation.ledger import Ledger, digest, fingerprint, parsed
from meseta.evaluation.masking import MaskingCheck
from meseta.evaluation.nearest import distances
from meseta.evaluation.pictures import is_image, pictured
from meseta.evaluation.record import Bounded, Evaluation, Masking, Pictured, Record, read_record, write_record
from meseta.evaluation.robustness import evaluate, transferred_from
from meseta.evaluation.statistics import certify, measure
from meseta.evaluation.suites import Suite
from meseta.files import SMALL, read_text
from meseta.geometry import GradientNorm, Measure, SpectralCurvature
from meseta.models import Network
from meseta.processes import Workers
from meseta.threat import Norm, Threat
from meseta.training import RunConfig

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
    """Load a finished run.

    Raises:
        UserError: no record, or a damaged or foreign record, configuration or checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f"run: {folder} does not exist. Give the folder of a run, such as runs/demo/erm.")
    target = usable_device(device)
    record = read_record(folder)
    file = folder / "config.yaml"
    config = _config(file, read_text("config", file, SMALL))
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
    processes: int = 1,
    beside: bool = False,
    progress: Callable[[float], object] | None = None,
    examined: Callable[[Masking | None], object] | None = None,
) -> Record:
    """Attack a run, write the result into its record and return that; other sections of it are kept.

    What is finished lies in the run's folder until the end, so that a call after an interruption goes on from there.

    Args:
        run: a finished run.
        config: what it is attacked with.
        processes: how many share the work; the figures do not depend on it.
        beside: keep the evaluation that stands for the run, and put this one beside it.
        progress: called with how many examples were done since the last call, in parts.
        examined: called with what the masking checks found, before the attacks.
    """
    whole("processes", processes, 1)
    sources = source_models(run, config.sources)
    settings = evaluation_settings(config, sources)
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
    section = section.model_copy(update={"settings": settings})
    before = read_record(run.folder)
    others = [one for one in before.other_evaluations if one.settings != settings]
    found: dict[str, object] = {"other_evaluations": [*others, section]}
    if not beside:
        gradients = [one for one in before.pictured if one.kind != "adversarial"]
        found = {"evaluation": section, "pictured": [*gradients, *_pictured(run, config)]}
    record = update(
        run.folder,
        bounds=_replaced(before.bounds, nearest),
        **found,
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


def _share_of_evaluation(
    folder: Path, config: EvaluateConfig, nearest: Sequence[Bounded], keep: Path, *, device: str, **options: Any
) -> None:
    """Take one shard of an evaluation; what is finished goes into the folder to keep."""
    run = load_run(folder, device=device)
    _evaluate(run, config, source_models(run, config.sources), nearest, keep, **options)


def measure_run(run: Run, config: MeasureConfig, *, progress: Progress | None = None) -> Record:
    """Measure a run, write the results into its record and return that; other measures in it are kept."""
    for chosen in config.measures:
        examples = run.batches(config.split, config.n, config.batch_size)
        section = measure(run.model, examples, measure=chosen, split=config.split, progress=progress)
        kept = [m for m in read_record(run.folder).measures if (m.measure, m.split) != (section.measure, section.split)]
        update(run.folder, measures=[*kept, section])  # each at once, so that a later one that fails loses nothing
    return read_record(run.folder)


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
        update(run.folder, bounds=_replaced(read_record(run.folder).bounds, [section]))
    return read_record(run.folder)


def _replaced(bounds: Sequence[Bounded], by: Sequence[Bounded]) -> list[Bounded]:
    """Return bounds with new ones in place of those with the same settings."""
    new = {(b.bound, b.split) for b in by}
    return [*(b for b in bounds if (b.bound, b.split) not in new), *by]


def evaluation_settings(config: EvaluateConfig, sources: Mapping[str, Model]) -> str:
    """Return a digest of what an evaluation does, by which a record tells that it was done."""
    models = [*sources.values(), *transferred_from(config.attacks or (), config.checks or ())]
    return digest(repr(config), *map(fingerprint, models))


def update(folder: Path, **sections: object) -> Record:
    """Put sections into the record in a run's folder, in place of what it had there, and return it."""
    record = read_record(folder).model_copy(update=sections)
    write_record(record, folder / "record.json")
    return record
