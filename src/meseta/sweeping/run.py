"""A sweep carried out: workers that claim cells, train and attack them, and the report on what they found."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import optuna
import torch
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from meseta.checks import usable_device
from meseta.configuration import dump
from meseta.errors import Diverged, UserError
from meseta.evaluation import provenance
from meseta.evaluation.record import Evaluation, Provenance, read_record
from meseta.files import write_text
from meseta.report.swept import Figures, State, Swept, SweptCell, in_words, state, write_swept
from meseta.sweeping.config import Range, SweepConfig
from meseta.sweeping.queue import BEGUN, FOUND, Claim, Queue
from meseta.threat import Threat
from meseta.training import RunConfig
from meseta.workers import Progress, Workers
from meseta.workflow import EvaluateConfig

POLL = 1.0
"""Seconds between two looks at whether a cell became free, where all that are left are under way."""
FLOOR, MASKING, DIVERGED = "clean accuracy", "masking", "diverged"
"""Names of the constraints."""

Say = Callable[[str], object]
Make = Callable[[RunConfig, EvaluateConfig], Evaluation]
"""Makes a cell's run, and returns how it stands up to attacks."""


def make_cell(run: RunConfig, evaluate: EvaluateConfig) -> Evaluation:
    """Train and attack the run of a cell; what its folder holds already is kept.

    Raises:
        Diverged: training met a loss that is not finite.
    """
    from meseta.comparing import keep_evaluated, keep_trained  # which take seconds to import in every worker

    folder = keep_trained(run, say=_silent)
    keep_evaluated(folder, evaluate, say=_silent)
    evaluation = read_record(folder).evaluation
    assert evaluation is not None
    return evaluation


def sweep(config: SweepConfig, *, say: Say = print, make: Make = make_cell) -> Swept:
    """Make every cell of a sweep once, and return what was found; it is kept in the sweep's folder as `sweep.json`.

    After an interruption the same call goes on: finished cells stay, and those under way are taken up again where they
    were. Several calls at once share the work.

    Args:
        config: the sweep.
        say: told of every cell; importable where there are several workers.
        make: what makes a cell, likewise.

    Raises:
        UserError: the storage holds another sweep of this name, or a cell cannot be trained or attacked; then the
            others are kept, and the same call tries that cell again.
    """
    queue = Queue(config)
    write_text(config.folder / "config.yaml", dump(config))
    clock = provenance.start(config.seed, "cpu")
    try:
        _work_together(queue, min(config.workers, queue.left()), make, say)
    except UserError:
        if queue.left():
            raise
        say("a worker ended on the way; others took up its cell")
    return _keep(queue, clock)


def found_so_far(queue: Queue, clock: Callable[[], Provenance]) -> Swept:
    """Return what was found at all cells until now."""
    config = queue.config
    threat = config.threat()
    made = clock()
    versions = {**made.versions, "optuna": optuna.__version__}
    return Swept(
        name=config.name,
        search=config.search,
        seed=config.seed,
        split=config.evaluate.split,
        norm=threat.norm,
        eps=threat.eps,
        floor=config.floor,
        logarithmic=[name for name, option in config.options().items() if isinstance(option, Range) and option.log],
        cells=[_cell(config, number, trials) for number, trials in queue.trials().items()],
        provenance=made.model_copy(update={"versions": versions}),
    )


def _work_together(queue: Queue, m: int, make: Make, say: Say) -> None:
    """Work with m processes, of which this is one."""
    if m == 0:
        return
    device = torch.device("cpu") if queue.config.run.accelerator == "cpu" else usable_device(None)
    with Workers(m, device, _work, queue.config, make, say) as workers:
        workers.start()
        _make_all(queue, make, say, workers.watched(None))


def _work(
    config: SweepConfig, make: Make, say: Say, *, device: str, shard: tuple[int, int], progress: Progress
) -> None:
    """Do a further process's share."""
    see_one_gpu(torch.device(device))
    with suppress(KeyboardInterrupt):  # of which the first process tells
        _make_all(Queue(config), make, say, progress)


def _make_all(queue: Queue, make: Make, say: Say, progress: Progress) -> None:
    """Claim and make cells until none is left."""
    clock = provenance.start(queue.config.seed, "cpu")
    try:
        while queue.left():
            claim = queue.claim()
            if claim is None:
                time.sleep(POLL)
            else:
                _make(claim, queue.config, make)
                say(_progress(_keep(queue, clock), claim.number))
            progress(1)
    except (StorageInternalError, SQLAlchemyError) as error:
        raise UserError(f"`storage`: the database failed: {error}. What is finished is kept: call again.") from None


def _keep(queue: Queue, clock: Callable[[], Provenance]) -> Swept:
    """Write what was found so far, and return it."""
    with queue.locked:
        swept = found_so_far(queue, clock)
        write_swept(swept, queue.config.folder / "sweep.json")
    return swept


def _make(claim: Claim, config: SweepConfig, make: Make) -> None:
    """Make one cell, and keep what was found."""
    with claim:
        run = config.cell(claim.settings, claim.number)
        try:
            evaluation = make(run, config.evaluate)
        except Diverged as error:
            claim.finish({"reason": str(error)}, None, {DIVERGED: 1.0})
            return
        found = _figures(evaluation, config.threat())
        missing = {} if config.floor is None else {FLOOR: config.floor - found.clean_accuracy}
        masked = {MASKING: 1.0 if found.verdict == "broken" else 0.0}
        claim.finish(found.model_dump(), found.worst_case, missing | masked)


def _figures(evaluation: Evaluation, threat: Threat) -> Figures:
    """Return what an evaluation says at one threat."""
    (robust,) = [one for one in evaluation.robust if (one.norm, one.eps) == (threat.norm, threat.eps)]
    return Figures(
        provenance=evaluation.provenance,
        clean_accuracy=evaluation.clean_accuracy,
        worst_case=robust.worst_case,
        n=evaluation.n,
        verdict=evaluation.masking.verdict if evaluation.masking else None,
    )


def _cell(config: SweepConfig, number: int, trials: Sequence[FrozenTrial]) -> SweptCell:
    """Return what is known of a cell from its trials."""
    trial = trials[-1]
    found = trial.user_attrs.get(FOUND, {})
    states: dict[TrialState, State] = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "diverged",
        TrialState.RUNNING: "under way",
    }
    state = states.get(trial.state, "waiting")
    return SweptCell(
        number=number,
        name=f"cell-{number:03d}",
        settings={name: trial.params[name] for name in config.options() if name in trial.params},
        state=state,
        started=sum(BEGUN in one.user_attrs for one in trials),
        found=Figures.model_validate(found) if state == "finished" else None,
        reason=found.get("reason", ""),
    )


def _progress(swept: Swept, number: int) -> str:
    """Return in one line what was found at a cell, how many are left, and the best so far."""
    (cell,) = [one for one in swept.cells if one.number == number]
    done = sum(one.state in ("finished", "diverged") for one in swept.cells)
    best = "none feasible yet" if swept.best is None else f"best so far {swept.best.name}"
    standing = "best so far" if cell == swept.best else f"{state(swept, cell)}; {best}"
    return f"{done}/{len(swept.cells)}  {in_words(cell)}, {standing}"


def see_one_gpu(device: torch.device) -> None:
    """Let a process that was given one of several GPUs see that one alone, before it looks at any."""
    if device.type == "cuda" and device.index is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(device.index + 1)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[device.index]


def _silent(_: str) -> None:
    """Say nothing: what is worth telling of a cell is told at its end."""
