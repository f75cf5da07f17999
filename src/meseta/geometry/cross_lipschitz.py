"""The local cross-Lipschitz constant: how far the logits' gradients differ."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from meseta.autodiff.jacobian import LogitJacobian
from meseta.autodiff.scalar_fields import Model, rivals
from meseta.checks import check_logits
from meseta.geometry.base import Measure, Measurement
from meseta.linalg.norms import norm


@dataclass(frozen=True, kw_only=True)
class CrossLipschitz(Measure):
    """The local cross-Lipschitz constant nu, the root mean square difference of two logits' input gradients v_k.

    nu = (1/K^2 sum_{i,j} ||v_i - v_j||_2^2)^(1/2) = (2/K)^(1/2) ||V (I - 11^T/K)||_F

    What all logits share drops out, as in the softmax: unlike `JacobianFrobenius` it counts only what can change a
    prediction. For two classes it is ||v_0 - v_1||_2 / 2^(1/2), the slope of the margin up to the factor.

    Parts: largest = max_j ||v_y - v_j||_2 over the rivals j of the label: the steepest margin of the example.
    Units: of the logits per unit of input. Cost: one forward and K - 1 backwards to the input, one margin after the
    other; holds their mean and no more.

    Source: Hein & Andriushchenko 2017, eq. 5, whose square it is. Guo 2020 writes nu for ||v_+ - v_-||_2, `largest`
    here, with two classes, and for the sum above without the root in Appendix E.
    """

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return nu per example."""
        jacobian = LogitJacobian(model, x)
        logits = check_logits(jacobian.logits, x, y).detach()
        classes = logits.shape[1]
        # Welford's update of mean and spread of the v_y - v_j, that of j = y first: nothing cancels as in sums of
        # squares, and a margin's gradient serves both sums.
        mean, spread, largest = torch.zeros_like(x), torch.zeros_like(logits[:, 0]), torch.zeros_like(logits[:, 0])
        for n, rival in enumerate(rivals(y, classes).unbind(1), start=2):
            slope = jacobian.times((one_hot(y, classes) - one_hot(rival, classes)).to(logits))
            spread = torch.hypot(spread, ((n - 1) / n) ** 0.5 * norm(slope - mean))
            mean = mean + (slope - mean) / n
            largest = torch.maximum(largest, norm(slope))
        return Measurement((2 / classes) ** 0.5 * spread, parts={"largest": largest})
