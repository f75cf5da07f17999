"""What is known of a chain's derivatives everywhere in a ball around each example: the ground of sound bounds.

With n_I the pre-activations of layer I, B_I = dn_I/dx and F_I = d(u^T z)/da_I, a margin f = u^T z has

    grad f = B_I^T (sigma'(n_I) F_I)  for any I,        grad^2 f = sum_I B_I^T diag(F_I sigma''(n_I)) B_I.

An enclosure holds, for all points of the ball, intervals of n_I, sigma'(n_I) and sigma''(n_I), and B_I = C_I + E_I with
a known C_I and a bound of E_I; without a ball, for all inputs whatever.

Source: Singla & Feizi 2020, Theorem 4 for the decomposition; the balls and the centred Jacobians are ours.
"""

import torch
from torch import Tensor

from meseta.certificates.affine import AffineMap
from meseta.certificates.chain import Chain
from meseta.certificates.intervals import Interval, pull_back
from meseta.linalg.norms import norm, per_example
from meseta.linalg.upper_bounds import OUTWARD, eigenvalue_bound, matrix_norm_bound

JACOBIAN = 2**20
"""A layer's Jacobian is held as a matrix up to so many entries, half as many in balls, which have one for each example;
beyond, only by a bound of its norm."""
SLAB = 2**24
"""Eigenproblems are taken together up to so many matrix entries."""


class Enclosure:
    """The derivatives of a chain in the balls ||x' - x||_2 <= radius.

    Args:
        chain: in float64. x: (B, *input) centres, float64; for the whole space any one input.
        radius: (B,), L2; None for the whole space.

    Attributes:
        slopes, bends: intervals of sigma'(n_I) and sigma''(n_I), one per activation (B, *shape); bends is empty where
            an activation has no second derivative.
        jacobians: one per activation, what is known of B_I.
    """

    def __init__(self, chain: Chain, x: Tensor, radius: Tensor | None) -> None:
        self.chain = chain
        self._most = JACOBIAN if radius is None else JACOBIAN // 2
        self.slopes: list[Interval] = []
        self.bends: list[Interval] = []
        self.jacobians: list[JacobianBound] = []
        curved = all(activation.second is not None for activation in chain.activations)
        moved = x.new_zeros(x.shape)  # how far any activation moves within the ball, at most
        for affine, activation, values in zip(chain.maps, chain.activations, chain.activated(x), strict=False):
            jacobian = self._following(affine, x)
            if radius is None:
                deviation = torch.full((len(x), *affine.out_shape), torch.inf, dtype=x.dtype, device=x.device)
            else:
                deviation = per_example(radius, x.new_empty(1, *affine.out_shape)) * jacobian.rows
                if self.slopes:
                    deviation = torch.minimum(deviation, affine.absolute(moved)) * (1 + OUTWARD)
            centre = affine(values)
            slopes = Interval(*activation.slopes(centre - deviation, centre + deviation))
            self.jacobians.append(jacobian)
            self.slopes.append(slopes)
            if curved:
                self.bends.append(Interval(*activation.bends(centre - deviation, centre + deviation)))
            moved = slopes.size * deviation

    def _following(self, affine: AffineMap, x: Tensor) -> "JacobianBound":
        """Return what is known of the Jacobian of the next pre-activations."""
        if not self.jacobians:
            return JacobianBound.first(affine, x, self._most)
        return self.jacobians[-1].then(self.slopes[-1], affine, self._most)

    def curvature(self, rows: Tensor) -> Tensor:
        """Return a bound, at least 0, of the largest eigenvalue of grad^2 (u^T z) in the whole ball, (B, T).

        Args:
            rows: u, (B, T, K); with -u it is the smallest eigenvalue that is bounded.
        """
        total = rows.new_zeros(rows.shape[:2])
        for bend, jacobian, sensitivity in zip(self.bends, self.jacobians, self.sensitivities(rows), strict=True):
            weights = _repeated(bend, rows.shape[1]) * sensitivity
            total += jacobian.squared(weights.high.clamp_min(0).view(*rows.shape[:2], -1))
        return total

    def sensitivities(self, rows: Tensor) -> list[Interval]:
        """Return intervals of F_I = d(u^T z)/da_I, one per activation, (B T, *shape) each."""
        flat = rows.flatten(0, 1)
        known = Interval(flat, flat)
        found: list[Interval] = []
        for affine, slopes in zip(reversed(self.chain.maps[1:]), [None, *reversed(self.slopes[1:])], strict=False):
            if slopes is not None:
                known = _repeated(slopes, rows.shape[1]) * known
            known = pull_back(known, affine)
            found.append(known)
        return found[::-1]

    def slope(self, rows: Tensor) -> Tensor:
        """Return a bound of ||grad (u^T z)||_2 in the whole ball, (B, T), for rows u (B, T, K)."""
        if not self.jacobians:
            return norm(self.chain.maps[-1].transposed(rows.flatten(0, 1))).view(rows.shape[:2])
        weights = _repeated(self.slopes[-1], rows.shape[1]) * self.sensitivities(rows)[-1]
        shape = (*rows.shape[:2], -1)
        return self.jacobians[-1].pulled(Interval(weights.low.view(shape), weights.high.view(shape)))


