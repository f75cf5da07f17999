"""The norm ||H||_{p->q} = max ||Hv||_q over ||v||_p = 1 of symmetric matrices, from below."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.checks import whole
from meseta.linalg.norms import dual_exponent, dual_vector, norm, normalized, per_example
from meseta.linalg.random import randn
from meseta.linalg.solver import Matvec, Solver


@dataclass(frozen=True, kw_only=True)
class OperatorNorm(Solver):
    """The nonlinear power method for ||H||_{p->q}: v <- d_{p*}(H d_q(Hv)), d_r the dual vector of the r-norm.

    ||Hv||_q never falls from one iteration to the next. It reaches the norm for p = q = 2 and for entrywise nonnegative
    H; elsewhere it may stop at a local maximum (inf -> 1 is NP-hard), so that several starts help. Always from below.

    Args:
        steps: iterations of two products each, at least 1; one more product per start compares the starts.
        restarts: starts: the one given, then random ones that all examples share; the best is kept.
        seed: of the random starts.

    Source: Boyd 1974; Higham 1992, Algorithm 4.1.
    """

    steps: int = 10
    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1)
        whole("restarts", self.restarts, 1)
        whole("seed", self.seed, 0)

    @torch.no_grad()
    def direction(self, matvec: Matvec, start: Tensor, p: float = 2, q: float = 2) -> Tensor:
        """Return the best v found (B, *shape), of unit p-norm; zero where every start is."""
        generator = torch.Generator().manual_seed(self.seed)
        best, longest = torch.zeros_like(start), torch.full_like(start.flatten(1)[:, 0], -torch.inf)
        for restart in range(self.restarts):
            # One random start for all examples, so that none depends on its neighbours.
            begin = start if restart == 0 else randn(start[:1].shape, start, generator).expand_as(start)
            v = normalized(begin, p)
            for _ in range(self.steps):
                turned = dual_vector(matvec(dual_vector(matvec(v), q)), dual_exponent(p))
                v = torch.where(per_example(norm(turned) > 0, v), turned, v)  # H v = 0: stay
            if self.restarts == 1:
                return v
            length = norm(matvec(v), q)
            better = length > longest
            best, longest = torch.where(per_example(better, v), v, best), torch.where(better, length, longest)
        return best
