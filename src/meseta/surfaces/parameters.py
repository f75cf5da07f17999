"""A plane through a model's parameters, and means of fields over it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from meseta.autodiff.scalar_fields import ScalarField
from meseta.checks import derivatives_in_eval_mode, eval_mode
from meseta.shapes import Float
from meseta.surfaces.base import Axis, ParameterOrigin, spanning, two

Progress = Callable[[int], object]


@dataclass(frozen=True)
class ParameterPlane:
    """The parameters theta + i alpha + j beta.

    Args:
        vector: theta, (P,). axes: alpha and beta, (2, P), about as long as theta.
        cosine: as of `InputPlane`.
    """

    vector: Float[Tensor, "p"]
    axes: Float[Tensor, "2 p"]
    cosine: float = 0.0

    def at(self, i: float, j: float) -> Float[Tensor, "p"]:
        """Return the parameters with these coordinates."""
        return self.vector + i * self.axes[0] + j * self.axes[1]


def parameter_plane(origin: ParameterOrigin, axes: Sequence[Axis]) -> ParameterPlane:
    """Return the plane through a model's parameters along two axes.

    Raises:
        UserError: not two axes, two that span no plane, or one that has no meaning there.
    """
    first, second = two(axes)
    with derivatives_in_eval_mode(origin.model):
        alpha = first.of_parameters(origin, 0)
        beta = second.of_parameters(origin, int(first == second))
    return ParameterPlane(origin.vector, *spanning(axes, alpha, beta, 2))


@torch.no_grad()
def over_parameters(
    plane: ParameterPlane,
    origin: ParameterOrigin,
    fields: Mapping[str, ScalarField],
    i: Float[Tensor, "w"],
    j: Float[Tensor, "h"],
    *,
    progress: Progress | None = None,
) -> dict[str, Float[Tensor, "h w"]]:
    """Return the mean of each field over the examples at the parameters theta + i alpha + j beta, a row for each j.

    The model's own parameters and buffers are never changed; running statistics of normalisations stay those of theta.

    Args:
        plane: of any model of the same architecture. origin: the model that is shown, with the examples.
        fields: by name. i, j: coordinates. progress: called with the number of points.

    Cost: one forward of all the examples for each point.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in fields}
    with eval_mode(origin.model):
        for b in j.tolist():
            for a in i.tolist():
                logits = origin.logits(origin.split(plane.at(a, b)))
                for name, field in fields.items():
                    found[name].append(field.of_logits(logits, origin.y).mean())
                if progress:
                    progress(1)
    return {name: torch.stack(values).view(len(j), len(i)) for name, values in found.items()}
