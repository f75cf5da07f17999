"""Checks for gradient masking: whether gradient attacks see what a model does. One check a file."""

from meseta.evaluation.masking.base import Case, MaskingCheck, Observation

__all__ = ["Case", "MaskingCheck", "Observation"]
