"""Runs made once: trained, attacked and measured unless their folder holds it, alone or several side by side."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from meseta.errors import UserError
from meseta.evaluation.record import Record, read_record
from meseta.objectives import Objective
from meseta.training import RunConfig, check_same, train
from meseta.workflow import (
    CertifyConfig,
    EvaluateConfig,
    MeasureConfig,
    Run,
    certify_run,
    evaluate_run,
    evaluation_settings,
    load_run,
    measure_run,
    settle,
    source_models,
)


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


def compare(config: Comparison, *, progress: bool = False, say: Callable[[str], object] = print) -> list[Record]:
    """Train, evaluate and measure every run of a comparison; what an earlier call finished is kept.

    A finished run with the same configuration is not trained again, and one that was evaluated and measured with the
    same settings is left alone, so that an interrupted comparison goes on where it stopped.

    Raises:
        UserError: a run of that name exists with another configuration; nothing is changed then.
    """
    runs = config.runs()
    for run in runs:
        _check_kept(run)
    records = []
    for run in runs:
        folder = keep_trained(run, progress=progress, say=say)
        keep_evaluated(folder, config.evaluate, say=say)
        keep_measured(folder, config.measure, say=say)
        if config.certify:
            keep_certified(folder, config.certify, say=say)
        records.append(read_record(folder))
    return records


def keep_trained(config: RunConfig, *, progress: bool = False, say: Callable[[str], object] = print) -> Path:
    """Train a run unless its folder holds it, finished, and return that; an unfinished training goes on.

    Raises:
        UserError: the folder holds a run with another configuration; nothing is changed then. A run for several
            processes, which `train` alone starts.
    """
    _check_kept(config)
    folder = Path(config.out) / config.run_name
    if not (folder / "record.json").exists():
        say(f"{config.run_name}: training {config.objective!r}")
        train(config, progress=progress, say=say)
    return folder


def _check_kept(config: RunConfig) -> None:
    if config.processes > 1:
        raise UserError(
            f"`devices`: {config.run_name} is to be trained by {config.processes} processes. Several runs in one go "
            "are trained by one process each: use meseta train for this one."
        )
    check_same(config)


def keep_evaluated(
    folder: Path, config: EvaluateConfig, *, beside: bool = False, say: Callable[[str], object] = print
) -> None:
    """Attack a run unless its record holds the evaluation; `beside` as for `evaluate_run`."""
    run = load_run(folder)
    if not _evaluated(run, config, beside):
        say(f"{run.record.name}: attacking")
        evaluate_run(run, config, beside=beside)


def keep_measured(folder: Path, config: MeasureConfig, *, say: Callable[[str], object] = print) -> None:
    """Measure a run unless its record holds it."""
    run = load_run(folder)
    if not _measured(run, config):
        say(f"{run.record.name}: measuring")
        measure_run(run, config)


def keep_certified(folder: Path, config: CertifyConfig, *, say: Callable[[str], object] = print) -> None:
    """Take bounds on a run unless its record holds them."""
    run = load_run(folder)
    if not _certified(run, settle(run, config)[0]):
        say(f"{run.record.name}: certifying")
        certify_run(run, config)


def _evaluated(run: Run, config: EvaluateConfig, beside: bool = False) -> bool:
    """Return whether the record holds an evaluation with just these settings, of the same sources."""
    settings = evaluation_settings(config, source_models(run, config.sources))
    found = [run.record.evaluation, *(run.record.other_evaluations if beside else [])]
    return any(one is not None and one.settings == settings for one in found)


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
