"""Training objectives: loss plus regulariser, averaged over the batch. One objective a file."""

from meseta.objectives.adversarial_training import AdversarialTraining
from meseta.objectives.base import Objective, ObjectiveValue, Penalty, Regularizer
from meseta.objectives.cross_holder import CrossHolder
from meseta.objectives.cross_lipschitz import CrossLipschitz
from meseta.objectives.cure import Cure
from meseta.objectives.curvature import Curvature
from meseta.objectives.curvature_bound import CurvatureBound
from meseta.objectives.decision_gradient import DecisionGradient
from meseta.objectives.erm import Erm
from meseta.objectives.grad_align import GradAlign
from meseta.objectives.haat import Haat
from meseta.objectives.input_gradient import InputGradient
from meseta.objectives.jacobian import Jacobian
from meseta.objectives.llr import Llr
from meseta.objectives.scheduled import Scheduled
from meseta.objectives.scorpio import Scorpio
from meseta.objectives.soar import Soar
from meseta.objectives.sum import Sum
from meseta.objectives.trades import Trades

__all__ = [
    "AdversarialTraining",
    "CrossHolder",
    "CrossLipschitz",
    "Cure",
    "Curvature",
    "CurvatureBound",
    "DecisionGradient",
    "Erm",
    "GradAlign",
    "Haat",
    "InputGradient",
    "Jacobian",
    "Llr",
    "Objective",
    "ObjectiveValue",
    "Penalty",
    "Regularizer",
    "Scheduled",
    "Scorpio",
    "Soar",
    "Sum",
    "Trades",
]
