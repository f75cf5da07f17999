"""The threat model: which perturbations an attacker may make, and the geometry of that set."""

from dataclasses import dataclass
from numbers import Real
from typing import Literal

import torch
from torch import Tensor

from meseta.checks import Bounds, check_batch, positive
from meseta.errors import UserError
from meseta.linalg.norms import INFINITY, dual_exponent, norm, normalized, per_example
from meseta.linalg.random import rand, randn
from meseta.shapes import Bool, Float

Norm = Literal["Linf", "L2", "L1"]

_EXPONENT: dict[str, float] = {"Linf": INFINITY, "L2": 2.0, "L1": 1.0}


@dataclass(frozen=True)
class Threat:
    """All x' with ||x' - x||_p <= eps inside the bounds of valid inputs.

    Args:
        norm: `Linf`, `L2` or `L1`, over all entries of one example.
        eps: the radius, in units of the input ([0, 1] pixels unless the bounds say otherwise).
        bounds: lowest and highest valid input value; None for unbounded inputs (tabular data).
    """

    norm: Norm = "Linf"
    eps: float = 8 / 255
    bounds: Bounds | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.norm not in _EXPONENT:
            raise UserError(f"`norm` must be one of {', '.join(_EXPONENT)}, got {self.norm!r}.")
        positive("eps", self.eps)
        object.__setattr__(self, "eps", float(self.eps))
        if self.bounds is None:
            return
        pair = tuple(self.bounds) if isinstance(self.bounds, tuple | list) else ()
        numbers = len(pair) == 2 and all(isinstance(value, Real) for value in pair)
        if not numbers or not -INFINITY < pair[0] < pair[1] < INFINITY:
            raise UserError(f"`bounds` must be (low, high) with low < high, both finite, got {self.bounds}.")
        object.__setattr__(self, "bounds", (float(pair[0]), float(pair[1])))

    @property
    def p(self) -> float:
        """The exponent of the norm: inf, 2 or 1."""
        return _EXPONENT[self.norm]

    @property
    def dual(self) -> float:
        """The dual exponent q, 1/p + 1/q = 1: to first order an attack raises f by eps ||grad f||_q."""
        return dual_exponent(self.p)

    def l2_radius(self, d: int) -> float:
        """Return the radius of the smallest L2 ball around the ball in d dimensions: sqrt(d) eps for Linf."""
        return self.eps * d**0.5 if self.norm == "Linf" else self.eps

    def check(self, x: Tensor, y: Tensor) -> None:
        """Raise unless (x, y) is a batch of finite inputs inside the bounds."""
        check_batch(x, y, bounds=self.bounds)

    def distance(self, adversarial: Float[Tensor, "b *input"], x: Float[Tensor, "b *input"]) -> Float[Tensor, "b"]:
        """Return ||adversarial - x||_p per example."""
        return norm(adversarial - x, self.p)

    def contains(
        self, adversarial: Float[Tensor, "b *input"], x: Float[Tensor, "b *input"], *, slack: float = 1e-4
    ) -> Bool[Tensor, "b"]:
        """Return whether each example lies in ball and bounds; NaN does not.

        Up to rounding: `slack` relative to eps, and a unit in the last place of every entry that has moved.
        """
        largest = torch.maximum(adversarial.abs(), x.abs()).double()
        unit = torch.finfo(x.dtype).eps * torch.where(adversarial == x, 0, largest)
        length = norm(adversarial.double() - x.double(), self.p)
        inside = length <= self.eps * (1 + slack) + norm(unit, self.p)
        if self.bounds is not None:
            low, high = self.bounds
            margin = self.eps * slack
            flat = adversarial.flatten(1)
            inside = inside & (flat >= low - margin).all(1) & (flat <= high + margin).all(1)
        inside = inside & adversarial.flatten(1).isfinite().all(1)
        return inside

    def project(
        self,
        points: Float[Tensor, "b *input"],
        x: Float[Tensor, "b *input"],
        *,
        radius: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b *input"]:
        """Return the nearest points (L2) of ball and bounds together; x must lie in the bounds.

        With a `radius`, each example has a finite one of its own in place of eps.

        With u = points - x and the box [low - x, high - x] of moves that stay in bounds, the projection is
        Linf: u clipped to both; L2: clip(t u) with the t that meets the radius; L1: clip(soft(u, s)) with the threshold
        s that does.
        """
        move = points - x
        if self.norm == "Linf":
            size = per_example(x.new_full((len(x),), self.eps) if radius is None else radius, x)
            return self.clip(x + move.clamp(-size, size))
        eps = self.eps if radius is None else radius
        low, high = self._room(x)
        if self.norm == "L2":
            move = _project_l2(move, low, high, eps)
        else:
            move = _project_l1(move, low, high, eps)
        return self.clip(x + move)

    def reach(self, x: Float[Tensor, "b *input"]) -> Float[Tensor, "b"]:
        """Return the distance of the farthest point within the bounds; infinite without bounds."""
        low, high = self._room(x)
        return norm(torch.maximum(-low, high), self.p)

    def steepest(
        self, gradient: Float[Tensor, "b *input"], points: Float[Tensor, "b *input"]
    ) -> Float[Tensor, "b *input"]:
        """Return the step s of unit norm from `points` that raises f most to first order; 0 where the gradient is 0.

        Linf: sign(g). L2: g / ||g||_2. L1: the signed unit vector of the largest |g_i|, among the coordinates that
        still have room within the bounds in that direction.
        """
        if self.norm == "Linf":
            return gradient.sign()
        if self.norm == "L2":
            return normalized(gradient)
        low, high = self._room(points)
        usable = torch.where(gradient > 0, high > 0, low < 0)
        flat = torch.where(usable, gradient, 0).flatten(1)
        index = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter(1, index, flat.gather(1, index).sign()).view_as(gradient)

    def farthest(self, direction: Float[Tensor, "b *input"], x: Float[Tensor, "b *input"]) -> Float[Tensor, "b *input"]:
        """Return the point of ball and bounds together that is farthest along the direction: argmax direction^T x'.

        With r_i the room that entry i has in its direction g_i, the move from x has the sign of g and the size
        Linf: min(eps, r_i); L2: min(t |g_i|, r_i) with the t that meets the radius; L1: r_i for the largest |g_i| until
        the radius is spent.
        """
        if self.norm == "Linf" or self.bounds is None:
            return self.clip(x + self.eps * self.steepest(direction, x))
        low, high = self._room(x)
        room = torch.where(direction > 0, high, torch.where(direction < 0, -low, 0)).flatten(1)
        slope = direction.flatten(1).abs()
        size = (_farthest_l2 if self.norm == "L2" else _farthest_l1)(slope, room, self.eps)
        return self.clip(x + direction.sign() * size.view_as(x))

    def sample(
        self, x: Float[Tensor, "b *input"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b *input"]:
        """Return points drawn uniformly from the ball around x, then clipped to the bounds."""
        flat = x.detach().flatten(1)
        uniform = rand(flat.shape, flat, generator)
        if self.norm == "Linf":
            move = (2 * uniform - 1) * self.eps
        elif self.norm == "L2":
            direction = normalized(randn(flat.shape, flat, generator))
            move = direction * self.eps * rand((len(flat), 1), flat, generator) ** (1 / flat.shape[1])
        else:
            # d of d + 1 exponential variables over their sum are uniform on the solid simplex.
            exponential = -rand((len(flat), flat.shape[1] + 1), flat, generator).clamp_min(1e-12).log()
            move = self.eps * (exponential / exponential.sum(1, keepdim=True))[:, :-1]
            move = move * torch.where(uniform < 0.5, -1, 1)
        return self.clip(x.detach() + move.view_as(x).to(x.dtype))

    def stopped(self, direction: Tensor, points: Tensor) -> Tensor:
        """Return where an entry stands at a bound, or beyond, that a step along the direction would take it across."""
        low, high = self._room(points)
        return ((direction > 0) & (high <= 0)) | ((direction < 0) & (low >= 0))

    def clip(self, points: Tensor) -> Tensor:
        """Return the points inside the bounds that are nearest, entry by entry."""
        return points if self.bounds is None else points.clamp(*self.bounds)

    def _room(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.bounds or (-INFINITY, INFINITY)
        return low - x, high - x


def _farthest_l2(slope: Tensor, room: Tensor, eps: float) -> Tensor:
    # t grows from 0; entry i reaches its room at t = room / slope, the entries in that order.
    slope = normalized(slope).double()
    full_at, order = torch.where(slope > 0, room / slope, torch.inf).sort(1)
    room_in_order, slope_in_order = room.double().gather(1, order), slope.gather(1, order)
    spent = (room_in_order**2).cumsum(1) - room_in_order**2  # by the entries that are full before the k-th is
    free = (slope_in_order**2).flip(1).cumsum(1).flip(1)  # of the k-th and those that fill up after it
    t = ((eps**2 - spent).clamp_min(0) / free.clamp_min(torch.finfo(free.dtype).tiny)).sqrt()
    # The first k whose t comes before the k-th is full; where there is none, every entry goes as far as it can.
    stops = (t <= full_at) & (free > 0)
    first = stops.long().argmax(1, keepdim=True)
    t = torch.where(stops.any(1, keepdim=True), t.gather(1, first), torch.inf)
    return torch.where(slope > 0, torch.minimum(t * slope, room), 0).to(room.dtype)


def _farthest_l1(slope: Tensor, room: Tensor, eps: float) -> Tensor:
    order = slope.argsort(1, descending=True)
    wanted = room.gather(1, order)
    before = wanted.cumsum(1) - wanted
    return torch.zeros_like(room).scatter(1, order, torch.minimum(wanted, (eps - before).clamp_min(0)))


def _project_l2(move: Tensor, low: Tensor, high: Tensor, eps: float | Tensor) -> Tensor:
    # ||clip(t u)||^2 = t^2 sum_free u^2 + sum_clipped room^2, so t follows from the set of clipped entries. Starting
    # with none clipped, t grows to the solution from below: every iterate is feasible.
    outside = norm(move.clamp(low, high)) > eps
    if not outside.any():
        return move.clamp(low, high)
    square = move.flatten(1) ** 2
    room = torch.where(move > 0, high, low)
    t = eps / norm(move).clamp_min(eps)
    for _ in range(100):
        clipped = (per_example(t, move) * move).abs() >= room.abs()
        spent = torch.where(clipped, room**2, 0).flatten(1).sum(1)
        free = torch.where(clipped.flatten(1), 0, square).sum(1)
        grown = ((eps**2 - spent).clamp_min(0) / free.clamp_min(torch.finfo(free.dtype).tiny)).sqrt()
        grown = torch.maximum(t, torch.where(free > 0, grown, t))
        if bool((grown <= t * (1 + 4 * torch.finfo(t.dtype).eps)).all()):
            break
        t = grown
    t = torch.where(outside, t.clamp_max(1), 1)
    return (per_example(t, move) * move).clamp(low, high)


def _project_l1(single: Tensor, low: Tensor, high: Tensor, eps: float | Tensor) -> Tensor:
    outside = norm(single.clamp(low, high), 1) > eps
    if not outside.any():
        return single.clamp(low, high)
    move = single.double()  # a threshold close to a large entry would cancel in float32
    # As the threshold s grows, entry i falls from s = |u_i| - room_i (its bound lets go) to s = |u_i| (it is 0), so the
    # norm is piecewise linear in s: the first of all these points where it fits into eps ends the piece to solve on.
    size = move.abs().flatten(1)
    room = torch.where(move > 0, high, -low).flatten(1).double()
    points, order = torch.cat([(size - room).clamp_min(0), size], 1).sort(1)
    falling = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1).gather(1, order).cumsum(1)
    drops = falling[:, :-1] * points.diff(dim=1)
    lengths = torch.minimum(size, room).sum(1, keepdim=True) - torch.cat(
        [torch.zeros_like(drops[:, :1]), drops], 1
    ).cumsum(1)
    target = torch.as_tensor(eps, dtype=move.dtype, device=move.device).expand(len(move))[:, None]
    last = (lengths > target).sum(1, keepdim=True).sub(1).clamp_min(0)  # the last point where it is too long
    excess, slope = lengths.gather(1, last) - target, falling.gather(1, last).clamp_min(1)
    threshold = torch.where(outside, (points.gather(1, last) + excess / slope).squeeze(1), 0)
    soft = move.sign() * (move.abs() - per_example(threshold, move)).clamp_min(0)
    return soft.to(single.dtype).clamp(low, high)
