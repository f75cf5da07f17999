"""Judge robustness: clean and worst-case accuracy, measures over whole data sets, and the record of both.

`meseta.evaluation.record` needs no torch, so the names that do are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meseta.evaluation.judge import Judgement, judge_attack
    from meseta.evaluation.robustness import evaluate
    from meseta.evaluation.statistics import measure

__all__ = ["Judgement", "evaluate", "judge_attack", "measure"]

_HOME = {
    "Judgement": "meseta.evaluation.judge",
    "evaluate": "meseta.evaluation.robustness",
    "judge_attack": "meseta.evaluation.judge",
    "measure": "meseta.evaluation.statistics",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'meseta.evaluation' has no attribute {name!r}")
