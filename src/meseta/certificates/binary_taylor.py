"""The distance and the worst loss in the quadratic model of a binary classifier's loss, in closed form."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from meseta.autodiff.gradient import value_and_gradient
from meseta.autodiff.scalar_fields import Decision, Model
from meseta.certificates.base import Proxy, check_norm
from meseta.certificates.taylor import taylor_radius
from meseta.checks import at_least, check_batch, check_logits, constant, derivatives_in_eval_mode
from meseta.linalg.norms import norm
from meseta.shapes import Float, Int
from meseta.threat import Norm, Threat


@dataclass(frozen=True, kw_only=True)
class BinaryTaylor(Proxy):
    """The distance at which the quadratic model of a binary classifier's loss reaches log 2, on the linear piece of x.

    (1 / (p nu)) (sqrt(1 + 2 p xi / (1 - p)) - 1),  p = p_y, xi = log 2 + log p, nu = ||v_y - v_j||_q,

    v the logit gradients, 1/p + 1/q = 1 in the exponents. Computed as 2 xi / (g + sqrt(g^2 + 2 k xi)) with slope g =
    (1 - p) nu and curvature k = p (1 - p) nu^2, stable for p near 1/2 and near 1.

    No guarantee, whatever the paper says: the linear piece itself reaches the boundary at log(p / (1 - p)) / nu, which
    is `LinearPiece`, and this overstates that distance by 1.22 at p = 0.9, 2.35 at 0.99, 12.7 at 0.9999. It shows what
    the quadratic model, which many regularisers are derived from, believes.

    Args:
        norm: of the perturbation; L2 (Proposition 3.1), Linf (3.2) or L1.

    Parts: confidence p, slope nu.
    Cost: one forward and one backward.

    Raises:
        UserError: a model with more than two classes; see `MulticlassTaylor`.

    Source: Guo 2020, Propositions 3.1 and 3.2. Differs: the -1 stands outside the root, as in Lemma 3.1; eq. 8 is
    printed with it inside.
    """

    classes: ClassVar[int | None] = 2

    norm: Norm = "L2"

    def __post_init__(self) -> None:
        check_norm(self.norm)

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the distance, with the confidence and the local cross-Lipschitz constant."""
        margin, nu = self._margin_and_slope(model, x, y)
        p, rest = margin.sigmoid(), (-margin).sigmoid()
        gap = -((-margin).expm1() / 2).log1p()  # log 2 - log(1 + e^-margin), exact also for margin -> 0
        return taylor_radius(gap, rest * nu, p * rest * nu**2), {"confidence": p, "slope": nu}

    def worst_loss(self, model: Model, x: Tensor, y: Tensor, eps: float) -> Float[Tensor, "b"]:
        """Return the most that the quadratic model of the loss reaches within ||r||_p <= eps.

        l + eps (1 - p) nu + eps^2 p (1 - p) nu^2 / 2, met at the steepest step, eps sign(grad l) in
        Linf; also where the model errs.

        Source: Guo 2020, Proposition 3.3 for Linf.
        """
        at_least("eps", eps, 0)
        check_batch(x, y)
        with derivatives_in_eval_mode(model):
            x, y = constant(x), constant(y).long()
            with torch.no_grad():
                self.check_classes(check_logits(model(x.clone()), x, y))
            margin, nu = self._margin_and_slope(model, x, y)
        p, rest = margin.sigmoid(), (-margin).sigmoid()
        return torch.nn.functional.softplus(-margin) + eps * rest * nu + eps**2 * p * rest * nu**2 / 2

    def _margin_and_slope(self, model: Model, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margin, gradient = value_and_gradient(Decision().bind(model, x, y), x)
        return margin.double(), norm(gradient, Threat(self.norm).dual).double()
