"""The papers reproduced, one class each: `meseta reproduce PAPER` carries one out."""

from meseta.reproductions.base import SCALES, Reproduction, Scale, reproduce
from meseta.reproductions.guo2020 import Guo2020
from meseta.reproductions.lab import Lab
from meseta.reproductions.mustafa2020 import Mustafa2020

__all__ = ["SCALES", "Lab", "Reproduction", "Scale", "reproduce"]
__all__ += ["Guo2020", "Mustafa2020"]
