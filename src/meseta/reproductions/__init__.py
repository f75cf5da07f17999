"""The papers reproduced, one class each: `meseta reproduce PAPER` carries one out."""

from meseta.reproductions.base import SCALES, Reproduction, Scale, reproduce
from meseta.reproductions.equal_cost import EqualCost
from meseta.reproductions.lab import Lab
__all__ += ["EqualCost", "Ma2020", "Mei2022", "Mustafa2020", "Yu2018"]
