"""A plane through an input: fields over it, where the decision changes, the threat's ball and paths seen on it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import Decision, ScalarField
from meseta.checks import check_logits, derivatives_in_eval_mode, eval_mode
from meseta.linalg.norms import norm, per_example
from meseta.shapes import Bool, Float
from meseta.surfaces.base import Axis, InputOrigin, spanning, two

Progress = Callable[[int], object]
_BISECTIONS = 40


@dataclass(frozen=True)
class InputPlane:
    """The points x + i alpha + j beta around an example x.

    Args:
        x: the example, (*input). axes: alpha and beta, (2, *input), of length 1 in the norm of the threat.
        clip: bounds to which points are brought back, entry by entry; None to leave the plane flat, whose points then
            may be no images.
        cosine: between the directions that the axes come from; beyond 0.1 beta is the orthogonal part of the second.
    """

    x: Float[Tensor, "*input"]
    axes: Float[Tensor, "2 *input"]
    clip: tuple[float, float] | None = None
    cosine: float = 0.0

    def points(self, i: Float[Tensor, "n"], j: Float[Tensor, "n"]) -> Float[Tensor, "n *input"]:
        """Return the points with these coordinates."""
        moves = per_example(i, self.axes) * self.axes[:1] + per_example(j, self.axes) * self.axes[1:]
        return self.x + moves if self.clip is None else (self.x + moves).clamp(*self.clip)

    def coordinates(self, points: Float[Tensor, "n *input"]) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
        """Return the coordinates of the nearest points of the flat plane (L2), and the distances to them (L2)."""
        moves = (points - self.x).flatten(1).double()
        axes = self.axes.flatten(1).double()
        found = torch.linalg.lstsq(axes.T, moves.T).solution.T
        return found, (moves - found @ axes).norm(dim=1)


def input_plane(origin: InputOrigin, axes: Sequence[Axis], *, clipped: bool = False) -> InputPlane:
    """Return the plane through an example along two axes, the second orthogonal to the first where it is oblique.

    Args:
        origin: the example, the model whose geometry the axes follow, and the threat whose norm they have length 1 in.
        axes: two. clipped: bring points back into the threat's bounds.

    Raises:
        UserError: not two axes, or two that span no plane.
    """
    first, second = two(axes)
    with derivatives_in_eval_mode(origin.model):
        alpha = first.of_input(origin, 0)
        beta = second.of_input(origin, int(first == second))
    both, cosine = spanning(axes, alpha, beta, origin.threat.p)
    return InputPlane(origin.x[0], both, origin.threat.bounds if clipped else None, cosine)


@torch.no_grad()
def over_plane(
    plane: InputPlane,
    origin: InputOrigin,
    fields: Mapping[str, ScalarField],
    i: Float[Tensor, "w"],
    j: Float[Tensor, "h"],
    *,
    batch_size: int = 512,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "h w"]]:
    """Return each field at the points x + i alpha + j beta, a row for each j; all of them from the same forwards.

    A field that depends on its base point (a margin to the runner-up) is bound at x.

    Args:
        plane: of any model's axes. origin: the example, and the model that is shown; its mode is put back.
        fields: by name. i, j: coordinates. batch_size: points at a time. progress: called with their number.

    Cost: one forward for each point.
    """
    grid = torch.cartesian_prod(j, i)
    found: dict[str, list[Tensor]] = {name: [] for name in fields}
    with eval_mode(origin.model):
        base = _logits(origin, origin.x)
        for y_and_x in torch.split(grid, batch_size):
            logits = _logits(origin, plane.points(y_and_x[:, 1], y_and_x[:, 0]))
            label = origin.y.expand(len(logits))
            for name, field in fields.items():
                found[name].append(field.bind(_same, base.expand(len(logits), -1), label)(logits))
            if progress:
                progress(len(logits))
    return {name: torch.cat(values).view(len(j), len(i)) for name, values in found.items()}


def _same(logits: Tensor) -> Tensor:
    return logits


def _logits(origin: InputOrigin, points: Tensor) -> Tensor:
    return check_logits(origin.model(points.clone()), points, origin.y.expand(len(points)))


@torch.no_grad()
def crossings(
    plane: InputPlane, origin: InputOrigin, span: float, *, scanned: int = 512
) -> list[tuple[float | None, float | None]]:
    """Return for each axis how far from x the decision first changes along it and against it.

    The first change of the sign of L = z_y - max_{j != y} z_j among `scanned` equal steps up to `span`, then bisected;
    a region thinner than a step may be passed over. Logits that are not finite count as an error. None where the
    decision does not change.

    Cost: 4 (`scanned` + 40) forwards.
    """
    steps = torch.linspace(0, span, scanned + 1, dtype=plane.x.dtype, device=plane.x.device)
    return [(_crossing(plane, origin, axis, steps), _crossing(plane, origin, axis, -steps)) for axis in (0, 1)]


def _crossing(plane: InputPlane, origin: InputOrigin, axis: int, steps: Tensor) -> float | None:
    def right(at: Tensor) -> Bool[Tensor, "n"]:
        with eval_mode(origin.model):
            logits = _logits(origin, plane.points(*((at, 0 * at) if axis == 0 else (0 * at, at))))
        return logits.isfinite().all(1) & (Decision().of_logits(logits, origin.y.expand(len(at))) > 0)

    found = torch.cat([right(part) for part in torch.split(steps, 512)])
    changed = (found != found[0]).nonzero()
    if len(changed) == 0:
        return None
    low, high = steps[changed[0] - 1], steps[changed[0]]
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if bool(right(middle) == found[0]) else (low, middle)
    return abs(high.item())


@torch.no_grad()
def ball_outline(plane: InputPlane, origin: InputOrigin, *, angles: int = 720) -> list[tuple[float, float]]:
    """Return the outline of the threat's ball on the plane, a closed line; none where the bounds keep all inside.

    Where points are clipped, the outline is where the clipped move has length eps. Directions in which it never has are
    left out.
    """
    turn = torch.linspace(0, 2 * pi, angles + 1, dtype=torch.float64).to(plane.x)
    i, j = turn.cos(), turn.sin()
    moves = per_example(i, plane.axes) * plane.axes[:1] + per_example(j, plane.axes) * plane.axes[1:]
    radius = origin.threat.eps / norm(moves, origin.threat.p)
    if plane.clip is not None:
        low, high = radius, 100 * radius
        reached = norm(plane.points(high * i, high * j) - plane.x, origin.threat.p) >= origin.threat.eps
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            short = norm(plane.points(middle * i, middle * j) - plane.x, origin.threat.p) < origin.threat.eps
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        i, j, radius = i[reached], j[reached], high[reached]
    return [(a, b) for a, b in zip((radius * i).tolist(), (radius * j).tolist(), strict=True)]
