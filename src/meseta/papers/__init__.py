"""The figures of the papers, one class each: `meseta figure Yu4 RUN...` draws one.

Named after the first author, and SOAR and HAAT after the method: Yu 2018, Mustafa 2020, Ma 2020 (SOAR), Guo 2020,
Mei 2022 (HAAT).
"""

from meseta.papers.base import PaperFigure
from meseta.papers.guo2020 import Guo2, Guo4, Guo5, Guo6, Guo7
from meseta.papers.ma2020 import Soar2, Soar3
from meseta.papers.mei2022 import Haat1, Haat2, Haat3
from meseta.papers.mustafa2020 import Mustafa1, Mustafa2, Mustafa4, Mustafa5

__all__ = [
    "Guo2",
    "Guo4",
    "Guo5",
    "Guo6",
    "Guo7",
    "Haat1",
    "Haat2",
    "Haat3",
    "Mustafa1",
    "Mustafa2",
    "Mustafa4",
    "Mustafa5",
    "PaperFigure",
    "Soar2",
    "Soar3",
]
