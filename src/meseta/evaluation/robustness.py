"""Clean and robust accuracy: every attack at every threat, worst case per example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from meseta.attacks.base import Attack, misclassified
from meseta.attacks.fgsm import FGSM
from meseta.attacks.pgd import PGD
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.batching import Batches, batched
from meseta.evaluation.judge import judge_attack, predict
from meseta.evaluation.record import AttackResult, Evaluation, RobustAccuracy
from meseta.threat import Threat


def default_attacks() -> tuple[Attack, ...]:
    """Return FGSM, PGD-40 on the cross-entropy and PGD-40 on the C&W margin."""
    return FGSM(), PGD(), PGD(loss=Decision())


def evaluate(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    *,
    threat: Threat | Sequence[Threat] = Threat(),
    attacks: Attack | Sequence[Attack] | None = None,
    batch_size: int = 256,
    seed: int = 0,
    split: str = "given",
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Measure clean accuracy, accuracy under each attack and the worst case per example.

    An example counts as robust at (norm, eps) only if it is classified correctly and no attack of that norm breaks it
    at eps or at any smaller eps evaluated with it: the balls are nested, so what broke it there breaks it here. Curves
    therefore never rise, and an attack is not run again where it has already succeeded. Every result is judged (see
    `judge_attack`).

    Args:
        model: inputs to logits (B, K); runs in eval mode and gets its mode back.
        x: inputs (N, *input), or a loader of (x, y) batches in place of x and y.
        y: labels (N,).
        threat: one threat, or several over norms and eps.
        attacks: what to attack with, each run under every threat in place of its own; None for FGSM, PGD-40 on the
            cross-entropy and PGD-40 on the C&W margin.
        batch_size: examples attacked at a time, where x and y are tensors.
        seed: of all randomness; each batch and attack has its own stream.
        split: name of the data split, for the record.
        progress: called with the number of examples after each batch.

    Returns:
        An `Evaluation`, a section of the record.

    Raises:
        UserError: inputs outside a threat's bounds or not finite, wrong shapes or labels, no data, no attack.
    """
    threats, suite = _checked(threat, default_attacks() if attacks is None else attacks)
    tallies = {t: [_Tally() for _ in suite] for t in threats}
    worst = dict.fromkeys(threats, 0)
    n = correct = nonfinite = 0
    stop = None
    for index, (inputs, labels) in enumerate(batched(model, x, y, batch_size, bounds=threats[0].bounds)):
        threats[0].check(inputs, labels)  # all share their bounds
        stop = stop or provenance.start(seed, inputs.device)
        logits = predict(model, inputs, labels)
        right = ~misclassified(logits, labels)
        n, correct = n + len(labels), correct + int(right.sum())
        nonfinite += int((~logits.isfinite().all(1)).sum())
        standing = {t.norm: [right.clone() for _ in suite] for t in threats}
        for t in threats:
            for k, attack in enumerate(suite):
                generator = torch.Generator(inputs.device).manual_seed(seed + 1_000_003 * index + k)
                tallies[t][k].run(attack.against(t), model, inputs, labels, standing[t.norm][k], generator)
            worst[t] += int(torch.stack(standing[t.norm]).all(0).sum())
        if progress:
            progress(len(labels))
    assert stop is not None  # `batched` raises where there is no batch
    return Evaluation(
        provenance=stop(),
        split=split,
        n=n,
        clean_accuracy=correct / n,
        nonfinite_logits=nonfinite,
        robust=[
            RobustAccuracy(
                norm=t.norm,
                eps=t.eps,
                worst_case=worst[t] / n,
                attacks=[tally.result(attack.against(t), n) for attack, tally in zip(suite, tallies[t], strict=True)],
            )
            for t in threats
        ],
    )


def _checked(
    threat: Threat | Sequence[Threat], attacks: Attack | Sequence[Attack]
) -> tuple[list[Threat], list[Attack]]:
    """Return the threats by norm and rising eps, and the attacks; raise where they cannot be used together."""
    threats = [threat] if isinstance(threat, Threat) else list(threat)
    suite = [attacks] if isinstance(attacks, Attack) else list(attacks)
    if not threats or not suite:
        raise UserError("`threat` and `attacks` must each hold at least one entry.")
    if not all(isinstance(t, Threat) for t in threats) or not all(isinstance(a, Attack) for a in suite):
        raise UserError("`threat` and `attacks` must hold Threat and Attack objects, such as Threat('Linf', 8 / 255).")
    if len({t.bounds for t in threats}) > 1:
        raise UserError("`threat`: all threats must share their bounds, as the inputs do. Evaluate them apart.")
    if len({(t.norm, t.eps) for t in threats}) < len(threats):
        raise UserError("`threat`: the same norm and eps is given twice. Give each once.")
    return sorted(threats, key=lambda t: (t.norm, t.eps)), suite


@dataclass
class _Tally:
    """What one attack did under one threat, over the batches so far."""

    standing: int = 0
    violations: int = 0
    seconds: float = field(default=0.0)

    def run(
        self, attack: Attack, model: Model, x: Tensor, y: Tensor, standing: Tensor, generator: torch.Generator
    ) -> None:
        """Attack the examples still standing, and take the broken ones out of `standing`."""
        began = perf_counter()
        if standing.any():
            x, y = x[standing], y[standing]
            judged = judge_attack(model, x, y, attack(model, x, y, generator=generator), attack.threat)
            standing[standing.clone()] = ~judged.broken
            self.violations += int(judged.violation.sum())
        self.standing += int(standing.sum())
        self.seconds += perf_counter() - began

    def result(self, attack: Attack, n: int) -> AttackResult:
        """Return the section of the record."""
        return AttackResult(
            attack=repr(attack),
            name=attack.name,
            accuracy=self.standing / n,
            violations=self.violations,
            seconds=round(self.seconds, 3),
        )
