"""Clean and robust accuracy: every attack at every threat, worst case per example, and whether to trust it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor

from meseta.attacks import Transformation
from meseta.attacks.base import Attack
from meseta.attacks.transfer import Transfer
from meseta.autodiff.scalar_fields import Model
from meseta.checks import whole
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.batching import Batches, batched, share, without_batch
from meseta.evaluation.cascade import BatchResult, Plan, Tally, digits, mask, run_batch
from meseta.evaluation.ledger import VERSIONS, Ledger, digest, fingerprint, parsed
from meseta.evaluation.masking import MaskingCheck, Transferred, all_checks, called_for, examine
from meseta.evaluation.record import Bounded, Evaluation, Finding, Level, Masking, RobustAccuracy, verdict_of
from meseta.evaluation.suites import Suite, suite_attacks
from meseta.threat import Threat

Progress = Callable[[float], object]


def evaluate(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    *,
    threat: Threat | Sequence[Threat] = Threat(),
    suite: Suite | None = None,
    attacks: Attack | Sequence[Attack] | None = None,
    sources: Mapping[str, Model] | None = None,
    checks: Sequence[MaskingCheck] | None = None,
    checked: int = 100,
    nearest: Sequence[Bounded] = (),
    transformations: Sequence[Transformation] = (),
    batch_size: int = 256,
    seed: int = 0,
    split: str = "given",
    progress: Progress | None = None,
    examined: Callable[[Masking | None], object] | None = None,
    keep: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> Evaluation:
    """Measure clean accuracy, the worst case per example over attacks, and whether gradient attacks see the model.

    An example counts as robust at (norm, eps) only if it is classified correctly and nothing of that norm breaks it
    at eps or at any smaller eps evaluated with it: the balls are nested, so what broke it there breaks it here. Curves
    therefore never rise, and an attack is not run again where it has already succeeded. Every result is judged (see
    `judge_attack`).

    First the masking checks examine the model on its first examples, at the eps where they can tell most. What they
    find counts in the worst case, and the attacks that a failed check calls for join the others, on all examples.
    Where autograd cannot follow the model, attacks that need gradients are left out, and the verdict is broken.

    Args:
        model: inputs to logits (B, K); runs in eval mode and gets its mode back.
        x: inputs (N, *input), or a loader of (x, y) batches in place of x and y.
        y: labels (N,).
        threat: one threat, or several over norms and eps.
        suite: a suite of attacks, run as a cascade: each attack meets only what the earlier ones left standing. None
            for "standard", or for the `attacks`.
        attacks: what to attack with in place of a suite, each run under every threat in place of its own. Each meets
            all that it has not broken itself, so that attacks compare.
        sources: other models by name, whose adversarial examples are tried on this one, by the checks and by a last
            attack.
        checks: the masking checks; None for all of them, () for none.
        checked: how many of the first examples they examine.
        nearest: distances of adversarial examples that were found on these examples, by `distances`; they count in the
            worst case of their norm.
        transformations: rotations, noise and other changes that are no norm ball, each reported apart.
        batch_size: examples attacked at a time, by the checks; by the attacks where x and y are tensors.
        seed: of all randomness; each batch and attack has its own stream.
        split: name of the data split, for the record.
        progress: called with how many examples were done since the last call, in parts.
        examined: called once with what the checks found, before the attacks.
        keep: a folder for what is finished. A second call with the same model, data and settings goes on from there.
        shard: (i, m) takes only every m-th batch, from number i on. So several processes share the work through `keep`,
            and a call without a shard adds it all up.

    Returns:
        An `Evaluation`, a section of the record; with a shard, of its batches alone.

    Raises:
        UserError: inputs outside a threat's bounds or not finite, wrong shapes or labels, no data, no attack, both a
            suite and attacks; `keep` with a model that is no nn.Module; a shard without a batch.
    """
    threats = _threats(threat)
    suite = "standard" if suite is None and attacks is None else suite
    chosen = chosen_attacks(suite, attacks, sources or {})
    checks = chosen_checks(checks, sources or {})
    whole("checked", checked, 1)
    i, m = share(shard)
    ledger = Ledger(keep)
    whose = "" if keep is None else digest(*VERSIONS, *map(fingerprint, [model, *transferred_from(chosen, checks)]))
    _check_norms(threats, chosen)
    batches = _checked(batched(model, x, y, batch_size, bounds=threats[0].bounds), threats[0])
    sample, batches = _first(batches, checked if checks else 1)
    stop = provenance.start(seed, sample[0].device)
    masking, broken = None, torch.zeros(0, dtype=torch.bool)
    if checks:
        masking, broken, has_gradients = _examined(
            *(model, *sample, threats, checks, split, batch_size, seed, ledger, whose)
        )
        chosen = _with(chosen, called_for(checks, masking.findings), threats[0])
        if not has_gradients:
            chosen, suite = [attack for attack in chosen if not attack.uses_gradients], None
        if not chosen:
            raise UserError("`attacks` all need gradients, and autograd cannot follow the model. Add Square.")
    if examined:
        examined(masking)
    plan = Plan(
        threats=tuple(threats),
        attacks=tuple(chosen),
        cascade=attacks is None,
        transformations=tuple(transformations),
        seed=seed,
    )
    tally, first = Tally.of(plan), 0
    for index, (inputs, labels) in enumerate(batches):
        examples = slice(first, first := first + len(labels))
        if index % m != i:
            continue
        key = digest(whose, repr(plan), str(index), inputs, labels) if keep else ""
        result = run_batch(
            *(model, inputs, labels, index, plan),
            done=parsed(BatchResult, ledger.get(key)),
            save=lambda result, key=key: ledger.put(key, result.model_dump_json()),  # type: ignore[misc]
            progress=progress or (lambda examples: None),
        )
        tally.add(plan, result, _known(masking, broken[examples], nearest, examples))
    if tally.n == 0:
        raise without_batch(shard)
    robust = tally.robust(plan)
    seconds = tally.seconds + (masking.provenance.seconds if masking else 0)
    return Evaluation(
        provenance=stop().model_copy(update={"seconds": round(seconds, 3)}),
        split=split,
        n=tally.n,
        clean_accuracy=tally.right / tally.n,
        nonfinite_logits=tally.nonfinite,
        robust=robust,
        suite=suite,
        masking=masking and _with_the_evaluation(masking, robust, plan, tally.n),
        transformed=tally.transformed(plan),
    )


def _threats(threat: Threat | Sequence[Threat]) -> list[Threat]:
    """Return the threats by norm and rising eps; raise where they cannot be used together."""
    threats = [threat] if isinstance(threat, Threat) else list(threat)
    if not threats or not all(isinstance(t, Threat) for t in threats):
        raise UserError("`threat` must hold Threat objects, at least one, such as Threat('Linf', 8 / 255).")
    if len({t.bounds for t in threats}) > 1:
        raise UserError("`threat`: all threats must share their bounds, as the inputs do. Evaluate them apart.")
    if len({(t.norm, t.eps) for t in threats}) < len(threats):
        raise UserError("`threat`: the same norm and eps is given twice. Give each once.")
    return sorted(threats, key=lambda t: (t.norm, t.eps))


def chosen_attacks(
    suite: Suite | None, attacks: Attack | Sequence[Attack] | None, sources: Mapping[str, Model]
) -> list[Attack]:
    """Return what to attack with, transferred examples last."""
    if attacks is None:
        chosen = list(suite_attacks(suite or "standard"))
    elif suite is not None:
        raise UserError("`suite` and `attacks` both say what to attack with. Give one of them.")
    else:
        chosen = [attacks] if isinstance(attacks, Attack) else list(attacks)
    if not chosen or not all(isinstance(attack, Attack) for attack in chosen):
        raise UserError("`attacks` must hold Attack objects, at least one, such as PGD(steps=40).")
    return [*chosen, Transfer(models=sources)] if sources else chosen


def _check_norms(threats: Sequence[Threat], attacks: Sequence[Attack]) -> None:
    """Raise where an attack does not search a norm that is asked for, before anything is attacked."""
    for attack in attacks:
        if missing := sorted({threat.norm for threat in threats} - set(attack.norms)):
            raise UserError(
                f"`attacks`: {attack.name} searches {' and '.join(attack.norms)} alone, and {missing[0]} is asked for. "
                "Evaluate that norm with other attacks."
            )


def chosen_checks(checks: Sequence[MaskingCheck] | None, sources: Mapping[str, Model]) -> list[MaskingCheck]:
    """Return the masking checks, all of them where None is given; `Transferred` with the sources."""
    return [
        replace(check, attack=Transfer(models=sources))
        if sources and isinstance(check, Transferred) and check.attack is None
        else check
        for check in (all_checks() if checks is None else checks)
    ]


def transferred_from(attacks: Sequence[Attack], checks: Sequence[MaskingCheck]) -> list[Model]:
    """Return the models that attacks and checks transfer from, which their names do not tell apart."""
    asked: list[object] = [*attacks, *(check.attack for check in checks if isinstance(check, Transferred))]
    found: list[Model] = []
    while asked:
        attack = asked.pop(0)
        if isinstance(attack, Transfer):
            found += attack.models.values()
            asked.append(attack.attack)
    return found


def _checked(batches: Iterator[tuple[Tensor, Tensor]], threat: Threat) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches, each checked; all threats share their bounds."""
    for x, y in batches:
        threat.check(x, y)
        yield x, y


