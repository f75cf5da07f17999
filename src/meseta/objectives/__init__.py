"""Training objectives: loss plus regulariser, averaged over the batch. One objective a file."""

from meseta.objectives.adversarial_training import AdversarialTraining
from meseta.objectives.base import Objective, ObjectiveValue
from meseta.objectives.cross_lipschitz import CrossLipschitz
from meseta.objectives.erm import Erm
from meseta.objectives.input_gradient import InputGradient

__all__ = ["AdversarialTraining", "CrossLipschitz", "Erm", "InputGradient", "Objective", "ObjectiveValue"]
