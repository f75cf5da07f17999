"""The smallest distance at which attacks found an adversarial example, per example: what no certificate can exceed."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from meseta.attacks.base import misclassified
from meseta.attacks.minimum_norm import MinimumNormAttack
from meseta.autodiff.scalar_fields import Model
from meseta.checks import whole
from meseta.errors import UserError
from meseta.evaluation.batching import Batches, batched
from meseta.evaluation.judge import predict
from meseta.evaluation.record import Bounded, Distribution
from meseta.evaluation.statistics import Progress, Taken, gather, summary
from meseta.threat import Threat


def distances(
    model: Model,
    x: Tensor | Batches,
    y: Tensor | None = None,
    *,
    attacks: MinimumNormAttack | Sequence[MinimumNormAttack],
    batch_size: int = 64,
    seed: int = 0,
    split: str = "given",
    progress: Progress | None = None,
    keep: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> Bounded:
    """Return the distance to the nearest adversarial example that any of the attacks finds, per example.

    An upper bound of the distance to the decision boundary. Each result is judged: one that is not finite, outside the
    bounds, or classified correctly in eval mode is ignored, and counted where it is not NaN, which stands for "none
    found". The distance is 0 where the model errs, and None where no attack found any.

    Args:
        attacks: one or more, of one norm and the same bounds.
        seed: of all randomness; each batch and attack has its own stream.

    The other arguments are those of `measure`. The record holds each attack's own distances under `parts`.

    Raises:
        UserError: no attacks, or attacks of several norms or bounds; bad inputs or labels; no data.
    """
    suite = [attacks] if isinstance(attacks, MinimumNormAttack) else list(attacks)
    threat = _shared_threat(suite)
    whole("seed", seed, 0)
    names = [f"{attack.name} ({i})" if _taken(suite, i) else attack.name for i, attack in enumerate(suite, 1)]

    def take(index: int, inputs: Tensor, labels: Tensor) -> Taken:
        right = ~misclassified(predict(model, inputs, labels), labels)
        found, ignored = {}, torch.zeros_like(labels)
        for k, (name, attack) in enumerate(zip(names, suite, strict=True)):
            generator = torch.Generator(inputs.device).manual_seed(seed + 1_000_003 * index + k)
            returned = attack.closest(model, inputs, labels, generator=generator)
            accepted = acceptable(model, inputs, labels, returned, threat)
            ignored += right & ~accepted & ~returned.flatten(1).isnan().any(1)
            distance = torch.where(accepted, threat.distance(returned, inputs).double(), torch.inf)
            found[name] = torch.where(right, distance, 0)
        smallest = torch.stack(list(found.values())).amin(0)
        return {"value": smallest, "correct": right, "ignored": ignored}, found

    batches = batched(model, x, y, batch_size, bounds=threat.bounds)
    columns = gather(take, repr((suite, seed)), model, batches, progress, keep, shard)
    main = columns.main
    return Bounded(
        provenance=columns.provenance(seed),
        name=", ".join(names),
        bound=", ".join(map(repr, suite)),
        kind="attack",
        norm=threat.norm,
        split=split,
        n=len(main["value"]),
        correct=int(main["correct"].sum()),
        ignored=int(main["ignored"].sum()),
        parts={name: Distribution(**summary(part)) for name, part in columns.parts.items()},
        **summary(main["value"]),
    )


def acceptable(model: Model, x: Tensor, y: Tensor, returned: Tensor, threat: Threat) -> Tensor:
    """Return where what an attack returned is finite, inside the bounds and misclassified."""
    finite = returned.flatten(1).isfinite().all(1)
    points = torch.where(finite.view(-1, *[1] * (x.dim() - 1)), returned, x)
    inside = (points == threat.clip(points)).flatten(1).all(1)
    return finite & inside & misclassified(predict(model, points, y), y)


def _shared_threat(suite: Sequence[MinimumNormAttack]) -> Threat:
    if not suite or not all(isinstance(attack, MinimumNormAttack) for attack in suite):
        raise UserError("`attacks` must hold minimum-norm attacks, at least one, such as FMN(threat=Threat('L2')).")
    if len({(attack.threat.norm, attack.threat.bounds) for attack in suite}) > 1:
        raise UserError("`attacks` must share their norm and bounds: distances of several norms do not compare.")
    return suite[0].threat


def _taken(suite: Sequence[MinimumNormAttack], number: int) -> bool:
    """Return whether an earlier attack has the name of this one."""
    return suite[number - 1].name in {attack.name for attack in suite[: number - 1]}
