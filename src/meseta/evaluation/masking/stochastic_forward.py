"""Does the model answer twice alike?"""

from dataclasses import dataclass

import torch

from meseta.attacks import PGD, Attack
from meseta.checks import positive, whole
from meseta.evaluation.masking.base import Case, MaskingCheck, Observation, check_thresholds, percent, share


@dataclass(frozen=True, kw_only=True)
class StochasticForward(MaskingCheck):
    """The same batch gets other logits when it is asked about again, in eval mode.

    An attack on one draw of the noise need not work on the next, and a search by margins chases luck. Dropout left
    active, noise added to the input, random resizing.

    Args:
        forwards: how often the batch is asked about.
        rounding: what logits may differ by, relative to the largest one of the batch, in units of their resolution;
            rounding itself differs where kernels add in varying order.
        broken: share of the examples whose prediction differs at least once.

    Cost: `forwards` forwards.
    Source: Athalye, Carlini & Wagner 2018, section 3 (stochastic gradients); Carlini et al. 2019, section 5.6.
    """

    forwards: int = 5
    rounding: float = 1000.0
    broken: float = 0.01

    def __post_init__(self) -> None:
        whole("forwards", self.forwards, 2)
        positive("rounding", self.rounding)
        check_thresholds(0, self.broken)

    def examine(self, case: Case) -> Observation:
        """Ask several times."""
        answers = torch.stack([case.predict(case.x) for _ in range(self.forwards)])
        scale = float(answers.nan_to_num(0, 0, 0).abs().max())
        differ = float((answers - answers[0]).nan_to_num(0, 0, 0).abs().max()) / scale if scale > 0 else 0.0
        flips = share((answers.argmax(2) != answers[0].argmax(1)).any(0))
        noisy = differ > self.rounding * torch.finfo(answers.dtype).eps
        return Observation(
            "broken" if noisy and flips > self.broken else "suspicious" if noisy else "fine",
            f"Asked {self.forwards} times, the model's logits differ by up to {differ:.2g} of the largest, and "
            f"{percent(flips)} of the predictions differ.",
            {"difference": differ, "flips": flips},
        )

    @property
    def rule(self) -> str:
        """Logits and predictions."""
        return (
            f"Logits of {self.forwards} forwards of one batch differ by more than {self.rounding:g} times their "
            f"resolution (suspicious), or more than {percent(self.broken)} of the predictions do (broken)."
        )

    def calls_for(self) -> tuple[Attack, ...]:
        """Restarts: each meets other draws."""
        return (PGD(steps=100, restarts=5),)
