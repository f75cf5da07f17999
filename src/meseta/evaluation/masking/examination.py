"""Examine a model for gradient masking: every check on one threat, and what their findings call for."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import Attack, misclassified
from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of, whole
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.batching import batched
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation, share
from meseta.evaluation.record import Finding, Masking, verdict_of
from meseta.registry import methods
from meseta.threat import Threat


@dataclass(frozen=True)
class Examination:
    """What the checks found.

    Attributes:
        masking: the section of the record.
        threat: the one that was examined.
        broken: (N,) bool, over all examples given: where any search of the checks broke the model within the threat.
        has_gradients: whether autograd can follow the model from its output to its input.
    """

    masking: Masking
    threat: Threat
    broken: Tensor
    has_gradients: bool


def examine(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    threat: Threat | Sequence[Threat] = Threat(),
    checks: Sequence[MaskingCheck] | None = None,
    n: int = 100,
    seed: int = 0,
    split: str = "given",
) -> Examination:
    """Run every masking check and return the verdict with its evidence.

    The correctly classified ones among the first n examples are examined. Of several threats the one is taken where the
    reference, PGD-20 on the cross-entropy, leaves nearest to half of them standing: an eps at which nothing or
    everything breaks tells nothing. The model runs in eval mode; its modes, gradients and torch's global randomness are
    left as found. A check that fails is "untested", and loses none of the others; so is one that finds nothing wrong on
    fewer than 20 examples.

    Args:
        model: inputs to logits (B, K).
        x: inputs (N, *input). y: labels (N,).
        threat: one, or several with the same bounds.
        checks: None for all of them with their default settings.
        n: how many of the examples to look at.
        seed: of all randomness.
        split: name of the data split, for the record.

    Cost: that of the checks; with the default ones about 400 forwards and backwards and 900 forwards of each example
    that the reference leaves standing.
    Raises:
        UserError: no threat or checks, bad inputs or labels, a model that does not return logits.
    """
    threats, chosen = _checked(threat, all_checks() if checks is None else checks)
    whole("n", n, 1)
    whole("seed", seed, 0)
    inputs, labels = next(batched(model, x, y, n, bounds=threats[0].bounds))
    stop = provenance.start(seed, inputs.device)
    everything = Case(model, inputs, labels, threats[-1], seed)
    right = ~misclassified(everything.logits, labels)
    broken = torch.zeros_like(y, dtype=torch.bool)
    if right.any():
        case = _most_telling([Case(model, inputs[right], labels[right], each, seed) for each in threats])
        findings = [_of_enough(check(case), int(right.sum())) for check in chosen]
        broken[right.nonzero().squeeze(1).to(y.device)] = case.broken.to(y.device)
    else:
        case, findings = everything, [_untested(check) for check in chosen]
    masking = Masking(
        provenance=stop(),
        norm=case.threat.norm,
        eps=case.threat.eps,
        split=split,
        n=int(right.sum()),
        verdict=verdict_of([finding.level for finding in findings]),
        findings=findings,
    )
    return Examination(masking, case.threat, broken, case.has_gradients)


def called_for(checks: Sequence[MaskingCheck], findings: Sequence[Finding]) -> list[Attack]:
    """Return the attacks that failed checks call for."""
    return [
        attack
        for check, finding in zip(checks, findings, strict=True)
        if finding.level in ("suspicious", "broken")
        for attack in check.calls_for()
    ]


def all_checks() -> tuple[MaskingCheck, ...]:
    """Return every masking check with its default settings."""
    return tuple(check() for check in methods("checks").values())


def _checked(
    threat: Threat | Sequence[Threat], checks: Sequence[MaskingCheck]
) -> tuple[list[Threat], Sequence[MaskingCheck]]:
    threats = [threat] if isinstance(threat, Threat) else list(threat)
    if not threats or not checks:
        raise UserError("`threat` and `checks` must each hold at least one entry.")
    for one in threats:
        instance_of("threat", one, Threat)
    for check in checks:
        instance_of("checks", check, MaskingCheck)
    if len({one.bounds for one in threats}) > 1:
        raise UserError("`threat`: all threats must share their bounds, as the inputs do. Examine them apart.")
    return threats, checks


def _most_telling(cases: Sequence[Case]) -> Case:
    """Return the case whose reference leaves nearest to half standing; the largest eps where none can be taken."""
    if len(cases) == 1:
        return cases[0]
    try:
        return min(cases, key=lambda case: (abs(share(case.by_loss) - 0.5), -case.threat.eps))
    except (UserError, RuntimeError, NotImplementedError):  # each check will say what the model does not allow
        return max(cases, key=lambda case: case.threat.eps)


LEAST = 20
"""On fewer examples nothing is fine: too few to tell."""


def _of_enough(finding: Finding, n: int) -> Finding:
    if finding.level != "fine" or n >= LEAST:
        return finding
    return finding.model_copy(
        update={"level": "untested", "evidence": f"{n} examples are too few to trust a model. {finding.evidence}"}
    )


def _untested(check: MaskingCheck) -> Finding:
    return check.finding(Observation("untested", "No example is classified correctly, so that none can be broken.", {}))
