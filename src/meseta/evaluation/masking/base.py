"""What every masking check takes and returns: a model on trial, and one finding about its gradients."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import torch
from torch import Tensor, nn

from meseta.attacks.base import Attack
from meseta.attacks.pgd import PGD
from meseta.autodiff.gradient import derivatives_of_derivatives, leaf, value_and_gradient
from meseta.autodiff.scalar_fields import Decision, Model, ScalarField
from meseta.checks import at_least, eval_mode
from meseta.errors import NoGradient
from meseta.evaluation.judge import judge_attack, predict, repeatable
from meseta.evaluation.record import Finding, Level
from meseta.threat import Threat


class Case:
    """A model on trial: correctly classified examples, a threat, and what was broken so far.

    Attributes:
        model: inputs to logits (B, K). x: (B, *input), y: (B,), all classified correctly. threat: what attacks may do.
        broken: (B,) bool, what any search within the threat has broken, by whichever check.
        batch_size: examples that the model meets at a time.
    """

    def __init__(
        self, model: Model, x: Tensor, y: Tensor, threat: Threat, seed: int = 0, *, batch_size: int = 100
    ) -> None:
        self.model, self.x, self.y, self.threat, self.batch_size = model, x, y, threat, batch_size
        self.broken = torch.zeros_like(y, dtype=torch.bool)
        self._seed = seed
        self._results: dict[str, Tensor] = {}

    def at(self, threat: Threat) -> "Case":
        """Return the same examples under another threat; what is broken there does not count here."""
        return Case(self.model, self.x, self.y, threat, self._seed, batch_size=self.batch_size)

    def generator(self) -> torch.Generator:
        """Return the source of randomness: the same for every search, so that checks do not depend on their order."""
        return torch.Generator(self.x.device).manual_seed(self._seed)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Borrow the model in eval mode; what it draws from torch's global generator is repeatable and put back."""
        with eval_mode(self.model), repeatable(self._seed, self.x.device):
            yield

    def in_batches(self, f: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Return f of the tensors, which takes and returns one row an example, over `batch_size` examples at a time."""
        parts = zip(*(torch.split(tensor, self.batch_size) for tensor in tensors), strict=True)
        return torch.cat([f(*part) for part in parts])

    def predict(self, points: Tensor) -> Tensor:
        """Return the model's checked logits at points (B, *input), one for each example."""
        return self.in_batches(lambda x, y: predict(self.model, x, y), points, self.y)

    def gradient(self, field: ScalarField, points: Tensor, through: Model | None = None) -> Tensor:
        """Return the gradient of the field at points (B, *input), one for each example.

        Raises:
            NoGradient: the model has none.
        """
        self.need_gradients()
        model = through or self.model
        return self.in_batches(lambda x, y: value_and_gradient(field.bind(model, x, y), x)[1], points, self.y)

    def need_gradients(self) -> None:
        """Raise NoGradient where the model has none."""
        if not self.has_gradients:
            raise NoGradient("the model's output is cut off from its input, or what lies between has no backward.")

    def broken_by(self, attack: Attack, *, among: Tensor | None = None, through: Model | None = None) -> Tensor:
        """Return (B,) bool: where what the attack finds breaks the model, as judged.

        The attack runs under the case's threat in place of its own. On all examples it runs once: a second call with an
        equal attack returns the first one's result.

        Args:
            attack: the search.
            among: (B,) bool, the examples to attack; False is returned for the others. None for all.
            through: a model to search on in place of the one on trial, such as one with other logits or precision; the
                judge always asks the one on trial.

        Raises:
            NoGradient: the attack follows gradients, and the model has none.
        """
        key = repr(attack)
        if among is None and through is None and key in self._results:
            return self._results[key]
        if attack.uses_gradients:
            self.need_gradients()
        chosen = torch.ones_like(self.broken) if among is None else among
        points, generator, within = self.x.clone(), self.generator(), attack.against(self.threat)
        if chosen.any():
            with self.undisturbed():
                points[chosen] = self.in_batches(
                    lambda x, y: within(through or self.model, x, y, generator=generator).to(x),
                    *(self.x[chosen], self.y[chosen]),
                )
        result = self.counted(points) & chosen
        if among is None and through is None:
            self._results[key] = result
        return result

    def counted(self, points: Tensor) -> Tensor:
        """Return (B,) bool: where these points, brought into ball and bounds, break the model; the case remembers."""
        with self.undisturbed():
            result = self.in_batches(
                lambda x, y, found: judge_attack(self.model, x, y, found, self.threat).broken, self.x, self.y, points
            )
        self.broken = self.broken | result
        return result

    @cached_property
    def by_loss(self) -> Tensor:
        """Where the reference, PGD-20 on the cross-entropy from one random start, breaks the model: what is reported
        most often, and fooled most easily."""
        return self.broken_by(PGD(steps=20))

    @cached_property
    def by_gradients(self) -> Tensor:
        """Where PGD-20 on the cross-entropy or on the margin breaks the model; nowhere where it has no gradients."""
        if not self.has_gradients:
            return torch.zeros_like(self.broken)
        return self.by_loss | self.broken_by(PGD(steps=20, loss=Decision()), among=~self.by_loss)

    @cached_property
    def has_gradients(self) -> bool:
        """Whether autograd can follow the model from its output to its input.

        Trainable weights give a detached model an output with a graph that does not reach the input, whose gradient
        autograd would fill up with zeros.
        """
        point = leaf(self.x[: self.batch_size])
        try:
            with self.undisturbed(), derivatives_of_derivatives():
                logits = self.model(point.clone())  # a model may work in place
                (gradient,) = torch.autograd.grad(logits.sum(), point, allow_unused=True)
        except (RuntimeError, NotImplementedError):
            return False
        return gradient is not None

    @cached_property
    def logits(self) -> Tensor:
        """The model's logits at x, (B, K)."""
        with self.undisturbed():
            return self.predict(self.x)

    @cached_property
    def inside(self) -> Tensor:
        """A random point of each ball, 1 % of the way to the middle of the bounds: the model may be asked around it.

        At the inputs themselves, regions of equal pixels tie in every max pooling, where a slope has two sides.
        """
        points = self.threat.sample(self.x, generator=self.generator())
        if self.threat.bounds is None:
            return points
        return points + 0.01 * (sum(self.threat.bounds) / 2 - points)

    @cached_property
    def in_double(self) -> Model | None:
        """A copy of the model in float64; None where it is no module or does not survive that."""
        if self.x.dtype == torch.float64:
            return self.model
        if not isinstance(self.model, nn.Module):
            return None
        try:
            copy = deepcopy(self.model).double()
            with self.undisturbed():
                works = predict(copy, self.x[:1].double(), self.y[:1]).dtype == torch.float64
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None
        return copy if works else None


FAILED = "The check failed: "
"""How the evidence begins of a check that raised."""


@dataclass(frozen=True)
class Observation:
    """What a check saw: its level, one sentence with the numbers, and the numbers by name (shares in [0, 1])."""

    level: Level
    evidence: str
    figures: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class MaskingCheck(ABC):
    """A test of whether gradient attacks see what the model does.

    A check states in `rule` what makes it say suspicious or broken, with its thresholds as fields.
    """

    def __call__(self, case: Case) -> Finding:
        """Return the finding. The model runs in eval mode and is left as it was.

        Whatever the model raises is part of the finding: "broken" where it has no gradient at all and the check needs
        one, "suspicious" elsewhere, since what was not looked at cannot be trusted.
        """
        began = perf_counter()
        try:
            with case.undisturbed():
                seen = self.examine(case)
        except NoGradient as error:
            seen = Observation("broken", f"No gradient attack can run: {error}", {})
        except Exception as error:  # a model may raise anything, and the other checks go on
            lines = str(error).splitlines() or [type(error).__name__]
            seen = Observation("suspicious", f"{FAILED}{lines[0]}", {})
        return self.finding(seen, perf_counter() - began)

    def finding(self, seen: Observation, seconds: float = 0.0) -> Finding:
        """Return what was seen as a section of the record."""
        return Finding(
            check=repr(self),
            name=self.name,
            level=seen.level,
            evidence=seen.evidence,
            rule=self.rule,
            figures=dict(seen.figures),
            seconds=round(seconds, 3),
        )

    @abstractmethod
    def examine(self, case: Case) -> Observation:
        """Return what was seen; "untested" where the check does not apply. The model is in eval mode."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """What makes a model suspicious or broken, in words and numbers."""

    def calls_for(self) -> tuple[Attack, ...]:
        """Return the attacks that the failure this check looks for calls for; run on all examples where it is found."""
        return ()

    @property
    def name(self) -> str:
        """A short name for tables."""
        return type(self).__name__


FEW = 2
"""So many more examples broken are chance, whatever share of all they are."""

CHANCE = f" {FEW} examples or fewer are chance."
"""What the rules of checks say that grade by `graded_gain`."""


def graded(value: float, suspicious: float, broken: float | None) -> Level:
    """Return the level of a value that is bad when large; above a threshold, not at it."""
    if broken is not None and value > broken:
        return "broken"
    return "suspicious" if value > suspicious else "fine"


def graded_gain(found: Tensor, suspicious: float, broken: float) -> Level:
    """Return the level of what one search broke and another did not, (B,) bool; FEW examples are fine."""
    return graded(share(found), suspicious, broken) if int(found.sum()) > FEW else "fine"


def share(mask: Tensor) -> float:
    """Return the share of True."""
    return float(mask.float().mean())


def percent(value: float) -> str:
    """Return a share in words, for evidence and rules: `12 %`, `0.5 %`."""
    return f"{100 * value:.3g} %"


def check_thresholds(suspicious: float, broken: float | None) -> None:
    """Raise unless 0 <= suspicious <= broken, where there is the latter."""
    at_least("suspicious", suspicious, 0)
    if broken is not None:
        at_least("broken", broken, suspicious)
