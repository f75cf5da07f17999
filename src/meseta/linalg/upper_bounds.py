"""Upper bounds of eigenvalues and operator norms, by factorisation: what a certificate may stand on.

Everything else in this folder estimates norms from below. Matrices should be float64: rounding is covered by enlarging
each bound by `OUTWARD`, relative, which is far above the backward error of the factorisations.
"""

import torch
from torch import Tensor

from meseta.shapes import Float

OUTWARD = 1e-9
FREQUENCIES = 2**23
"""Entries of a convolution's frequency response that are held at a time."""


def eigenvalue_bound(matrix: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b"]:
    """Return an upper bound of the largest eigenvalue of symmetric positive semidefinite matrices.

    A matrix with NaN or infinity gives infinity.
    """
    finite = matrix.isfinite().flatten(-2).all(-1)
    usable = torch.where(finite[..., None, None], matrix, 0)
    largest = torch.linalg.eigvalsh(usable)[..., -1].clamp_min(0)
    return torch.where(finite, largest * (1 + OUTWARD), torch.inf)


def matrix_norm_bound(matrix: Float[Tensor, "*b m n"]) -> Float[Tensor, "*b"]:
    """Return an upper bound of the spectral norm of each matrix."""
    largest = matrix.abs().flatten(-2).amax(-1)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1)  # so that no square under- or overflows
    wide = (matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT) / scale[..., None, None]
    return scale * eigenvalue_bound(wide @ wide.mT).sqrt()


@torch.no_grad()
def convolution_norm_bound(
    kernel: Float[Tensor, "o i h w"],
    size: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> float:
    """Return an upper bound of the spectral norm of a convolution of images of `size`, padded with zeros.

    A stride s is taken apart into s_h s_w phases of the padded image, on which the convolution has stride 1; that is a
    part of the circular convolution on a torus as large as the phases, whose norm is the largest over the frequencies
    omega of ||K(omega)||_2. Sound for zero padding because the torus holds the padding too; one of the size of the
    image itself would not do.

    Source: Sedghi, Gupta & Long 2019 for circular convolutions; phases and padding are ours.
    """
    phases = _phases(_dilated(kernel, dilation), stride)
    torus = [-(-(n + 2 * p) // s) for n, p, s in zip(size, padding, stride, strict=True)]
    torus = [max(n, k) for n, k in zip(torus, phases.shape[2:], strict=True)]
    along = torch.fft.rfft(phases, torus[1]).permute(3, 0, 1, 2)
    slab = max(1, FREQUENCIES // (phases.shape[0] * phases.shape[1] * torus[0]))
    largest = 0.0
    for columns in torch.split(along, slab):
        response = torch.fft.fft(columns, torus[0]).permute(0, 3, 1, 2)
        narrow = response if response.shape[2] <= response.shape[3] else response.mH
        squared = torch.linalg.eigvalsh(narrow @ narrow.mH).amax()
        if not squared.isfinite():
            return float("inf")
        largest = max(largest, float(squared))
    return float(largest**0.5 * (1 + OUTWARD))


def _dilated(kernel: Tensor, dilation: tuple[int, int]) -> Tensor:
    """Return the kernel with its zeros written out."""
    o, i, h, w = kernel.shape
    spread = kernel.new_zeros(o, i, (h - 1) * dilation[0] + 1, (w - 1) * dilation[1] + 1)
    spread[:, :, :: dilation[0], :: dilation[1]] = kernel
    return spread


def _phases(kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    """Return the kernel that does, with stride 1 on the phases of the image, what `kernel` does with its stride."""
    (o, i, h, w), (s, t) = kernel.shape, stride
    full = torch.nn.functional.pad(kernel, (0, -w % t, 0, -h % s))
    blocks = full.view(o, i, full.shape[2] // s, s, full.shape[3] // t, t)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(o, i * s * t, full.shape[2] // s, full.shape[3] // t)
