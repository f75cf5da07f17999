"""The activations that certificates know, and where their first two derivatives lie on an interval."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from meseta.shapes import Float

FLAT = 60.0
"""Beyond this |input| every derivative here differs from its limit by less than 1e-22."""

OUTWARD = 1e-12
"""Ranges are widened by this much on either side, for the rounding of their ends in float64."""

Range = tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]
"""The lowest and highest value, entry by entry."""


@dataclass(frozen=True)
class Derivative:
    """One derivative of an activation: the function, and where its local extrema are."""

    function: Callable[[Tensor], Tensor]
    turns: tuple[float, ...]

    def range(self, low: Tensor, high: Tensor) -> Range:
        """Return the range on each interval [low, high], widened outward; the ends may be infinite.

        The function is monotone between its turns, so that ends and turns inside are all that matters.
        """
        low, high = low.clamp(-FLAT, FLAT), high.clamp(-FLAT, FLAT)
        at_low, at_high = self.function(low), self.function(high)
        smallest, largest = torch.minimum(at_low, at_high), torch.maximum(at_low, at_high)
        for turn in self.turns:
            extremum = self.function(low.new_tensor(turn))
            inside = (low <= turn) & (turn <= high)
            smallest = torch.where(inside, torch.minimum(smallest, extremum), smallest)
            largest = torch.where(inside, torch.maximum(largest, extremum), largest)
        return smallest - OUTWARD, largest + OUTWARD


@dataclass(frozen=True)
class Activation:
    """An activation sigma(x) = phi(beta x) / beta, by the derivatives of phi; `second` is None where it has kinks."""

    first: Derivative
    second: Derivative | None
    beta: float = 1.0

    def slopes(self, low: Tensor, high: Tensor) -> Range:
        """Return the range of sigma' on each interval of pre-activations."""
        return self.first.range(self.beta * low, self.beta * high)

    def bends(self, low: Tensor, high: Tensor) -> Range:
        """Return the range of sigma'' on each interval of pre-activations."""
        assert self.second is not None  # networks with kinks are refused where second derivatives are needed
        smallest, largest = self.second.range(self.beta * low, self.beta * high)
        return self.beta * smallest, self.beta * largest


def _logistic(x: Tensor) -> Tensor:
    return x.sigmoid()


def _logistic_slope(x: Tensor) -> Tensor:
    return x.sigmoid() * (-x).sigmoid()


def _logistic_bend(x: Tensor) -> Tensor:
    return _logistic_slope(x) * ((-x).sigmoid() - x.sigmoid())


def _silu_slope(x: Tensor) -> Tensor:
    return x.sigmoid() + x * _logistic_slope(x)


def _silu_bend(x: Tensor) -> Tensor:
    return 2 * _logistic_slope(x) + x * _logistic_bend(x)


def _gauss(x: Tensor) -> Tensor:
    density: Tensor = (-(x**2) / 2).exp() / (2 * torch.pi) ** 0.5
    return density


def _gelu_slope(x: Tensor) -> Tensor:
    below: Tensor = torch.special.ndtr(x)
    return below + x * _gauss(x)


def _gelu_bend(x: Tensor) -> Tensor:
    return (2 - x**2) * _gauss(x)


def _step(slope: float) -> Callable[[Tensor], Tensor]:
    """Return the slope of a rectifier; at its kink it has both, and `turns` at 0 on either side see to that."""
    return lambda x: torch.where(x > 0, torch.ones_like(x), torch.full_like(x, slope))


_TINY = 1e-300
_LOGISTIC_TURN = 1.3169578969248166  # log(2 + sqrt 3), where the logistic function's second derivative is extreme
SIGMOID = Activation(Derivative(_logistic_slope, (0.0,)), Derivative(_logistic_bend, (-_LOGISTIC_TURN, _LOGISTIC_TURN)))
SOFTPLUS = Activation(Derivative(_logistic, ()), Derivative(_logistic_slope, (0.0,)))
TANH = Activation(  # tanh(x) = 2 sigmoid(2 x) - 1
    Derivative(lambda x: 4 * _logistic_slope(2 * x), (0.0,)),
    Derivative(lambda x: 8 * _logistic_bend(2 * x), (-_LOGISTIC_TURN / 2, _LOGISTIC_TURN / 2)),
)
SILU = Activation(
    Derivative(_silu_slope, (-2.3993572805154676, 2.3993572805154676)),  # x tanh(x / 2) = 2
    Derivative(_silu_bend, (-3.4358409935546, 0.0, 3.4358409935546)),
)
GELU = Activation(
    Derivative(_gelu_slope, (-(2**0.5), 2**0.5)),
    Derivative(_gelu_bend, (-2.0, 0.0, 2.0)),
)


def known_activation(module: nn.Module) -> Activation | None:
    """Return what certificates know about an activation module; None where they do not know it."""
    match module:
        case nn.Sigmoid():
            return SIGMOID
        case nn.Tanh():
            return TANH
        case nn.SiLU():
            return SILU
        case nn.GELU(approximate="none"):
            return GELU
        case nn.Softplus() if module.threshold >= 20 and module.beta > 0:  # above it torch takes the identity: a jump
            return Activation(SOFTPLUS.first, SOFTPLUS.second, beta=float(module.beta))
        case nn.ReLU():
            return _rectifier(0.0)
        case nn.LeakyReLU():
            return _rectifier(float(module.negative_slope))
    return None


def _rectifier(slope: float) -> Activation:
    return Activation(Derivative(_step(slope), (-_TINY, 0.0, _TINY)), None)
