"""The Square attack: random search by windows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.random_search import RandomSearch
from meseta.checks import positive, whole
from meseta.errors import UserError
from meseta.linalg.norms import norm, per_example
from meseta.linalg.random import rand

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After which of 10,000 queries p halves, as published; scaled to other numbers of queries."""

OVERSHOOT = 4
"""How much longer a window is made than its mass allows, for L2 and L1: the projection takes the excess back."""

TILES = 5
"""How many windows the first point has along either axis, for L2 and L1."""

Window = tuple[slice, slice]


@dataclass(frozen=True, kw_only=True)
class Square(RandomSearch):
    """Change the perturbation inside one random window at a time, and keep what lowers the margin.

    Linf: from vertical stripes of +-eps, each query sets a square window to +-eps, one sign per channel.
    L2, L1: from a grid of windows, each query takes the mass ||d||_p^p of two windows and what is unspent, and puts it
    into the first one, along its own direction plus or minus a pattern of two piles of opposite sign.

    A window holds a share p of all pixels, which halves on the published schedule as queries are spent.

    Args:
        threat: norm, eps and bounds.
        queries: windows tried, at least 1.
        p: first share of the pixels in a window, in (0, 1].

    Inputs (..., H, W) are images with their leading axes as channels; a vector (d,) is one row, its windows runs of
    entries. Windows and signs are shared by the batch, so that an example's path does not depend on its neighbours.
    Cost: one forward at the input, then one a query, of the examples that still stand.
    Source: Andriushchenko, Croce, Flammarion & Hein 2020, Algorithms 1 to 3; Croce & Hein 2021 for the same in L1.
    Differs: in L2 and L1 a window is made four times as long as its mass allows, and every candidate is projected onto
    ball and bounds together, since bounds swallow half of a window, and the L1 projection of a long one is sparse, as
    good L1 moves are (an MNIST network, 200 queries: a mean margin of 3.3 in L1, 8.6 without). The windows of narrow
    inputs are wider than high, so that they hold the share p; the grid covers inputs whose sides are no multiples of
    five; in L2 and L1 a window has 1 entry at least for vectors, 3 x 3 for images, and its sides may be even.
    """

    queries: int = 1000
    p: float = 0.8

    def __post_init__(self) -> None:
        whole("queries", self.queries, 1)
        positive("p", self.p)
        if self.p > 1:
            raise UserError(f"`p` must be at most 1, got {self.p!r}: it is the share of the pixels in a window.")

    @property
    def name(self) -> str:
        """For example `Square-1000`."""
        return f"Square-{self.queries}"

    @property
    def proposals(self) -> int:
        """As many as queries."""
        return self.queries

    def propose(self, number: int, points: Tensor, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the first pattern, or the best points with one window changed."""
        draw = _Draw(x, generator)
        moves = (points - x).reshape(len(x), *draw.shape)
        if self.threat.norm == "Linf":
            moves = self._stripes(draw, moves) if number == 0 else self._square(draw, x, moves, self._share(number))
        else:
            moves = self._grid(draw, moves) if number == 0 else self._gathered(draw, moves, self._share(number))
        return self.threat.project(x + moves.view_as(x), x)

    def _share(self, number: int) -> float:
        spent = number * 10_000 / self.queries
        return self.p / 2.0 ** sum(spent > halving for halving in HALVINGS)

    def _stripes(self, draw: "_Draw", moves: Tensor) -> Tensor:
        c, _, w = draw.shape
        return (self.threat.eps * draw.signs(c, 1, w)).expand_as(moves)

    def _square(self, draw: "_Draw", x: Tensor, moves: Tensor, share: float) -> Tensor:
        rows, columns = draw.window(share, least=1)
        square = self.threat.eps * draw.signs(draw.shape[0], 1, 1)
        here, there = x.view_as(moves)[:, :, rows, columns], moves[:, :, rows, columns]
        same = (self.threat.clip(here + square) == self.threat.clip(here + there)).flatten(1).all(1)
        moves = moves.clone()
        # Where the window is there already, the opposite one: else nothing would be tried.
        moves[:, :, rows, columns] = per_example(torch.where(same, -1, 1), moves) * square
        return moves

    def _grid(self, draw: "_Draw", moves: Tensor) -> Tensor:
        c, h, w = draw.shape
        pattern = moves.new_zeros(1, c, h, w)
        height, width = max(h // TILES, 1), max(w // TILES, 1)
        for top in range(0, h, height):
            for left in range(0, w, width):
                tile = pattern[..., top : top + height, left : left + width]
                tile += draw.piles(*tile.shape[2:]) * draw.signs(c, 1, 1)
        return (pattern * self.threat.eps / norm(pattern, self.threat.p)).expand_as(moves)

    def _gathered(self, draw: "_Draw", moves: Tensor, share: float) -> Tensor:
        p, least = self.threat.p, 3 if draw.shape[1] > 1 else 1
        first, second = draw.window(share, least), draw.window(share, least)
        taken = torch.zeros_like(moves)
        for rows, columns in (first, second):
            taken[:, :, rows, columns] = moves[:, :, rows, columns]
        unspent = (self.threat.eps**p - norm(moves, p) ** p).clamp_min(0)
        mass = _norms(taken, p) ** p + unspent[:, None, None, None] / draw.shape[0]
        own = moves[:, :, first[0], first[1]]
        piles = draw.signs(draw.shape[0], 1, 1) * _unit(draw.piles(*own.shape[2:])[None, None], p)
        new = _unit(own, p) + piles
        new = torch.where(_norms(new, p) > 0, new, piles)  # a single entry may cancel out: it changes its sign
        moves = moves - taken
        moves[:, :, first[0], first[1]] = OVERSHOOT * mass ** (1 / p) * _unit(new, p)
        return moves


class _Draw:
    """Random windows and signs of images (channels, height, width), for the whole batch."""

    def __init__(self, x: Tensor, generator: torch.Generator | None) -> None:
        *channels, h, w = (1, 1, *x.shape[1:])
        self.shape = (int(torch.Size(channels).numel()), h, w)
        self._x, self._generator = x, generator

    def window(self, share: float, least: int) -> Window:
        """Return a window that holds this share of the pixels, as square as the image allows."""
        _, h, w = self.shape
        area = max(share * h * w, 1)
        height = min(max(round(area**0.5), least), h)
        height = min(max(height, round(area / w)), h)  # where the image is too narrow for a square
        width = min(max(round(area / height), least), w)
        top, left = self._below(h - height + 1), self._below(w - width + 1)
        return slice(top, top + height), slice(left, left + width)

    def signs(self, *shape: int) -> Tensor:
        """Return -1 or 1, with equal chance."""
        return torch.where(rand(shape, self._x, self._generator) < 0.5, -1, 1).to(self._x.dtype)

    def piles(self, height: int, width: int) -> Tensor:
        """Return two piles of opposite sign, beside or above one another."""
        if height > width or (height == width and self._below(2)):
            return self.piles_of(width, height).mT
        return self.piles_of(height, width)

    def piles_of(self, height: int, width: int) -> Tensor:
        """Return two piles of opposite sign beside one another; a single one where the width is 1."""
        half = width // 2
        return torch.cat([_pile(height, half), -_pile(height, width - half)], 1).to(self._x)

    def _below(self, n: int) -> int:
        return min(int(rand((1,), self._x, self._generator) * n), n - 1)


def _pile(height: int, width: int) -> Tensor:
    """Return sum_{k > r} 1 / k^2 of each pixel, r its distance from the centre, counted in squares, to the edge."""
    rows, columns = ((torch.arange(side) - side // 2).abs() for side in (height, width))
    ring = torch.maximum(rows[:, None], columns)
    steps = 1 / torch.arange(1, max(height, width) // 2 + 2, dtype=torch.double) ** 2
    return steps.flip(0).cumsum(0).flip(0)[ring]


def _norms(moves: Tensor, p: float) -> Tensor:
    """Return the norm of each example's each channel, (B, c, 1, 1)."""
    return norm(moves.flatten(0, 1), p).view(*moves.shape[:2], 1, 1)


def _unit(moves: Tensor, p: float) -> Tensor:
    """Return each example's each channel at length 1, or 0 where it is 0."""
    lengths = _norms(moves, p)
    return moves / torch.where(lengths > 0, lengths, 1)
