"""The judge: whatever an attack returns is checked and classified again here, never taken on its word."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks.base import misclassified
from meseta.autodiff.scalar_fields import Model
from meseta.checks import check_logits, eval_mode
from meseta.threat import Threat


@dataclass(frozen=True)
class Judgement:
    """What the judge found, per example.

    Attributes:
        broken: (B,) bool, the model errs on the judged input, or gives NaN or infinite logits there.
        violation: (B,) bool, the attack returned a point outside ball or bounds, or one that is not finite.
        adversarial: (B, *input) the judged inputs, inside ball and bounds.
    """

    broken: Tensor
    violation: Tensor
    adversarial: Tensor


@torch.no_grad()
def judge_attack(model: Model, x: Tensor, y: Tensor, returned: Tensor, threat: Threat) -> Judgement:
    """Judge what an attack returned for x: bring it back into ball and bounds, then classify it in eval mode.

    A violation is counted and projected; a point that is not finite is replaced by x itself, so that an attack gains
    nothing by leaving the threat.
    """
    returned = returned.detach().to(x)
    violation = ~threat.contains(returned, x)
    finite = returned.flatten(1).isfinite().all(1).view(-1, *[1] * (x.dim() - 1))
    adversarial = threat.project(torch.where(finite, returned, x), x)
    return Judgement(misclassified(predict(model, adversarial, y), y), violation, adversarial)


@contextmanager
def repeatable(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator for the block, for models that draw from it, and put it back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reaches every device
        for each in devices:
            torch.cuda.default_generators[each.index or 0].manual_seed(seed)
        yield


@torch.no_grad()
def predict(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return the checked logits of x in eval mode."""
    with eval_mode(model):
        return check_logits(model(x.clone()), x, y)  # a model may work in place
