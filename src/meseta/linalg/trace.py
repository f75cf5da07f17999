"""Traces and Frobenius norms of symmetric matrices known by their products, sampled, with standard errors.

Every example of a batch meets the same random probes z, of independent signs, so that no result depends on the batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.checks import whole
from meseta.linalg.krylov import KrylovSpace
from meseta.linalg.norms import norm
from meseta.linalg.random import rand
from meseta.linalg.solver import Matvec


@dataclass(frozen=True)
class Sampled:
    """A mean over random probes.

    Attributes:
        mean: (B,), in float64; NaN where a product was not finite.
        standard_error: (B,) of the mean: the deviation of the samples over the root of their number.
        products: how many products were spent, each over the whole batch.
    """

    mean: Tensor
    standard_error: Tensor
    products: int


@torch.no_grad()
def hutchinson_trace(matvec: Matvec, like: Tensor, *, samples: int = 32, seed: int = 0) -> Sampled:
    """Return tr H = E z^T H z; exact for diagonal matrices.

    Args:
        matvec: (B, *shape) -> (B, *shape). like: a tensor of that shape.
        samples: probes, at least 2, one product each. seed: of the probes.

    Source: Hutchinson 1990. The variance of one sample is 2 sum_{i != j} H_ij^2.
    """
    return _mean([(z * matvec(z)).flatten(1).double().sum(1) for z in _probes(like, samples, seed)])


@torch.no_grad()
def hutchinson_frobenius(matvec: Matvec, like: Tensor, *, samples: int = 32, seed: int = 0) -> Sampled:
    """Return ||H||_F^2 = E ||Hz||_2^2, the trace of H^2; arguments as of `hutchinson_trace`."""
    return _mean([norm(matvec(z)).double() ** 2 for z in _probes(like, samples, seed)])


@torch.no_grad()
def lanczos_quadrature(
    f: Callable[[Tensor], Tensor], matvec: Matvec, like: Tensor, *, samples: int = 8, steps: int = 32, seed: int = 0
) -> Sampled:
    """Return tr f(H) = E z^T f(H) z by stochastic Lanczos quadrature.

    z^T f(H) z = d sum_j tau_j^2 f(theta_j), theta the Ritz values of `steps` Lanczos products from z and tau the first
    entries of their eigenvectors: the Gauss rule of the spectrum as z weighs it. Exact for polynomials of degree up to
    2 steps - 1, and for every f where H has at most `steps` distinct eigenvalues. Elsewhere the rule has an error of
    its own, which falls as 1 / steps for f = |.| and which the standard error does not know of.

    Args:
        f: of eigenvalues (B, steps), entry by entry.
        matvec: (B, *shape) -> (B, *shape). like: a tensor of that shape.
        samples: probes, at least 2, of `steps` products each, d at most. seed: of the probes.

    Source: Golub & Meurant 1994; Ubaru, Chen & Saad 2017.
    """
    whole("steps", steps, 1)
    found = []
    for z in _probes(like, samples, seed):
        space = KrylovSpace(matvec, z, min(steps, like[0].numel()), seed)
        while not space.complete:
            space.extend()
        theta, ritz = torch.linalg.eigh(space.tridiagonal())
        value = like[0].numel() * (ritz[:, 0] ** 2 * f(theta)).sum(1)
        found.append(torch.where(space.finite, value, torch.nan))
    return _mean(found, products=min(steps, like[0].numel()))


def _probes(like: Tensor, samples: int, seed: int) -> Iterator[Tensor]:
    """Yield vectors of independent random signs, each the same for every example."""
    whole("samples", samples, 2)
    whole("seed", seed, 0)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(samples):
        heads = rand(like[:1].shape, like, generator) < 0.5
        yield torch.where(heads, 1, -1).to(like.dtype).expand_as(like)


def _mean(samples: list[Tensor], products: int = 1) -> Sampled:
    stacked = torch.stack(samples)
    return Sampled(stacked.mean(0), stacked.std(0) / len(samples) ** 0.5, products * len(samples))
