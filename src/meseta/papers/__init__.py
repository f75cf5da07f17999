"""The figures of the papers, one class each: `meseta figure Yu4 RUN...` draws one.

Named after the first author, and SOAR and HAAT after the method: Yu 2018, Mustafa 2020, Ma 2020 (SOAR), Guo 2020,
Mei 2022 (HAAT).
"""

from meseta.papers.base import PaperFigure
from meseta.papers.confidence import Guo1, Guo3
from meseta.papers.estimates import Haat4, Mustafa3
from meseta.papers.expansions import Soar1, Soar4
from meseta.papers.jacobians import Yu8, Yu10, Yu15
from meseta.papers.yu_surfaces import Yu1, Yu2, Yu3, Yu4, Yu6, Yu7, Yu9, Yu11, Yu12, Yu13, Yu14

__all__ = ["Guo1", "Guo3", "Haat4", "Mustafa3", "PaperFigure", "Soar1", "Soar4"]
__all__ += ["Yu1", "Yu2", "Yu3", "Yu4", "Yu6", "Yu7", "Yu8", "Yu9", "Yu10", "Yu11", "Yu12", "Yu13", "Yu14", "Yu15"]
