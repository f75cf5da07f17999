"""The direction in which an attack ends."""

from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.attacks import PGD, Attack
from meseta.checks import instance_of
from meseta.errors import UserError
from meseta.surfaces.base import Axis, InputOrigin
from meseta.surfaces.paths import attack_path


@dataclass(frozen=True, kw_only=True)
class Trajectory(Axis):
    """The direction from the input to where an attack ends; a second axis is where its path leaves that line most.

    Args:
        attack: under the plane's threat, in place of its own.

    The second direction is the first principal direction of the path's points, off the first axis.
    """

    attack: Attack = PGD(steps=20, random_start=False, drop_broken=False)

    def __post_init__(self) -> None:
        instance_of("attack", self.attack, Attack)

    @property
    def name(self) -> str:
        """The axis and its attack."""
        return f"Trajectory({self.attack.name})"

    def of_input(self, origin: InputOrigin, occurrence: int) -> Tensor:
        """Return the direction."""
        path = attack_path(self.attack.against(origin.threat), origin.model, origin.x, origin.y)
        moves = (path - origin.x).flatten(1)
        end = moves[-1]
        if occurrence == 0:
            return origin.unit(end.view_as(origin.x), self.name)
        if occurrence > 1:
            raise UserError(f"`axes`: {self.name} has two directions. Give another axis.")
        off = moves - torch.outer(moves @ end / end.dot(end), end)
        if off.norm() <= 1e-4 * moves.norm():
            raise UserError(f"`axes`: the path of {self.attack.name} is straight. Give another second axis.")
        direction = torch.linalg.svd(off, full_matrices=False).Vh[0]
        return origin.unit(direction.view_as(origin.x), self.name)
