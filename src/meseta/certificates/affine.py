"""The affine maps between two activations: a network's linear layers as pieces that are linear in their weights too."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from meseta.linalg.norms import norm
from meseta.linalg.upper_bounds import OUTWARD, convolution_norm_bound, matrix_norm_bound

DENSE = 2**22
"""Up to so many entries a map is written out as a matrix, which gives its exact norm."""


@dataclass(frozen=True)
class Piece:
    """One layer x -> W x + b.

    Attributes:
        apply: (x, weight) -> W x, linear in both, and entrywise so: with |weight| it is |W|, with weight^2 it has the
            squared entries.
        weight: what `apply` takes; a layer without weights has a scalar 1.
        bias: added afterwards, shaped to broadcast; None for none.
        norm: input shape -> an upper bound of ||W||_2.
        diagonal: each output depends on one input.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    bias: Tensor | None
    norm: Callable[[tuple[int, ...]], float]
    diagonal: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        y = self.apply(x, self.weight)
        return y if self.bias is None else y + self.bias


class AffineMap:
    """x -> W x + b, the composition of the pieces between two activations, on inputs of one shape.

    Args:
        pieces: in the order they are applied; none at all for the identity.
        shape: of one input, without the batch.
        like: a tensor of the dtype and on the device of the weights.
    """

    def __init__(self, pieces: Sequence[Piece], shape: tuple[int, ...], like: Tensor) -> None:
        self._pieces, self.shape = list(pieces), shape
        self._shapes = [shape]
        probe = like.new_zeros(1, *shape)
        for piece in pieces:
            probe = piece.apply(probe, piece.weight)
            self._shapes.append(tuple(probe.shape[1:]))
        self._like = probe
        self.out_shape = self._shapes[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """Return W x + b."""
        for piece in self._pieces:
            x = piece(x)
        return x

    def linear(self, x: Tensor) -> Tensor:
        """Return W x."""
        for piece in self._pieces:
            x = piece.apply(x, piece.weight)
        return x

    def absolute(self, x: Tensor) -> Tensor:
        """Return at least |W| x for x >= 0: the product of the pieces' absolute values."""
        for piece in self._pieces:
            x = piece.apply(x, piece.weight.abs())
        return x

    def transposed(self, y: Tensor) -> Tensor:
        """Return W^T y, for y (B, *out_shape)."""
        return self._pulled_back(self.linear, y)

    def absolute_transposed(self, y: Tensor) -> Tensor:
        """Return at least |W|^T y for y >= 0."""
        return self._pulled_back(self.absolute, y)

    def _pulled_back(self, function: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
        with torch.enable_grad():
            x = y.new_zeros(len(y), *self.shape, requires_grad=True)
            (pulled,) = torch.autograd.grad(function(x), x, y, create_graph=self._like.requires_grad)
        result: Tensor = pulled
        return result

    @cached_property
    def matrix(self) -> Tensor | None:
        """W as a matrix (out, in), or None where it would be large."""
        if prod(self.shape) * prod(self.out_shape) > DENSE:
            return None
        columns = torch.eye(prod(self.shape), dtype=self._like.dtype, device=self._like.device)
        return self.linear(columns.view(-1, *self.shape)).flatten(1).T.contiguous()

    @cached_property
    def norm(self) -> float:
        """An upper bound of ||W||_2."""
        if self.matrix is not None:
            return float(matrix_norm_bound(self.matrix))
        return float(prod(self._norms))

    @cached_property
    def _norms(self) -> list[float]:
        """An upper bound of the norm of each piece."""
        return [piece.norm(shape) for piece, shape in zip(self._pieces, self._shapes, strict=False)]

    @cached_property
    def row_norms(self) -> Tensor:
        """Upper bounds of the L2 norms of the rows of W, (*out_shape)."""
        if self.matrix is not None:
            return norm(self.matrix).view(self.out_shape) * (1 + OUTWARD)
        rows, before = self._like.new_ones(1, *self.shape), 1.0
        for piece, shape, norm_of_piece in zip(self._pieces, self._shapes, self._norms, strict=False):
            if piece.diagonal:
                rows = piece.apply(rows, piece.weight.abs())
            else:  # ||row of W_2 W_1|| <= ||row of W_2|| ||W_1||
                rows = before * piece.apply(self._like.new_ones(1, *shape), piece.weight**2).sqrt()
            before *= norm_of_piece
        return rows[0] * (1 + OUTWARD)


def scale(factor: Tensor, shift: Tensor) -> Piece:
    """Return x -> factor x + shift, entry by entry; both shaped to broadcast."""
    return Piece(torch.mul, factor, shift, lambda _: float(factor.abs().max()), diagonal=True)


def dense(weight: Tensor, bias: Tensor | None) -> Piece:
    """Return x -> weight x + bias."""
    return Piece(F.linear, weight, bias, lambda _: float(matrix_norm_bound(weight)))


def reshape(shape: tuple[int, ...]) -> Piece:
    """Return the same numbers in another shape."""
    return Piece(lambda x, _: x.reshape(len(x), *shape), torch.ones(()), None, lambda _: 1.0, diagonal=True)


def convolution(
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Piece:
    """Return a convolution with zero padding."""

    def apply(x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, None, stride, padding, dilation, groups)

    def norm(shape: tuple[int, ...]) -> float:
        return max(
            convolution_norm_bound(kernel, (shape[1], shape[2]), stride=stride, padding=padding, dilation=dilation)
            for kernel in weight.detach().chunk(groups)
        )

    return Piece(apply, weight, None if bias is None else bias[:, None, None], norm)


def average_pool(kernel: tuple[int, int], *, stride: tuple[int, int], padding: tuple[int, int], like: Tensor) -> Piece:
    """Return average pooling that counts its padding: a convolution of each channel by itself."""
    weight = like.new_full((1, 1, *kernel), 1 / prod(kernel))

    def apply(x: Tensor, kernel: Tensor) -> Tensor:
        pooled = F.conv2d(x.flatten(0, 1)[:, None], kernel, None, stride, padding)
        return pooled.view(*x.shape[:2], *pooled.shape[2:])

    return Piece(
        apply,
        weight,
        None,
        lambda shape: convolution_norm_bound(weight, (shape[1], shape[2]), stride=stride, padding=padding),
    )
