"""What the measures of the Hessian share: where a search starts, dense matrices within bounded memory, refusals."""

from collections.abc import Iterator

import torch
from torch import Tensor

from meseta.autodiff.hessian import Hessian
from meseta.checks import check_curved
from meseta.errors import UserError
from meseta.geometry.base import FieldMeasure
from meseta.linalg.norms import norm, per_example
from meseta.linalg.random import randn
from meseta.shapes import Float

ENTRIES = 2**24
"""What a dense array holds at most, in numbers, where examples can be taken a few at a time."""


def start(gradient: Float[Tensor, "b *input"]) -> Float[Tensor, "b *input"]:
    """Return the gradient, or a fixed random direction, the same for every example, where it is zero."""
    return torch.where(per_example(norm(gradient) > 0, gradient), gradient, random_direction(gradient))


def random_direction(like: Float[Tensor, "b *input"], seed: int = 0) -> Float[Tensor, "b *input"]:
    """Return one normal vector for all examples, so that none depends on its batch."""
    return randn(like[:1].shape, like, torch.Generator().manual_seed(seed)).expand_as(like)


def check_seen(measure: FieldMeasure, hessian: Hessian, curvature: Float[Tensor, "b"], also: str = "") -> None:
    """Raise where the measure's field is linear in the logits and its Hessian is zero, as on ReLU networks."""
    if measure.field.linear_in_logits:
        instead = f"measure CrossEntropy(), whose Hessian is not zero there{also}"
        check_curved(hessian.gradient, curvature, type(measure).__name__, instead)


def check_small(measure: FieldMeasure, x: Tensor, most: int, instead: str) -> None:
    """Raise where inputs have more than `most` values, so that a dense Hessian would take too many products."""
    if x[0].numel() > most:
        raise UserError(
            f"`most`: {type(measure).__name__} takes one Hessian product per input value, and these inputs have "
            f"{x[0].numel()}, above {most}. {instead}, or raise `most`."
        )


def few_at_a_time(x: Tensor, y: Tensor, entries: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batch in parts of as many examples as ENTRIES allows, at `entries` numbers each."""
    size = max(1, ENTRIES // entries)
    for first in range(0, len(x), size):
        yield x[first : first + size], y[first : first + size]


def dense(hessian: Hessian, x: Float[Tensor, "b *input"]) -> Float[Tensor, "b d d"]:
    """Return the Hessian itself, by d products with unit vectors."""
    units = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)
    return torch.stack([hessian(unit.expand(len(x), -1).reshape(x.shape)).flatten(1) for unit in units], 1)
