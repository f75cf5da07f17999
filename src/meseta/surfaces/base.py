"""What an axis of a surface is, and where it starts: an input of a model, or the model's parameters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.func import functional_call

from meseta.autodiff.scalar_fields import BoundField, Model, ScalarField
from meseta.checks import check_logits
from meseta.errors import UserError
from meseta.linalg.norms import norm
from meseta.shapes import Float, Int
from meseta.threat import Threat


@dataclass(frozen=True)
class InputOrigin:
    """One example that a plane goes through.

    Args:
        model: inputs to logits (B, K), in eval mode.
        x: the example as a batch of one, (1, *input). y: its label, (1,).
        threat: the norm in which axes have length 1; its eps and bounds for attacks.
        others: examples (N, *input) that an axis may point to; None for none.
    """

    model: Model
    x: Float[Tensor, "1 *input"]
    y: Int[Tensor, "1"]
    threat: Threat
    others: Float[Tensor, "n *input"] | None = None

    def unit(self, direction: Float[Tensor, "1 *input"], who: str) -> Float[Tensor, "*input"]:
        """Return the direction with length 1 in the threat's norm.

        Raises:
            UserError: the direction is zero or not finite, so that it is none.
        """
        length = norm(direction, self.threat.p)
        if not (0 < length.item() < float("inf")):
            raise UserError(
                f"`axes`: {who} finds no direction at this example, the length is {length.item():g}. "
                "Where a loss is flat, take field=Decision(), or another example."
            )
        return (direction / length).squeeze(0)


@dataclass(frozen=True)
class ParameterOrigin:
    """The parameters that a plane goes through, as one vector; what is shown over it are means over examples.

    Args:
        model: in eval mode; its own parameters are never changed.
        x: examples (N, *input). y: their labels, (N,).
    """

    model: nn.Module
    x: Float[Tensor, "n *input"]
    y: Int[Tensor, "n"]

    @cached_property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters by name, without history."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    @cached_property
    def vector(self) -> Float[Tensor, "p"]:
        """All parameters in a row."""
        return torch.cat([parameter.flatten() for parameter in self.parameters.values()])

    def split(self, vector: Float[Tensor, "p"]) -> dict[str, Tensor]:
        """Return a vector as parameters by name."""
        sizes = [parameter.numel() for parameter in self.parameters.values()]
        parts = zip(self.parameters.items(), torch.split(vector, sizes), strict=True)
        return {name: part.view_as(parameter) for (name, parameter), part in parts}

    def logits(self, parameters: Mapping[str, Tensor]) -> Float[Tensor, "n c"]:
        """Return the logits of the examples with these parameters."""
        found: Tensor = functional_call(self.model, dict(parameters), (self.x.clone(),))
        return check_logits(found, self.x, self.y)

    def scaled(self, direction: Float[Tensor, "p"], who: str) -> Float[Tensor, "p"]:
        """Return the direction with the length of the parameters; raise where it is zero or not finite."""
        length = torch.linalg.vector_norm(direction)
        if not (0 < length.item() < float("inf")):
            raise UserError(f"`axes`: {who} finds no direction at these parameters, the length is {length.item():g}.")
        scaled: Tensor = direction * (torch.linalg.vector_norm(self.vector) / length)
        return scaled

    def mean(self, field: ScalarField) -> BoundField:
        """Return the field's mean over the examples as a function of vectors of parameters, (1, P) -> (1,)."""
        return lambda vector: field.of_logits(self.logits(self.split(vector[0])), self.y).mean()[None]


@dataclass(frozen=True, kw_only=True)
class Axis(ABC):
    """A direction in which a surface is looked at.

    An axis of an input has length 1 in the threat's norm, so that a coordinate on it is a distance from the input.
    """

    @abstractmethod
    def of_input(self, origin: InputOrigin, occurrence: int) -> Float[Tensor, "*input"]:
        """Return the direction at an input.

        Args:
            origin: where the plane goes through.
            occurrence: how many axes equal to this one come before it in the same plane: its next direction is meant.

        Raises:
            UserError: there is no such direction.
        """

    def of_parameters(self, origin: ParameterOrigin, occurrence: int) -> Float[Tensor, "p"]:
        """Return the direction at a model's parameters; about as long as these, so that a coordinate is relative.

        Raises:
            UserError: the axis has no meaning there.
        """
        raise UserError(
            f"`axes`: {type(self).__name__} is a direction of inputs. In the space of parameters use Random(), "
            "Gradient() or Eigenvector()."
        )

    @property
    def name(self) -> str:
        """A short name for the labels of figures."""
        return type(self).__name__


def two(axes: Sequence[Axis]) -> tuple[Axis, Axis]:
    """Return two axes; raise where there are more, fewer, or other things."""
    if len(axes) != 2 or not all(isinstance(axis, Axis) for axis in axes):
        raise UserError(f"`axes` must be two axes, such as Random() and Adversarial(), got {axes!r}.")
    return axes[0], axes[1]


PARALLEL = 0.9999
"""From this cosine on two directions are taken for one."""
OBLIQUE = 0.1
"""Beyond this cosine a second direction is replaced by its part orthogonal to the first: the plane stays the same, and
the map of it is not sheared. Random directions of a few hundred entries stay below."""


def spanning(
    axes: Sequence[Axis], first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"], p: float
) -> tuple[Float[Tensor, "2 *shape"], float]:
    """Return two directions, and the cosine of the angle between those given.

    Args:
        axes: that they come from. first, second: directions. p: of the norm whose length a part of the second keeps.

    Raises:
        UserError: they are one, up to sign, and span no plane.
    """
    a, b = first.flatten().double(), second.flatten().double()
    cosine = float(a @ b / (torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)))
    if abs(cosine) >= PARALLEL:
        names = " and ".join(axis.name for axis in axes)
        raise UserError(f"`axes`: {names} point the same way here. Give two different axes.")
    if abs(cosine) > OBLIQUE:
        part = (b - (a @ b) / (a @ a) * a).to(second.dtype).view_as(second)
        second = part * (norm(second[None], p) / norm(part[None], p))
    return torch.stack([first, second]), cosine


def once(axis: Axis, occurrence: int) -> None:
    """Raise where an axis that has one direction is asked for a second."""
    if occurrence:
        raise UserError(f"`axes`: {axis!r} twice is one direction, and no plane. Give two different axes.")


def uphill(field: ScalarField) -> float:
    """Return 1 where an attack raises the field, and -1 where it lowers it."""
    return 1.0 if field.rises_under_attack else -1.0
