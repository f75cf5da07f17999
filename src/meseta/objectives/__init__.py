"""Training objectives: loss plus regulariser, averaged over the batch. One objective a file."""

from meseta.objectives.adversarial_training import AdversarialTraining
from meseta.objectives.base import Objective, ObjectiveValue, Penalty, Regularizer
from meseta.objectives.cross_lipschitz import CrossLipschitz
from meseta.objectives.cure import Cure
from meseta.objectives.decision_gradient import DecisionGradient
from meseta.objectives.erm import Erm
from meseta.objectives.input_gradient import InputGradient
from meseta.objectives.jacobian import Jacobian
from meseta.objectives.scheduled import Scheduled
from meseta.objectives.soar import Soar
from meseta.objectives.sum import Sum

__all__ = [
    "AdversarialTraining",
    "CrossLipschitz",
    "Cure",
    "DecisionGradient",
    "Erm",
    "InputGradient",
    "Jacobian",
    "Objective",
    "ObjectiveValue",
    "Penalty",
    "Regularizer",
    "Scheduled",
    "Soar",
    "Sum",
]
