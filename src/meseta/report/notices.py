"""What a reader must know before comparing the numbers of a report."""

from collections.abc import Iterable, Sequence

from meseta.evaluation.record import Record
from meseta.report.attack_tables import find
from meseta.report.comparison import NORMS, Run, eps_text, measure_groups, runs_of, threats_of
from meseta.report.sandwich import largest, sandwiches
from meseta.report.verdict import masking_of


def read_with_care(records: Sequence[Record]) -> list[str]:
    """Return the notices on records."""
    return notices(runs_of(records))


def notices(runs: Sequence[Run]) -> list[str]:
    """Return what a reader must know before comparing the numbers."""
    return [*_incomparable(runs), *(notice for run in runs for notice in _doubts(run))]


def _incomparable(runs: Sequence[Run]) -> Iterable[str]:
    evaluated = [(run.record.data, run.record.evaluation) for run in runs if run.record.evaluation]
    if len({(data, e.split, e.n) for data, e in evaluated}) > 1:
        yield "The runs were not evaluated on the same examples (data, split or n differ); compare them with care."
    for norm, eps in threats_of(runs):
        suites = {frozenset(one.attack for one in robust.attacks) for run in runs if (robust := find(run, norm, eps))}
        if len(suites) > 1:
            yield f"At {NORMS[norm]} {eps} the runs met different attacks: their worst cases do not compare directly."

    checks = [(one.norm, eps_text(one.norm, one.eps)) for run in runs if (one := masking_of(run.record))]
    if len(set(checks)) > 1:
        yield "The masking checks ran at different thresholds: a verdict holds at its own."
    for norm, by_run in largest(runs).items():
        taken = {(m.split, m.n, one.run.record.data) for one in by_run.values() for m in one.members}
        if len(taken) > 1:
            counts = _range(n for _, n, _ in taken)
            yield f"The {NORMS[norm]} distances were not taken on the same examples (n = {counts}); compare with care."
    for group in measure_groups(runs):
        if len({(run.record.data, one.n) for run, one in group.members}) > 1:
            counts = _range(one.n for _, one in group.members)
            yield f"{group.title} was not taken on the same examples of all runs (n = {counts}); compare with care."


def _range(counts: Iterable[int]) -> str:
    """Return one number, or the least and the largest."""
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _doubts(run: Run) -> Iterable[str]:
    training, evaluation = run.record.training, run.record.evaluation
    if training and (steps := training.left_out):
        lowered = f", and the weights of penalties end at {training.weight_factor:g} of what was set"
        yield (
            f"{run.label}: {len(steps)} of {training.steps} steps of training were left out, the first at step "
            f"{steps[0].step} since {steps[0].why}{lowered if training.weight_factor < 1 else ''}."
        )
    if evaluation and evaluation.nonfinite_logits:
        yield (
            f"{run.label}: {evaluation.nonfinite_logits} of {evaluation.n} examples have NaN or infinite logits; "
            "they count as misclassified."
        )
    if evaluation and (total := sum(a.violations for robust in evaluation.robust for a in robust.attacks)):
        yield f"{run.label}: attacks left the ball or the bounds {total} times; the judge brought those examples back."
    if evaluation and (found := [one for one in evaluation.robust if one.by_others]):
        counts = [f"{one.by_others} at {NORMS[one.norm]} {eps_text(one.norm, one.eps)}" for one in found]
        yield (
            f"{run.label}: masking checks or minimum-norm attacks broke examples that no attack of the list broke, "
            f"{', '.join(counts)}; the worst case counts them as broken."
        )
    for one in run.record.measures:
        if one.nonfinite:
            yield f"{run.label}: {one.name} is not finite on {one.nonfinite} of {one.n} examples."
    for profile in run.record.profiles:
        if all(value is None for curve in profile.curves.values() for value in curve):
            yield f"{run.label}: {profile.name} at {profile.split} example {profile.index} is finite nowhere."
    for bound in run.record.bounds:
        if bound.ignored:
            yield f"{run.label}: the judge did not accept {bound.ignored} results of {bound.name}."
    for sandwich in sandwiches([run]):
        if sandwich.contradictions:
            yield (
                f"{run.label}: on {sandwich.contradictions} of {sandwich.n} examples an attack is nearer than the "
                f"{NORMS[sandwich.norm]} radius that was certified. A bound is not sound: do not use it."
            )
