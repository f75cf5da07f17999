"""Evaluations that figures are drawn from: found in records, and made where they lack."""

import json
from collections.abc import Callable, Container, Sequence
from dataclasses import fields
from typing import Any

from meseta.attacks import Attack
from meseta.configuration import plain
from meseta.errors import UserError
from meseta.evaluation.record import Bounded, Evaluation, Record
from meseta.report.comparison import NORMS, runs_of
from meseta.report.verdict import doubts_of
from meseta.threat import Norm, Threat
from meseta.workflow import EvaluateConfig, Run, SplitName, evaluate_run


def evaluations(record: Record) -> list[Evaluation]:
    """Return the evaluation that stands for the run, and those beside it."""
    return [*filter(None, [record.evaluation]), *record.other_evaluations]


def by_attacks(
    record: Record, attacks: Sequence[Attack], threats: Sequence[Threat], *, split: str, others: bool = False
) -> Evaluation | None:
    """Return the evaluation on a split in which each attack met all under every threat, under those threats alone.

    Of several, the one of most examples; what the masking checks of another said is kept. None where there is none.

    Args:
        others: whether it may hold other attacks as well, which count in its worst case.
    """
    radii = {(threat.norm, threat.eps) for threat in threats}
    asked = {(threat.norm, threat.eps, repr(attack.against(threat))) for threat in threats for attack in attacks}
    fitting = [
        one
        for one in evaluations(record)
        if one.split == split and asked <= (met := _met(one, radii)) and (others or met <= asked)
    ]
    if not fitting:
        return None
    best = max(fitting, key=lambda one: one.n)
    robust = [one for one in best.robust if (one.norm, one.eps) in radii]
    masking = best.masking or (record.evaluation.masking if record.evaluation else None)
    return best.model_copy(update={"robust": robust, "masking": masking})


def needed(
    record: Record, attacks: Sequence[Attack], threats: Sequence[Threat], *, split: str, others: bool = False
) -> Evaluation:
    """Return `by_attacks`, and raise where the record lacks them."""
    found = by_attacks(record, attacks, threats, split=split, others=others)
    if found is None:
        names = " and ".join(attack.name for attack in attacks)
        spelling = spelled([attack.against(Threat()) for attack in attacks])
        raise UserError(
            f"record: {record.name} has no evaluation in which {names} each met all {split} examples at "
            f"{_radii(threats)} (in a cascade they meet what others left). Measure it: meseta evaluate RUN "
            f"{_options(threats)} --attacks '{spelling}'{of_split(split)}"
        )
    return found


def alone(evaluation: Evaluation, attack: Attack) -> Evaluation:
    """Return the evaluation with the accuracy that one attack left in place of the worst case."""
    robust = [
        one.model_copy(update={"worst_case": result.accuracy, "attacks": [result], "by_others": 0})
        for one in evaluation.robust
        for result in one.attacks
        if result.attack == repr(attack.against(Threat(one.norm, one.eps, attack.threat.bounds)))
    ]
    return evaluation.model_copy(update={"robust": robust})


def counted(found: Sequence[Evaluation | Bounded]) -> str:
    """Return a note of how many examples were attacked, of which split."""
    least, most = min(one.n for one in found), max(one.n for one in found)
    split = found[0].split
    return (
        f"n = {most} {split} examples." if least == most else f"n = {least} to {most} {split} examples, not the same."
    )


def of_split(split: str) -> str:
    """Return the option of a command that works on a split, where it is not the test split."""
    return "" if split == "test" else f" --split {split}"


def masked(records: Sequence[Record]) -> tuple[str, ...]:
    """Return a note for each run whose gradients are masked, or may be."""
    return tuple(f"{run.short}: {doubt}" for run in runs_of(records) if (doubt := doubts_of(run)))


def attack_runs(
    runs: Sequence[Run],
    attacks: Sequence[Attack],
    threats: Sequence[Threat],
    *,
    n: int | None,
    split: SplitName,
    say: Callable[[str], object],
    others: bool = False,
) -> None:
    """Attack the runs whose records hold no such evaluation of at least n examples, and keep it beside theirs."""
    radii = radii_by_norm(threats)
    for run in runs:
        found = by_attacks(run.record, attacks, threats, split=split, others=others)
        if found and found.n >= len(run.examples(split, n)):
            continue
        say(f"{run.record.name}: attacking with {', '.join(attack.name for attack in attacks)}")
        config = EvaluateConfig(threats=radii, attacks=tuple(attacks), checks=(), split=split, n=n)
        evaluate_run(run, config, beside=True)


def radii_by_norm(threats: Sequence[Threat]) -> dict[Norm, tuple[float, ...]]:
    """Return the radii of each norm, as an evaluation is configured."""
    return {norm: tuple(t.eps for t in threats if t.norm == norm) for norm in dict.fromkeys(t.norm for t in threats)}


def spelled(methods: Sequence[Any]) -> str:
    """Return methods as an option takes them, with the settings that are not the default."""
    return json.dumps([_spelled(method) for method in methods])


def _spelled(method: Any) -> Any:
    name = type(method).__name__
    default = type(method)()
    changed = {
        field.name: plain(getattr(method, field.name))
        for field in fields(method)
        if getattr(method, field.name) != getattr(default, field.name)
    }
    return {"class_path": name, "init_args": changed} if changed else name


def _met(evaluation: Evaluation, radii: Container[tuple[str, float]]) -> set[tuple[str, float, str]]:
    return {
        (one.norm, one.eps, result.attack)
        for one in evaluation.robust
        if not one.cascade and (one.norm, one.eps) in radii
        for result in one.attacks
    }


def _radii(threats: Sequence[Threat]) -> str:
    norms = dict.fromkeys(threat.norm for threat in threats)
    return "; ".join(f"{NORMS[norm]} {', '.join(f'{t.eps:g}' for t in threats if t.norm == norm)}" for norm in norms)


def _options(threats: Sequence[Threat]) -> str:
    norms = dict.fromkeys(threat.norm for threat in threats)
    return " ".join(
        f"--norm {norm} --eps {' '.join(f'{t.eps!r}' for t in threats if t.norm == norm)}" for norm in norms
    )
