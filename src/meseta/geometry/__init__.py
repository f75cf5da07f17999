"""Measures of the input space's geometry, one value per example. One measure a file."""

from meseta.geometry.base import FieldMeasure, Measure, Measurement
from meseta.geometry.confidence import Confidence
from meseta.geometry.cross_lipschitz import CrossLipschitz
from meseta.geometry.curvature_estimates import CurvatureEstimates
from meseta.geometry.eigenvalues import Eigenvalues
from meseta.geometry.expansion import Expanded, Expansion
from meseta.geometry.gauss_newton_spectrum import GaussNewtonSpectrum
from meseta.geometry.gradient_norm import GradientNorm
from meseta.geometry.gradient_sparsity import GradientSparsity
from meseta.geometry.hessian_frobenius import HessianFrobenius
from meseta.geometry.hessian_norm import HessianNorm
from meseta.geometry.hessian_spectrum import HessianSpectrum
from meseta.geometry.hessian_trace import HessianTrace
from meseta.geometry.jacobian_frobenius import JacobianFrobenius
from meseta.geometry.jacobian_spectral import JacobianSpectral
from meseta.geometry.level_set_curvature import LevelSetCurvature
from meseta.geometry.local_linearity import LocalLinearity
from meseta.geometry.normalized_curvature import NormalizedCurvature
from meseta.geometry.power_convergence import PowerConvergence
from meseta.geometry.robustness_indicator import RobustnessIndicator
from meseta.geometry.spectral_curvature import SpectralCurvature

__all__ = [
    "Confidence",
    "CrossLipschitz",
    "CurvatureEstimates",
    "Eigenvalues",
    "Expanded",
    "Expansion",
    "FieldMeasure",
    "GaussNewtonSpectrum",
    "GradientNorm",
    "GradientSparsity",
    "HessianFrobenius",
    "HessianNorm",
    "HessianSpectrum",
    "HessianTrace",
    "JacobianFrobenius",
    "JacobianSpectral",
    "LevelSetCurvature",
    "LocalLinearity",
    "Measure",
    "Measurement",
    "NormalizedCurvature",
    "PowerConvergence",
    "RobustnessIndicator",
    "SpectralCurvature",
]
