"""Scalar fields along a direction at single examples, for the record."""

from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Model
from meseta.checks import instance_of
from meseta.evaluation import provenance
from meseta.evaluation.record import Profile
from meseta.geometry.expansion import Expansion
from meseta.threat import Norm, Threat


def profile(
    model: Model, x: Tensor, y: Tensor, *, expansion: Expansion, indices: Sequence[int], split: str = "given"
) -> list[Profile]:
    """Return the expansions at each example of x (B, *input) with labels y (B,); to six digits.

    Args:
        model: inputs to logits (B, K); runs in eval mode and gets its mode back.
        x, y: the examples. indices: of them in their split, for the record.
        expansion: of which field, and along what.
        split: name of the data split, for the record.

    Raises:
        UserError: what the expansion refuses.
    """
    instance_of("expansion", expansion, Expansion)
    stop = provenance.start(expansion.seed, x.device)
    found = expansion(model, x, y)
    done, field = stop(), type(expansion.field).__name__
    norms: tuple[Norm, ...] = (expansion.threat.norm, "L2")  # of the threat, and of the expansions' h
    lengths = {norm: Threat(norm).distance(found.eta, torch.zeros_like(found.eta)).tolist() for norm in norms}
    return [
        Profile(
            provenance=done,
            name=f"{field} along {'its gradient' if expansion.direction == 'gradient' else 'a random direction'}",
            settings=repr(expansion),
            split=split,
            index=index,
            x_label="t",
            y_label=field,
            lengths={norm: float(f"{length[i]:.6g}") for norm, length in lengths.items()},
            x=[float(f"{t:.6g}") for t in found.t.tolist()],
            curves={name: [_short(v) for v in rows[i].tolist()] for name, rows in found.curves.items()},
        )
        for i, index in enumerate(indices)
    ]


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if isfinite(value) else None
