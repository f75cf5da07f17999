"""Checks for gradient masking: whether gradient attacks see what a model does. One check a file."""

from meseta.evaluation.masking.base import Case, MaskingCheck, Observation
from meseta.evaluation.masking.black_box import BlackBox
from meseta.evaluation.masking.confidence import Confidence
from meseta.evaluation.masking.examination import Examination, all_checks, called_for, examine
from meseta.evaluation.masking.finite_differences import FiniteDifferences
from meseta.evaluation.masking.gradient_health import GradientHealth
from meseta.evaluation.masking.gradient_reach import GradientReach
from meseta.evaluation.masking.large_eps import LargeEps
from meseta.evaluation.masking.logit_scale import LogitScale
from meseta.evaluation.masking.margin_loss import MarginLoss
from meseta.evaluation.masking.more_effort import MoreEffort
from meseta.evaluation.masking.one_step import OneStep
from meseta.evaluation.masking.random_points import RandomPoints
from meseta.evaluation.masking.stochastic_forward import StochasticForward
from meseta.evaluation.masking.textbook_loss import TextbookLoss
from meseta.evaluation.masking.transferred import Transferred

__all__ = [
    "BlackBox",
    "Case",
    "Confidence",
    "Examination",
    "FiniteDifferences",
    "GradientHealth",
    "GradientReach",
    "LargeEps",
    "LogitScale",
    "MarginLoss",
    "MaskingCheck",
    "MoreEffort",
    "Observation",
    "OneStep",
    "RandomPoints",
    "StochasticForward",
    "TextbookLoss",
    "Transferred",
    "all_checks",
    "called_for",
    "examine",
]