class JacobianBound:
    """B = C + E at every point of the ball: (N, d) per example, C held as a matrix where that is small.

    Attributes:
        norm: (B,) bound of ||B||_2. rows: (B, *shape) bounds of the L2 norms of the rows of B.
        centre: (B, N, d) C, or None where it would be large; then E is unknown too.
        error: (B,) bound of ||E||_2. error_rows: (B, N) bounds of the L2 norms of the rows of E.
    """

    def __init__(self, norm: Tensor, rows: Tensor, centre: Tensor | None, error: Tensor, error_rows: Tensor) -> None:
        self.norm, self.rows, self.centre, self.error, self.error_rows = norm, rows, centre, error, error_rows

    @staticmethod
    def first(affine: AffineMap, x: Tensor, most: int) -> "JacobianBound":
        """Return the Jacobian of the first map, which is the same everywhere."""
        norm = x.new_full((len(x),), affine.norm)
        rows = affine.row_norms.expand(len(x), *affine.out_shape)
        known = affine.matrix is not None and affine.matrix.numel() <= most
        centre = affine.matrix.expand(len(x), -1, -1) if known and affine.matrix is not None else None
        return JacobianBound(norm, rows, centre, torch.zeros_like(norm), torch.zeros_like(rows).flatten(1))

    def then(self, slopes: Interval, affine: AffineMap, most: int) -> "JacobianBound":
        """Return what is known of W diag(s) B for every s in the interval.

        With s = c + r, |r| <= spread:  W diag(s) (C + E) = W diag(c) C + [W diag(r) C + W diag(s) E].
        """
        steepest = slopes.size.flatten(1).amax(1)
        norm = affine.norm * steepest * self.norm
        rows = affine.row_norms * per_example(steepest * self.norm, affine.row_norms[None])
        matrix = affine.matrix
        if self.centre is None or matrix is None or len(matrix) * self.centre.shape[2] > most:
            return JacobianBound(norm, rows, None, norm, rows.flatten(1))
        spread, size = slopes.spread.flatten(1), slopes.size.flatten(1)
        centre = matrix @ (slopes.centre.flatten(1)[:, :, None] * self.centre)
        error_rows = (spread * self.centre.norm(dim=2) + size * self.error_rows) @ matrix.abs().T
        together = affine.norm * (spread.amax(1) * (self.norm + self.error) + steepest * self.error)
        error = torch.minimum(error_rows.norm(dim=1), together)
        return JacobianBound(
            torch.minimum(norm, matrix_norm_bound(centre) + error),
            torch.minimum(rows, (centre.norm(dim=2) + error_rows).view_as(rows)),
            centre,
            error,
            error_rows,
        )

    def squared(self, weights: Tensor) -> Tensor:
        """Return a bound of ||B^T diag(w) B||_2 for w >= 0, (B, T, N): (B, T)."""
        largest = weights.amax(2).sqrt()
        bound = largest * self.norm[:, None]
        if self.centre is not None:
            error = torch.minimum(
                largest * self.error[:, None], (weights.sqrt() * self.error_rows[:, None]).norm(dim=2)
            )
            bound = torch.minimum(bound, self._weighted_norm(weights) + error)
        squared: Tensor = bound**2
        return squared * (1 + OUTWARD)

    def _weighted_norm(self, weights: Tensor) -> Tensor:
        """Return a bound of ||diag(sqrt w) C||_2, (B, T), from whichever Gram matrix is smaller."""
        assert self.centre is not None
        examples, targets, rows = weights.shape
        gram = self.centre @ self.centre.mT if rows <= self.centre.shape[2] else None
        entries = rows * min(rows, self.centre.shape[2])
        found = []
        for index in torch.split(torch.arange(examples * targets, device=weights.device), max(1, SLAB // entries)):
            example, w = index // targets, weights.flatten(0, 1)[index]
            if gram is not None:
                root = w.sqrt()
                product = root[:, :, None] * gram[example] * root[:, None]
            else:
                product = self.centre[example].mT @ (w[:, :, None] * self.centre[example])
            found.append(eigenvalue_bound(product))
        return torch.cat(found).view(examples, targets).sqrt()

    def pulled(self, weights: Interval) -> Tensor:
        """Return a bound of ||B^T v||_2 for every v in the interval, (B, T, N): (B, T)."""
        bound: Tensor = self.norm[:, None] * weights.size.norm(dim=2)
        if self.centre is not None:
            centred = (weights.centre @ self.centre).norm(dim=2)
            spread = (weights.spread * self.centre.norm(dim=2)[:, None]).sum(2)
            error = torch.minimum(
                self.error[:, None] * weights.size.norm(dim=2), (weights.size * self.error_rows[:, None]).sum(2)
            )
            bound = torch.minimum(bound, centred + spread + error)
        return bound * (1 + OUTWARD)


def _repeated(interval: Interval, times: int) -> Interval:
    """Return the interval of each example `times` times in a row."""
    return Interval(interval.low.repeat_interleave(times, 0), interval.high.repeat_interleave(times, 0))
