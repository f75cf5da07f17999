"""The figures of the papers, one class each: `meseta figure Yu4 RUN...` draws one.

Named after the first author, and SOAR and HAAT after the method: Yu 2018, Mustafa 2020, Ma 2020 (SOAR), Guo 2020,
Mei 2022 (HAAT).
"""

from meseta.papers.base import PaperFigure
from meseta.papers.confidence import Guo1, Guo3
from meseta.papers.estimates import Haat5, Mustafa3
from meseta.papers.expansions import Soar1, Soar4
from meseta.papers.guo2020 import Guo2, Guo4, Guo5, Guo6, Guo7
from meseta.papers.jacobians import Yu8, Yu10, Yu15
from meseta.papers.ma2020 import Soar2, Soar3
from meseta.papers.mei2022 import Haat1, Haat2, Haat3, Haat4
from meseta.papers.mustafa2020 import Mustafa1, Mustafa2, Mustafa4, Mustafa5
from meseta.papers.yu_surfaces import Yu1, Yu2, Yu3, Yu4, Yu6, Yu7, Yu9, Yu11, Yu12, Yu13, Yu14

__all__ = ["PaperFigure"]
__all__ += ["Guo1", "Guo2", "Guo3", "Guo4", "Guo5", "Guo6", "Guo7"]
__all__ += ["Haat1", "Haat2", "Haat3", "Haat4", "Haat5"]
__all__ += ["Mustafa1", "Mustafa2", "Mustafa3", "Mustafa4", "Mustafa5"]
__all__ += ["Soar1", "Soar2", "Soar3", "Soar4"]
__all__ += ["Yu1", "Yu2", "Yu3", "Yu4", "Yu6", "Yu7", "Yu8", "Yu9", "Yu10", "Yu11", "Yu12", "Yu13", "Yu14", "Yu15"]
