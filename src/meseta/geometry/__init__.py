"""Measures of the input space's geometry, one value per example. One measure a file."""

from meseta.geometry.base import FieldMeasure, Measure, Measurement
from meseta.geometry.gradient_norm import GradientNorm
from meseta.geometry.spectral_curvature import SpectralCurvature

__all__ = ["FieldMeasure", "GradientNorm", "Measure", "Measurement", "SpectralCurvature"]
