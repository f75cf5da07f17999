"""Hyper-parameter search: cells of settings, each trained and attacked once, by several processes and machines."""

from meseta.sweeping.config import Range, SweepConfig
from meseta.sweeping.run import sweep

__all__ = ["Range", "SweepConfig", "sweep"]
