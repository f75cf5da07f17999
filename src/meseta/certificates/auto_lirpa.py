"""Certified radii by linear relaxation, through auto_LiRPA where that is installed."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from meseta.autodiff.scalar_fields import Model
from meseta.certificates.ball_search import largest_ball
from meseta.certificates.base import Certificate
from meseta.certificates.rival_margins import RivalMargins
from meseta.checks import whole
from meseta.errors import UserError, unknown_name
from meseta.shapes import Float, Int
from meseta.threat import Norm, Threat

Method = Literal["IBP", "CROWN-IBP", "CROWN"]
SLACK = 1e-4
"""The share of a margin that rounding may take."""


@dataclass(frozen=True, kw_only=True)
class AutoLirpa(Certificate):
    """The largest R at which a linear relaxation of the network keeps every margin positive in the ball of radius R.

    An adapter: auto_LiRPA bounds z_y - z_j from below in the ball, for every rival j, and R is bisected. It takes what
    auto_LiRPA takes, ReLU, max pooling and residual networks among it, and needs that package from its repository.

    Args:
        norm: of the perturbation.
        method: auto_LiRPA's: interval propagation, linear bounds backwards, or intervals first and linear bounds last.
        steps: radii that are tried for each example, between 0 and twice the linear piece's distance.

    Cost: `steps` propagations for every example, one example at a time.
    Raises:
        UserError: the package cannot be imported, or cannot bound the network.

    Sound as auto_LiRPA is, whose arithmetic is float32 without directed rounding: a margin counts as positive above
    1e-4 of its value at x. Bounds of valid inputs are not used.
    Source: Xu et al. 2020; Zhang et al. 2018 (CROWN).
    """

    requires: ClassVar[str | None] = "auto_LiRPA"

    norm: Norm = "L2"
    method: Method = "CROWN"
    steps: int = 8

    def __post_init__(self) -> None:
        Threat(self.norm)
        if self.method not in get_args(Method):
            raise unknown_name("method", str(self.method), get_args(Method))
        whole("steps", self.steps, 1)

    def check_model(self, model: Model, x: Float[Tensor, "b *input"]) -> None:
        """Raise where auto_LiRPA is missing or cannot follow the network."""
        self._bounded(model, x)

    def at(
        self, model: Model, x: Float[Tensor, "b *input"], y: Int[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b"], dict[str, Float[Tensor, "b"]]]:
        """Return the radius; there are no parts."""
        lirpa, bounded = self._bounded(model, x)
        single = copy.deepcopy(model).float()  # type: ignore[attr-defined]
        radii = [
            self._radius(lirpa, bounded, RivalMargins(single, point, label))
            for point, label in zip(torch.split(x.float(), 1), torch.split(y, 1), strict=True)
        ]
        return torch.cat(radii), {}

    def _bounded(self, model: Model, x: Tensor) -> tuple[Any, Any]:
        """Return auto_LiRPA and its own version of the network, in float32."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                lirpa = import_module("auto_LiRPA")
        except ImportError as error:
            raise UserError(
                f"AutoLirpa needs the package auto_LiRPA, which cannot be imported: {error}. Install it from "
                "https://github.com/Verified-Intelligence/auto_LiRPA, or use one of the other certificates."
            ) from None
        if not isinstance(model, nn.Module):
            raise UserError(f"`model`: AutoLirpa needs an nn.Module, got {type(model).__name__}.")
        with _its_errors():
            single = copy.deepcopy(model).float()
            return lirpa, lirpa.BoundedModule(single, x[:1].float(), bound_opts={"conv_mode": "matrix"})

    def _radius(self, lirpa: Any, bounded: Any, margins: RivalMargins) -> Tensor:
        """Return the radius of one example."""

        def reach(radius: Tensor) -> Tensor:
            with _its_errors():
                point = lirpa.BoundedTensor(
                    margins.x, lirpa.PerturbationLpNorm(eps=float(radius), norm=Threat(self.norm).p)
                )
                lower, _ = bounded.compute_bounds(x=(point,), C=margins.rows, method=self.method, bound_upper=False)
            return torch.where((lower > SLACK * margins.value).all(1), inf, 0.0).to(radius)

        nothing = margins.value.new_zeros(1)
        return largest_ball(reach, nothing, 2 * margins.linear_distance.amin(1), self.steps)


@contextmanager
def _its_errors() -> Iterator[None]:
    """Turn what auto_LiRPA raises, of many kinds and from deep within a tracer, into an error that says so."""
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise UserError(f"`model`: auto_LiRPA cannot bound this network: {type(error).__name__}: {error}") from error
