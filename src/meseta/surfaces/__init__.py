"""Planes through an input, or through a model's parameters, and scalar fields over them: what a model looks like there.

    V(i, j) = F(o + i alpha + j beta)

with F the loss, the decision function or a margin, o an input or the parameters, and alpha, beta two axes (Yu 2018,
equation 1). One axis a file.
"""

from meseta.surfaces.adversarial import Adversarial
from meseta.surfaces.base import Axis, InputOrigin, ParameterOrigin, two
from meseta.surfaces.eigenvector import Eigenvector
from meseta.surfaces.gradient import Gradient
from meseta.surfaces.parameters import ParameterPlane, over_parameters, parameter_plane
from meseta.surfaces.paths import attack_path
from meseta.surfaces.plane import InputPlane, ball_outline, crossings, input_plane, over_plane
from meseta.surfaces.random import Random
from meseta.surfaces.towards import Towards
from meseta.surfaces.trajectory import Trajectory

__all__ = [
    "Adversarial",
    "Axis",
    "Eigenvector",
    "Gradient",
    "InputOrigin",
    "InputPlane",
    "ParameterOrigin",
    "ParameterPlane",
    "Random",
    "Towards",
    "Trajectory",
    "attack_path",
    "ball_outline",
    "crossings",
    "input_plane",
    "over_parameters",
    "over_plane",
    "parameter_plane",
    "two",
]
