"""The way that an attack takes."""

import torch
from torch import Tensor

from meseta.attacks import Attack
from meseta.autodiff.scalar_fields import Model
from meseta.checks import eval_mode
from meseta.shapes import Float, Int

LONGEST = 100
"""Points kept of a path."""


def attack_path(
    attack: Attack, model: Model, x: Float[Tensor, "1 *input"], y: Int[Tensor, "1"], *, seed: int = 0
) -> Float[Tensor, "m *input"]:
    """Return the points that an attack asks the model for, in order, from the input itself to what it returns.

    Any attack, since all it learns is what the model answers. Of a call with several points the first is kept, of a
    long path 100 points evenly, and points that do not differ from the one before are left out.

    Args:
        attack: what searches. model: runs in eval mode, and gets its mode back.
        x: one example (1, *input). y: its label, (1,).
        seed: of all randomness.
    """
    asked = [x]

    def watched(points: Tensor) -> Tensor:  # a function, whose mode the attack cannot know
        asked.append(points.detach()[:1].clone())
        return model(points)

    with eval_mode(model):
        found = attack(watched, x, y, generator=torch.Generator().manual_seed(seed))
    path = torch.cat([*(points for points in asked if len(points)), found])
    moved = (path[1:] != path[:-1]).flatten(1).any(1)
    path = torch.cat([path[:1], path[1:][moved]])
    if len(path) <= LONGEST:
        return path
    return path[torch.linspace(0, len(path) - 1, LONGEST).round().long()]
