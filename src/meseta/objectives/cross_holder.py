"""Cross-Holder regularisation."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meseta.autodiff.gradient import derivatives_of_derivatives
from meseta.autodiff.hessian import FiniteDifferenceHessian, Hessian
from meseta.autodiff.scalar_fields import BoundField, CrossEntropy, Model, bind_all_rivals, margin_to, rivals, runner_up
from meseta.checks import at_least, check_curved, check_logits, eval_term, exponent, instance_of, positive
from meseta.errors import UserError
from meseta.linalg.lanczos import Lanczos
from meseta.linalg.norms import dual_exponent, norm
from meseta.linalg.random import rand, randn
from meseta.linalg.solver import Solver
from meseta.objectives.base import Penalty, Regularizer


@dataclass(frozen=True, kw_only=True)
class CrossHolder(Regularizer):
    """Penalise slope and curvature of the margins f_j = z_y - z_j.

    mean_i l(x_i) + weight sum_{j != y} (||grad f_j(x_i)||_q + curvature ||H_{f_j}(x_i)||_{p->q}),  1/p + 1/q = 1

    Both bound what a perturbation of size r in the p-norm does to a margin: at most r ||grad f||_q + r^2/2 ||H||_{p->q}
    to second order, so that `curvature` = r/2 asks for a wide margin at radius r.

    Args:
        weight: lambda_1 of the paper, in loss units per (logit per input unit), at least 0.
        curvature: lambda_2, in input units, at least 0.
        p: exponent of the threat's norm: 2, or inf, 1 with `solver=OperatorNorm()`.
        rivals: sampled, one j drawn uniformly, times K - 1: unbiased; all, K - 1 of them in one batch; runner_up, the
            class with the largest logit but the label's, once.
        solver: finds the unit vector v, held fixed, at which ||H v||_q is penalised: from below; 6 products of Lanczos
            give 96 % of ||H||_2 in the mean on the margins of a trained SiLU CNN (`benchmarks/curvature.py`).
        start: of the solver: gradient, or random from a normal distribution, as published.
        radius: None for the exact Hessian; a length h in input units for the curvature at that scale, by finite
            differences of gradients, which also sees the kinks of piecewise-linear networks.

    The penalty is that of the model in eval mode: BatchNorm in train mode would add the coupling of the examples to the
    Hessian.

    As published: `CrossHolder(rivals="all", solver=HessianAscent(), start="random")`.

    Terms: cross_entropy, slope = sum_j ||grad f_j||_q, curvature = sum_j ||H_{f_j} v||_q.
    Cost: per rival a forward, a backward, a Hessian product an iteration, and the parameters' gradient of one more: 8
    plain steps' arithmetic for one rival, 74 for nine; as published 241.

    Raises:
        UserError: the margins' Hessian is exactly zero on the whole batch though their gradient is not, as on every
            piecewise-linear network; or a solver that does not know p.

    Source: Mustafa et al. 2020, eq. 5. Differs: exact products and Lanczos from the gradient in place of their ascent
    from random directions; their Algorithm 1 counts the loss once per rival, adds the gradient where it should descend
    and places the weights otherwise than eq. 5 does.
    """

    weight: float = 0.01
    curvature: float = 0.1
    p: float = 2.0
    rivals: Literal["sampled", "all", "runner_up"] = "sampled"
    solver: Solver = Lanczos(steps=6, tol=0.05)
    start: Literal["gradient", "random"] = "gradient"
    radius: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("curvature", self.curvature, 0)
        object.__setattr__(self, "p", exponent("p", self.p))
        if self.rivals not in ("sampled", "all", "runner_up"):
            raise UserError(f"`rivals` must be sampled, all or runner_up, got {self.rivals!r}.")
        if self.start not in ("gradient", "random"):
            raise UserError(f"`start` must be gradient or random, got {self.start!r}.")
        if self.radius is not None:
            positive("radius", self.radius)
        instance_of("solver", self.solver, Solver)
        one = torch.ones(1, 1)
        self.solver.direction(lambda v: v, one, self.p, self.q)  # refuses norms that it does not know

    @property
    def q(self) -> float:
        """The dual exponent, of the norm of gradients."""
        return dual_exponent(self.p)

    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the sum over rivals, in eval mode; the loss comes from the same forward where the mode allows it."""
        with derivatives_of_derivatives(), eval_term(model) as same:
            if self.rivals == "all":
                logits = check_logits(model(x.clone()), x, y)
                margins, points = bind_all_rivals(model, x, y, logits.shape[1])
                slope, bend = (t.view(len(x), -1).sum(1) for t in self._slope_and_bend(margins, points, generator))
            else:
                margin = _OneMargin(model, y, self.rivals, rand((len(x),), x, generator))
                slope, bend = self._slope_and_bend(margin, x, generator)
                logits = margin.logits
                if self.rivals == "sampled":
                    slope, bend = (t * (logits.shape[1] - 1) for t in (slope, bend))
            terms = {"slope": slope.detach(), "curvature": bend.detach()}
            loss = CrossEntropy().of_logits(logits, y) if same else None
            return Penalty(slope + self.curvature * bend, loss, terms)

    def _slope_and_bend(self, f: BoundField, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return ||grad f||_q and ||Hv||_q of each example."""
        hessian = Hessian(f, x) if self.radius is None else FiniteDifferenceHessian(f, x, self.radius)
        slope = norm(hessian.gradient, self.q)
        if self.curvature == 0:
            return slope, torch.zeros_like(slope)
        gradient = hessian.gradient.detach()
        start = gradient if self.start == "gradient" else randn(x.shape, x, generator)
        v = self.solver.direction(hessian, start, self.p, self.q)
        bend = norm(hessian(v, create_graph=True), self.q)
        check_curved(hessian.gradient, bend, "CrossHolder", "train with InputGradient or Curvature, or give a radius")
        return slope, bend


class _OneMargin:
    """The margin to one rival of each example, chosen where it is evaluated first.

    Attributes:
        logits: (B, K) of the first evaluation.
    """

    def __init__(self, model: Model, y: Tensor, choice: str, draw: Tensor) -> None:
        self._model, self._y, self._choice, self._draw = model, y, choice, draw
        self._rival: Tensor | None = None

    def __call__(self, points: Tensor) -> Tensor:
        """Return z_y - z_rival at the points."""
        logits = check_logits(self._model(points), points, self._y)
        if self._rival is None:
            self.logits = logits
            self._rival = self._choose(logits)
        return margin_to(logits, self._y, self._rival)

    def _choose(self, logits: Tensor) -> Tensor:
        if self._choice == "runner_up":
            return runner_up(logits, self._y)
        others = logits.shape[1] - 1
        index = (self._draw * others).long().clamp_max(others - 1)
        return rivals(self._y, logits.shape[1]).gather(1, index[:, None]).squeeze(1)
