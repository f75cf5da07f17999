"""Lower bounds of the distance in the quadratic model of the loss, from the confidence and the logit gradients."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from meseta.autodiff.jacobian import logits_and_jacobian
from meseta.autodiff.scalar_fields import Model
from meseta.certificates.base import Proxy
from meseta.certificates.taylor import loss_gap, taylor_radius
from meseta.errors import UserError
from meseta.linalg.norms import norm
from meseta.shapes import Float, Int
from meseta.threat import Norm, Threat

Form = Literal["diameter", "cross_lipschitz", "jacobian"]

FORMS: dict[str, tuple[Norm, ...]] = {
    "diameter": ("L2", "Linf", "L1"),
    "cross_lipschitz": ("L2",),
    "jacobian": ("L2", "Linf"),
}
"""The norms that each form is about."""


@dataclass(frozen=True, kw_only=True)
class MulticlassTaylor(Proxy):
    """A lower bound on the distance at which the quadratic model of the loss reaches log 2, on the linear piece of x.

    2 xi / (s + sqrt(s^2 + 2 k xi)),  xi = log 2 + log p,  s >= ||grad l||_q,  k >= r^T H r for ||r||_p <= 1,

    with p = p_y, V = [v_0 ... v_{K-1}] the logit gradients, H = V (diag p - p p^T) V^T, and for s and k by form:

        diameter         s = (1 - p) D           k = p (1 - p) D^2
        cross_lipschitz  s = 2 (1 - p) ||V||_F   k = K^2 p (1 - p) nu^2 / 2
        jacobian         s = 2 (1 - p) ||V||_F   k = 2 p (1 - p) ||V||_F^2
        jacobian, Linf   s = 2 (1 - p) ||V||_1   k = 2 d p (1 - p) ||V||_1 ||V||_inf

    with D = max_{i,j} ||v_i - v_j||_q and nu^2 = sum_{i,j} ||v_i - v_j||_2^2 / K^2.

    An example that is right at p <= 1/2 has distance 0. The diameter is `BinaryTaylor`'s expression with nu = D and
    equal to it for K = 2. It is never below the other two: r^T H r is the variance of V^T r under p, at most p (1 - p)
    times the square of its range where one class has p >= 1/2; and D^2 <= 2 ||V||_F^2 as well
    as D^2 <= sum_{i<j} ||v_i - v_j||_2^2.

    As every distance of the quadratic model it is no bound for the network, nor for its linear piece: see
    `BinaryTaylor`. On smooth networks H leaves out the curvature of the logits, which `LossTaylor` has.

    Args:
        norm: of the perturbation; L2, for the diameter also Linf and L1, for the jacobian also Linf.
        form: diameter, cross_lipschitz or jacobian.

    Parts: confidence p, slope s, curvature k.
    Cost: one forward and K backwards; the diameter K (K - 1) / 2 norms beside; memory (B, K, d).
    Source: Guo 2020, Proposition 4.1, eq. 16 (cross_lipschitz), 17 (jacobian), and appendix E (Linf). Differs: xi from
    log 2, not log K; K^2 in place of K (K - 1), which the sum over pairs i < j gives and without which eq. 16 fails
    for K = 2 (for larger K it holds as printed, by the diameter). The diameter is not in the paper.
    """

    norm: Norm = "L2"
    form: Form = "diameter"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UserError(f"`form` must be one of {', '.join(FORMS)}, got {self.form!r}.")
        if self.norm not in FORMS[self.form]:
            raise UserError(f"`norm` of {self.form} must be {' or '.join(FORMS[self.form])}, got {self.norm!r}.")

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the distance, with the confidence, the slope and the curvature."""
        logits, jacobian = logits_and_jacobian(model, x)
        gap = loss_gap(logits, y)
        p = logits.double().softmax(1).gather(1, y[:, None]).squeeze(1)
        rest = logits.double().softmax(1).scatter(1, y[:, None], 0).sum(1)
        s, k = (t.double() for t in self._slope_and_curvature(jacobian.flatten(2)))
        slope, curvature = rest * s, p * rest * k
        distance = torch.where(gap > 0, taylor_radius(gap, slope, curvature), gap.clamp_max(0))
        return distance, {"confidence": p, "slope": slope, "curvature": curvature}

    def _slope_and_curvature(self, v: Float[Tensor, "b c d"]) -> tuple[Tensor, Tensor]:
        """Return s / (1 - p) and k / (p (1 - p))."""
        classes, d = v.shape[1:]
        if self.form == "diameter":
            q = Threat(self.norm).dual
            apart = [norm((v[:, :i] - v[:, i : i + 1]).flatten(0, 1), q).view(-1, i) for i in range(1, classes)]
            widest = torch.cat(apart, 1).amax(1)
            return widest, widest**2
        if self.norm == "Linf":
            column, row = v.abs().sum(2).amax(1), v.abs().sum(1).amax(1)
            return 2 * column, 2 * d * column * row
        length = norm(v)
        if self.form == "jacobian":
            return 2 * length, 2 * length**2
        spread = norm(v - v.mean(1, keepdim=True)) ** 2 * 2 / classes  # nu^2
        return 2 * length, classes**2 * spread / 2
