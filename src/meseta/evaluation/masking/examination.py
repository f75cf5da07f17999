"""Examine a model for gradient masking: every check on one threat, and what their findings call for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from meseta.attacks.base import Attack, misclassified
from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of, whole
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.batching import batched
from meseta.evaluation.masking.base import FAILED, Case, MaskingCheck, Observation, share
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
    batch_size: int = 100,
    seed: int = 0,
    split: str = "given",
) -> Examination:
    """Run every masking check and return the verdict with its evidence.

    The correctly classified ones among the first n examples are examined, at one threat, whose eps the record states.
    Of several threats, of whatever norm, the one is taken where the reference, PGD-20 on the cross-entropy, leaves
    nearest to half of them standing. An eps at which nothing or everything breaks tells nothing: where more than 90 %
    or fewer than 10 % stand at all of them, an eps between or beyond is looked for by bisection, up to the range of the
    bounds. Other norms are not examined; call this again for each.

    The model runs in eval mode; its modes, gradients and torch's global randomness are left as found. A check that
    raises is "suspicious", and loses none of the others; one that finds nothing wrong on fewer than 20 examples is
    "untested".

    Args:
        model: inputs to logits (B, K).
        x: inputs (N, *input). y: labels (N,).
        threat: one, or several with the same bounds.
        checks: None for all of them with their default settings.
        n: how many of the examples to look at.
        batch_size: examples that the model meets at a time.
        seed: of all randomness.
        split: name of the data split, for the record.

    Cost: that of the checks; with the default ones about 400 forwards and backwards and 900 forwards of each example
    that the reference leaves standing. PGD-20 at each threat, and at up to 8 eps of the bisection.
    Raises:
        UserError: no threat or checks, bad inputs or labels, a model that does not return logits.
    """
    threats, chosen = _checked(threat, all_checks() if checks is None else checks)
    whole("n", n, 1)
    whole("seed", seed, 0)
    whole("batch_size", batch_size, 1)
    inputs, labels = next(batched(model, x, y, n, bounds=threats[0].bounds))
    stop = provenance.start(seed, inputs.device)
    everything = Case(model, inputs, labels, threats[0], seed, batch_size=batch_size)
    right = ~misclassified(everything.logits, labels)
    broken = torch.zeros_like(y, dtype=torch.bool)
    if right.any():
        case = _most_telling(
            Case(model, inputs[right], labels[right], threats[0], seed, batch_size=batch_size), threats
        )
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
    """Return the attacks that checks call for which found something; one that raised found nothing."""
    return [
        attack
        for check, finding in zip(checks, findings, strict=True)
        if finding.level in ("suspicious", "broken") and not finding.evidence.startswith(FAILED)
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


TELLING = (0.1, 0.9)
"""Between these shares standing, attacks can be compared."""

BEYOND = 0.6
"""At an eps beyond the given ones at least so many are to stand."""

HALVINGS = 8
"""How often an eps between two is tried."""


def _most_telling(case: Case, threats: Sequence[Threat]) -> Case:
    """Return the case at the threat where the reference leaves nearest to half standing, or at an eps between or beyond
    where none of them tells; at the largest eps of the first norm where nothing breaks, or the reference cannot run.
    """
    norms = [threat.norm for threat in threats]
    given = [case.at(each) for each in sorted(threats, key=lambda each: (norms.index(each.norm), -each.eps))]
    try:
        best = min(given, key=_from_half)
        if not _tells(best):
            of_norm = [each for each in given if each.threat.norm == best.threat.norm]
            best = min([best, *_between(of_norm)[-1:]], key=_from_half)
    except Exception:  # each check will say what the model does not allow
        return given[0]
    return best if share(best.by_loss) >= 1 - TELLING[1] else given[0]


def _between(cases: Sequence[Case]) -> list[Case]:
    """Return cases at eps between those where nearly all stand and where nearly none do, until one tells.

    Beyond the given ones until it barely does: adversarial training masks a model beyond the eps that it trained at.
    """
    threat, x = cases[0].threat, cases[0].x
    farthest = float(replace(threat, bounds=threat.bounds or (float(x.min()), float(x.max()))).reach(x).max())
    low = max((case.threat.eps for case in cases if _stands(case) and case.threat.eps < farthest), default=0.0)
    high = min([farthest, *(case.threat.eps for case in cases if not _stands(case))])
    least = BEYOND if all(_stands(case) for case in cases) else TELLING[0]
    tried: list[Case] = []
    while low < high and len(tried) < HALVINGS and not (tried and _tells(tried[-1], least)):
        tried.append(cases[0].at(replace(threat, eps=(low * high) ** 0.5 or high / 2)))
        if _stands(tried[-1], least):
            low = tried[-1].threat.eps
        else:
            high = tried[-1].threat.eps
    return tried


TELLING = (0.1, 0.9)
"""Attacks can be compared where the reference leaves a share between these standing."""

BEYOND = 0.6
"""At an eps beyond the given ones at least so many are to stand."""

HALVINGS = 8
"""How many eps are tried where none of the given ones tells."""


def _from_half(case: Case) -> float:
    return abs(share(~case.by_loss) - 0.5)


def _tells(case: Case, least: float = TELLING[0]) -> bool:
    return least <= share(~case.by_loss) <= TELLING[1]


def _stands(case: Case, least: float = 0.5) -> bool:
    return share(~case.by_loss) > max(least, 0.5)


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
