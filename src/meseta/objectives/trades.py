"""TRADES: agreement of the predictions at and around the input."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.gradient import full_precision, gradient_of, leaf
from meseta.autodiff.scalar_fields import CrossEntropy, Model
from meseta.checks import check_logits, derivatives_in_eval_mode, instance_of, positive, whole
from meseta.linalg.random import randn
from meseta.objectives.base import Penalty, Regularizer
from meseta.threat import Threat


@dataclass(frozen=True, kw_only=True)
class Trades(Regularizer):
    """Penalise the largest divergence of the predictions inside the threat (TRADES).

    mean_i l(x_i) + weight KL(p(x_i) || p(x_i + delta_i)),  delta ascends the KL inside ball and bounds

    The label counts at x only; around it the prediction shall stay what it is. delta is detached, found by steepest
    steps of length alpha from x + noise N(0, I) on the model in eval mode; the gradient flows through both predictions,
    in the mode that the model is in.

    Args:
        weight: in loss units per nat; the paper's 1 / lambda or beta.
        threat: norm, eps and bounds.
        steps: of the ascent, at least 1.
        alpha: step length; None for 2.5 eps / steps. The authors' code uses 0.007 at eps = 0.031.
        noise: standard deviation of the start, in input units; not 0, where the KL has no gradient.

    Terms: cross_entropy, divergence = the KL.
    Cost: `steps` forwards and backwards to the input, and a step on two batches; 9 plain steps' arithmetic.
    Raises:
        UserError: x outside the threat's bounds.
    Source: Zhang et al. 2019, Algorithm 1, and the authors' code (steps 10, beta 6, start 0.001 randn). Differs: the
    L2 ascent takes steepest steps, where theirs uses SGD on normalised gradients; the divergence is computed so that
    confident predictions keep it.
    """

    weight: float = 6.0
    threat: Threat = Threat()
    steps: int = 10
    alpha: float | None = None
    noise: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        instance_of("threat", self.threat, Threat)
        whole("steps", self.steps, 1)
        positive("noise", self.noise)
        if self.alpha is not None:
            positive("alpha", self.alpha)

    @full_precision()
    def penalize(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Penalty:
        """Return the divergence; the loss comes from the clean forward."""
        self.threat.check(x, y)
        with derivatives_in_eval_mode(model):
            around = self._ascend(model, x, y, generator)
        logits = check_logits(model(x.clone()), x, y)
        divergence = kl_divergence(logits, model(around))
        return Penalty(divergence, CrossEntropy().of_logits(logits, y), {"divergence": divergence.detach()})

    def _ascend(self, model: Model, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        alpha = 2.5 * self.threat.eps / self.steps if self.alpha is None else self.alpha
        with torch.no_grad():
            clean = check_logits(model(x.clone()), x, y)
        points = self.threat.project(x + self.noise * randn(x.shape, x, generator), x)
        for _ in range(self.steps):
            point = leaf(points)
            gradient = gradient_of(kl_divergence(clean, model(point.clone())), point).nan_to_num(0, 0, 0)
            points = self.threat.project(points + alpha * self.threat.steepest(gradient, points), x)
        return points


def kl_divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Return KL(p || q) per example, p = softmax(logits), q = softmax(other).

    As sum_k p_k (e^r_k - 1 - r_k), r = log q - log p, which is the same since both sum to 1. No term is negative, and
    that of a class with p_k near 1 vanishes to second order, so that its rounding does not drown the others: the
    textbook sum of -p_k r_k loses all of a divergence below 1e-7 in float32, as between confident predictions.
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits, other = logits.float(), other.float()
    lowest = torch.finfo(logits.dtype).min / 4  # not -inf, of which there may be two to subtract
    log_p, log_q = (z.log_softmax(1).clamp_min(lowest) for z in (logits, other))
    r = log_q - log_p
    p = log_p.exp()
    near = r.clamp_max(1)  # e^r may overflow where p_k is 0; there p_k e^r_k is just q_k
    return torch.where(r < 1, p * (near.expm1() - near), log_q.exp() - p - p * r).sum(1)