def _first(
    batches: Iterator[tuple[Tensor, Tensor]], n: int
) -> tuple[tuple[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]]:
    """Return the first n examples, and all batches as before."""
    head: list[tuple[Tensor, Tensor]] = []
    for pair in batches:
        head.append(pair)
        if sum(len(y) for _, y in head) >= n:
            break
    x, y = (torch.cat(tensors)[:n] for tensors in zip(*head, strict=True))
    return (x, y), chain(head, batches)


def _with(chosen: Sequence[Attack], called: Sequence[Attack], threat: Threat) -> list[Attack]:
    """Return the chosen attacks, and of those called for the ones that differ from them under the same threat."""
    there = {repr(attack.against(threat)) for attack in chosen}
    return [*chosen, *{key: a for a in called if (key := repr(a.against(threat))) not in there}.values()]


def _examined(
    model: Model,
    x: Tensor,
    y: Tensor,
    threats: Sequence[Threat],
    checks: Sequence[MaskingCheck],
    split: str,
    batch_size: int,
    seed: int,
    ledger: Ledger,
    whose: str,
) -> tuple[Masking, Tensor, bool]:
    """Return what the checks found, (n,) bool for the examples that they broke, and whether the model has gradients."""
    key = digest(whose, repr((threats, checks, seed)), x, y) if ledger.folder else ""
    kept = parsed(_Kept, ledger.get(key))
    if kept is None:
        found = examine(
            *(model, x, y), threat=threats, checks=checks, n=len(y), batch_size=batch_size, seed=seed, split=split
        )
        kept = _Kept(masking=found.masking, broken=digits(found.broken), has_gradients=found.has_gradients)
        ledger.put(key, kept.model_dump_json())
    return kept.masking, mask(kept.broken), kept.has_gradients


