"""The direction of another example."""

from dataclasses import dataclass

from torch import Tensor

from meseta.checks import whole
from meseta.errors import UserError
from meseta.surfaces.base import Axis, InputOrigin, once


@dataclass(frozen=True, kw_only=True)
class Towards(Axis):
    """The direction from the input to another example, which lies at its distance on the axis.

    Args:
        index: of the other example, in the same split.
    """

    index: int = 1

    def __post_init__(self) -> None:
        whole("index", self.index, 0)

    @property
    def name(self) -> str:
        """The axis and the example."""
        return f"Towards(example {self.index})"

    def of_input(self, origin: InputOrigin, occurrence: int) -> Tensor:
        """Return the direction."""
        once(self, occurrence)
        count = 0 if origin.others is None else len(origin.others)
        if origin.others is None or self.index >= count:
            raise UserError(f"`index` of Towards must be below the {count} examples there are, got {self.index}.")
        return origin.unit(origin.others[self.index : self.index + 1].to(origin.x) - origin.x, self.name)
