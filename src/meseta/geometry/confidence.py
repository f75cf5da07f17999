"""The confidence of the prediction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import CrossEntropy, Decision, Model
from meseta.checks import check_logits
from meseta.geometry.base import Measure, Measurement


@dataclass(frozen=True, kw_only=True)
class Confidence(Measure):
    """The highest probability max_k p_k, p = softmax(z): what flattens the loss without moving the boundary.

    Slope and curvature of the cross-entropy carry the factor 1 - p_y, so a mean near 1 says that a flat loss need not
    be a flat classifier, and that gradients of the loss may be masked. It is no measure of robustness, nor of being
    right.

    Parts:
        doubt: 1 - max_k p_k, to full relative precision where the value itself rounds to 1.
        label: p_y, the probability of the label. loss: -log p_y.
        entropy: -sum_k p_k log p_k, in nats.
        margin: z_y - max_{j != y} z_j, negative where the model errs.

    Units: value, doubt and label are probabilities; loss and entropy are in nats, as is the margin, a log ratio of
    probabilities. Cost: one forward. NaN where a logit is not finite.

    Source: Ma 2020, Table 5, the mean of the value over a data set; the parts are ours.
    """

    def at(self, model: Model, x: Tensor, y: Tensor) -> Measurement:
        """Return the highest probability per example, with the parts."""
        with torch.no_grad():
            logits = check_logits(model(x.clone()), x, y)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            logits = torch.where(logits.isfinite().all(1, keepdim=True), logits, torch.nan)
            loss, likeliest = CrossEntropy().of_logits(logits, y), logits.argmax(1)
            surprise = CrossEntropy().of_logits(logits, likeliest)  # -log max p, also where max p rounds to 1
            value = (-surprise).exp()
            # -p log p of the likeliest class from its precise logarithm; the others are far from 1.
            summands = torch.special.entr(logits.softmax(1)).scatter(1, likeliest[:, None], (value * surprise)[:, None])
            parts = {
                "doubt": -(-surprise).expm1(),
                "label": (-loss).exp(),
                "loss": loss,
                "entropy": summands.sum(1),
                "margin": Decision().of_logits(logits, y),
            }
        return Measurement(value, parts=parts)
