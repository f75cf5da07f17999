"""The papers reproduced, one class each: `meseta reproduce PAPER` carries one out."""

from meseta.reproductions.base import SCALES, Reproduction, Scale, reproduce
from meseta.reproductions.equal_cost import EqualCost
from meseta.reproductions.guo2020 import Guo2020
from meseta.reproductions.lab import Lab
from meseta.reproductions.ma2020 import Ma2020
from meseta.reproductions.mei2022 import Mei2022
from meseta.reproductions.mustafa2020 import Mustafa2020
from meseta.reproductions.yu2018 import Yu2018

__all__ = ["SCALES", "Lab", "Reproduction", "Scale", "reproduce"]
__all__ += ["EqualCost", "Guo2020", "Ma2020", "Mei2022", "Mustafa2020", "Yu2018"]