class _Kept(BaseModel):
    """What an examination found, as it is kept."""

    masking: Masking
    broken: str
    has_gradients: bool


def _known(
    masking: Masking | None, broken: Tensor, nearest: Sequence[Bounded], examples: slice
) -> Callable[[Threat], Tensor]:
    """Return what tells for a threat which of the examples other searches broke there.

    `broken` is what the checks broke of them; those beyond their sample they did not.
    """
    n = examples.stop - examples.start
    by_checks = torch.cat([broken, torch.zeros(n - len(broken), dtype=torch.bool)])

    def known(threat: Threat) -> Tensor:
        found = torch.zeros_like(by_checks)
        if masking is not None and threat.norm == masking.norm and threat.eps >= masking.eps:
            found |= by_checks
        for one in nearest:
            if one.norm == threat.norm:
                found |= torch.tensor([v is not None and v <= threat.eps for v in one.values[examples]])
        return found

    return known


SUSPICIOUS, BROKEN = 0.05, 0.1
"""Shares of all examples that searches without gradients break after all gradient attacks, as for `BlackBox`."""


def _with_the_evaluation(masking: Masking, robust: Sequence[RobustAccuracy], plan: Plan, n: int) -> Masking:
    """Return the findings, with one more where attacks without gradients broke what those with gradients did not.

    Only a cascade tells, where they come after those with gradients.
    """
    if not plan.cascade or not any(not attack.uses_gradients for attack in plan.attacks):
        return masking
    gains: dict[str, float | None] = {}
    for one in robust:
        gains[f"{one.norm} {one.eps:.6g}"] = sum(
            (result.attacked or 0) / n - result.accuracy
            for attack, result in zip(plan.attacks, one.attacks, strict=True)
            if not attack.uses_gradients
        )
    where, most = max(((where, gain or 0.0) for where, gain in gains.items()), key=lambda item: item[1])
    if most <= SUSPICIOUS:
        return masking
    level: Level = "broken" if most > BROKEN else "suspicious"
    finding = Finding(
        check="the evaluation",
        name="Evaluation",
        level=level,
        evidence=f"After all gradient attacks, searches that need none break {100 * most:.3g} % of all {n} examples "
        f"at {where}.",
        rule=f"That breaks more than {100 * SUSPICIOUS:g} % (suspicious) or {100 * BROKEN:g} % (broken).",
        figures=gains,
        seconds=0.0,
    )
    findings = [*masking.findings, finding]
    return Masking.model_validate(
        masking.model_dump() | {"findings": findings, "verdict": verdict_of([each.level for each in findings])}
    )
