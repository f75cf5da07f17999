"""Surfaces as sections of the record: fields over a plane through an example, or through a model's parameters."""

from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor, nn

from meseta.attacks import Attack
from meseta.autodiff.scalar_fields import CrossEntropy, Decision, Model, ScalarField
from meseta.checks import check_batch, constant, instance_of, positive, whole
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.evaluation.judge import predict
from meseta.evaluation.ledger import digest
from meseta.evaluation.record import AttackPath, Direction, Surface
from meseta.surfaces import (
    Adversarial,
    Axis,
    InputOrigin,
    InputPlane,
    ParameterOrigin,
    Random,
    attack_path,
    ball_outline,
    crossings,
    input_plane,
    over_parameters,
    over_plane,
    parameter_plane,
)
from meseta.surfaces.base import OBLIQUE
from meseta.threat import Threat

Progress = Callable[[int], object]


def surface(
    model: Model,
    x: Tensor,
    y: Tensor,
    *,
    index: int = 0,
    axes: Sequence[Axis] = (Random(), Adversarial()),
    fields: Sequence[ScalarField] = (Decision(),),
    threat: Threat | None = None,
    span: float | None = None,
    resolution: int = 101,
    clipped: bool = False,
    attack: Attack | None = None,
    axes_of: Model | None = None,
    of: str = "the model",
    split: str = "given",
    settings: str = "",
    progress: Progress | None = None,
) -> Surface:
    """Look at scalar fields on the plane through an example along two axes.

    V(i, j) = F(x + i alpha + j beta), ||alpha||_p = ||beta||_p = 1 in the threat's norm.

    The decision function is always among the fields, so that the boundary can be drawn; where the decision first
    changes along the axes is found to six digits. The model runs in eval mode and gets its mode back.

    Args:
        model: inputs to logits (B, K).
        x: examples (N, *input), of which one is looked at and others may be pointed to. y: their labels, (N,).
        index: of the example. axes: two. fields: what is shown.
        threat: the norm that lengths are in, the ball that is outlined, and the bounds; 8/255 in Linf by default.
        span: the largest coordinate on either axis; None for three times eps.
        resolution: points along each axis, odd ones so that the example itself is among them.
        clipped: bring points that leave the bounds back to them, entry by entry: all are then valid inputs, and the
            plane is bent.
        attack: its way is seen on the plane, under this threat; None for none.
        axes_of: the model whose gradients the axes follow; None for the one that is shown. of: its name.
        split: name of the data split. settings: what the record calls these settings; None for a list of them.
        progress: called with the number of points.

    Cost: resolution^2 forwards, a few thousand more for the distances to the boundary; no gradients but those of axes
    and attack.

    Raises:
        UserError: an index that is not there, axes that span no plane, points outside the bounds, wrong shapes.

    Source: Yu 2018, equations 1 and 3.
    """
    threat = threat or Threat()
    _check(index, x, fields, resolution, span)
    threat.check(x[index : index + 1], y[index : index + 1])
    x, y = constant(x), constant(y).long()
    stop = provenance.start(None, x.device)
    one = InputOrigin(model, x[index : index + 1], y[index : index + 1], threat, x)
    followed = one if axes_of is None else InputOrigin(axes_of, one.x, one.y, threat, x)
    plane = input_plane(followed, axes, clipped=clipped)
    span = 3 * threat.eps if span is None else span
    grid = torch.linspace(-span, span, resolution, dtype=x.dtype, device=x.device)
    shown = {field_name(field): field for field in (*fields, Decision())}
    values = over_plane(plane, one, shown, grid, grid, progress=progress)
    changes = crossings(plane, one, span)
    path = None if attack is None else _path(attack.against(threat), one, plane)
    return Surface(
        provenance=stop(),
        settings=settings or repr((tuple(axes), tuple(fields), threat, span, resolution, clipped, attack)),
        space="input",
        plane=digest(plane.x, plane.axes, repr(plane.clip)),
        of=of,
        split=split,
        index=index,
        n=1,
        example=digest(one.x),
        label=int(one.y),
        predicted=_predicted(one),
        norm=threat.norm,
        eps=threat.eps,
        clipped=plane.clip is not None,
        axes=_directions(axes, changes, plane.cosine),
        cosine=_short(plane.cosine),
        x=_digits(grid),
        y=_digits(grid),
        fields={name: _rows(found) for name, found in values.items()},
        shown=[field_name(field) for field in fields],
        ball=[(_short(i), _short(j)) for i, j in ball_outline(plane, one)],
        path=path,
    )


