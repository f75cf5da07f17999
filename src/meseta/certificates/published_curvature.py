"""The curvature bound of Singla & Feizi 2020 as published: products of layer norms, everywhere and differentiable."""

import torch
from torch import Tensor

from meseta.certificates.chain import Chain
from meseta.shapes import Float


def published_curvature(
    chain: Chain, rows: Float[Tensor, "p c"], norms: list[Tensor] | None = None
) -> Float[Tensor, "p"]:
    """Return K = sum_I h_I r_I^2 max_i S_{I,i}, a bound of ||grad^2 (u^T z)||_2 at every input, for rows u (P, K).

    r_1 = ||W_1||, r_I = g_{I-1} ||W_I|| r_{I-1};  S_{L-1} = |W_L^T u|, S_I = |W_{I+1}|^T g_{I+1} S_{I+1};
    |sigma'| <= g, |sigma''| <= h. Differentiable in the weights where the chain is.

    Args:
        chain: with activations that have a second derivative. rows: one linear combination of the logits each.
        norms: ||W_1|| ... ||W_{L-1}||, to replace the upper bounds by something with a gradient.

    Source: Singla & Feizi 2020, Theorem 4.
    """
    edge = rows.new_tensor(torch.inf, dtype=torch.float64)
    slopes = [float(torch.stack(a.slopes(-edge, edge)).abs().max()) for a in chain.activations]
    bends = [float(torch.stack(a.bends(-edge, edge)).abs().max()) for a in chain.activations]
    sensitivities = [chain.maps[-1].transposed(rows).abs()]
    for affine, slope in zip(chain.maps[-2:0:-1], slopes[:0:-1], strict=True):
        sensitivities.append(affine.absolute_transposed(slope * sensitivities[-1]))
    total = rows.new_zeros(len(rows))
    reach: Tensor | float = 1.0  # r_I, up to the norm of the layer itself
    for index, (bend, sensitivity) in enumerate(zip(bends, reversed(sensitivities), strict=False)):
        largest = sensitivity.flatten(1).amax(1)
        reach = reach * (chain.maps[index].norm if norms is None else norms[index])
        total = total + bend * reach**2 * largest
        reach = reach * slopes[index]
    return total
