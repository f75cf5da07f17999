"""Measures of the input space's geometry, one value per example. One measure a file."""

from meseta.geometry.base import FieldMeasure, Measure, Measurement
from meseta.geometry.confidence import Confidence
from meseta.geometry.cross_lipschitz import CrossLipschitz
from meseta.geometry.gradient_norm import GradientNorm
from meseta.geometry.jacobian_frobenius import JacobianFrobenius
from meseta.geometry.jacobian_spectral import JacobianSpectral
from meseta.geometry.local_linearity import LocalLinearity
from meseta.geometry.power_convergence import PowerConvergence
from meseta.geometry.spectral_curvature import SpectralCurvature

__all__ = [
    "Confidence",
    "CrossLipschitz",
    "FieldMeasure",
    "GradientNorm",
    "JacobianFrobenius",
    "JacobianSpectral",
    "LocalLinearity",
    "Measure",
    "Measurement",
    "PowerConvergence",
    "SpectralCurvature",
]