def parameter_surface(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    axes: Sequence[Axis] = (Random(), Random()),
    fields: Sequence[ScalarField] = (CrossEntropy(),),
    span: float = 1.0,
    resolution: int = 31,
    of: str = "the model",
    split: str = "given",
    settings: str = "",
    progress: Progress | None = None,
) -> Surface:
    """Look at the means of scalar fields over the examples on a plane through the model's parameters.

    V(i, j) = 1/N sum_n F(x_n; theta + i alpha + j beta), alpha and beta about as long as theta.

    Args:
        model: any nn.Module; its parameters and buffers stay as they were.
        x: examples (N, *input). y: their labels, (N,).
        axes: two that have a meaning there, filter-normalised where they are random.
        fields: what is shown.
        span: the largest coordinate on either axis, in lengths of the parameters.
        resolution, of, split, settings, progress: as of `surface`.

    Cost: resolution^2 forwards of all examples.

    Raises:
        UserError: axes without a meaning there, or a model that is no nn.Module.

    Source: Li et al. 2018; Yu 2018, section 2.
    """
    instance_of("model", model, nn.Module)
    check_batch(x, y)
    _check(0, x, fields, resolution, span)
    x, y = constant(x), constant(y).long()
    stop = provenance.start(None, x.device)
    origin = ParameterOrigin(model, x, y)
    plane = parameter_plane(origin, axes)
    grid = torch.linspace(-span, span, resolution, dtype=x.dtype)
    shown = {field_name(field): field for field in fields}
    values = over_parameters(plane, origin, shown, grid, grid, progress=progress)
    return Surface(
        provenance=stop(),
        settings=settings or repr((tuple(axes), tuple(fields), span, resolution)),
        space="parameters",
        plane=digest(plane.vector, plane.axes),
        of=of,
        split=split,
        index=None,
        n=len(x),
        example=None,
        label=None,
        predicted=None,
        norm=None,
        eps=None,
        clipped=False,
        axes=_directions(axes, [(None, None), (None, None)], plane.cosine),
        cosine=_short(plane.cosine),
        x=_digits(grid),
        y=_digits(grid),
        fields={name: _rows(found) for name, found in values.items()},
        shown=[field_name(field) for field in fields],
    )


def field_name(field: ScalarField) -> str:
    """Return a field's class name, with its settings where they are not the usual ones."""
    return type(field).__name__ if field == type(field)() else repr(field)


def _check(index: int, x: Tensor, fields: Sequence[ScalarField], resolution: int, span: float | None) -> None:
    whole("index", index, 0)
    if index >= len(x):
        raise UserError(f"`index` must be below the {len(x)} examples there are, got {index}.")
    if not fields:
        raise UserError("`fields` must hold at least one field, such as Decision().")
    for field in fields:
        instance_of("fields", field, ScalarField)
    whole("resolution", resolution, 2)
    if span is not None:
        positive("span", span)


def _predicted(origin: InputOrigin) -> int | None:
    logits = predict(origin.model, origin.x, origin.y)
    return int(logits.argmax(1)) if bool(logits.isfinite().all()) else None


def _path(attack: Attack, origin: InputOrigin, plane: InputPlane) -> AttackPath:
    points = attack_path(attack, origin.model, origin.x, origin.y)
    where, off = plane.coordinates(points)
    length = torch.linalg.vector_norm((points[-1] - plane.x).double())
    last = predict(origin.model, points[-1:], origin.y)
    return AttackPath(
        attack=attack.name,
        points=[(_short(i), _short(j)) for i, j in where.tolist()],
        off=_short(float(off[-1] / length)) if length > 0 else 0.0,
        succeeded=bool(last.argmax(1) != origin.y) or not bool(last.isfinite().all()),
    )


def _directions(
    axes: Sequence[Axis], changes: Sequence[tuple[float | None, float | None]], cosine: float
) -> tuple[Direction, Direction]:
    first, second = (
        Direction(name=axis.name, axis=repr(axis), forwards=_maybe(ahead), backwards=_maybe(back))
        for axis, (ahead, back) in zip(axes, changes, strict=True)
    )
    return first, second.model_copy(update={"orthogonal_part": abs(cosine) > OBLIQUE})


def _maybe(value: float | None) -> float | None:
    return None if value is None else _short(value)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _digits(values: Tensor) -> list[float]:
    return [_short(value) for value in values.tolist()]


def _rows(values: Tensor) -> list[list[float | None]]:
    return [[float(f"{v:.5g}") if isfinite(v) else None for v in row] for row in values.tolist()]
