"""Judge robustness: clean and worst-case accuracy, measures over whole data sets, and the record of both.

`meseta.evaluation.record` needs no torch, so the names that do are imported on first use.
"""

from typing import TYPE_CHECKING

from meseta.lazy import lazy

if TYPE_CHECKING:
    from meseta.evaluation.judge import Judgement, judge_attack
    from meseta.evaluation.nearest import distances
    from meseta.evaluation.pictures import pictured
    from meseta.evaluation.robustness import evaluate
    from meseta.evaluation.statistics import certify, measure
    from meseta.evaluation.surfaces import parameter_surface, surface

__all__ = [
    "Judgement",
    "certify",
    "distances",
    "evaluate",
    "judge_attack",
    "measure",
    "parameter_surface",
    "pictured",
    "surface",
]

__getattr__ = lazy(
    __name__,
    {
        "certify": "meseta.evaluation.statistics",
        "distances": "meseta.evaluation.nearest",
        "Judgement": "meseta.evaluation.judge",
        "evaluate": "meseta.evaluation.robustness",
        "judge_attack": "meseta.evaluation.judge",
        "measure": "meseta.evaluation.statistics",
        "parameter_surface": "meseta.evaluation.surfaces",
        "surface": "meseta.evaluation.surfaces",
        "pictured": "meseta.evaluation.pictures",
    },
)
