from dataclasses import dataclass

import pytest
import torch
from test_objectives import adversarial_loss, compare, trained

from meseta import Threat, attacks
from meseta.configuration import dump, parse, parser
from meseta.objectives import AdversarialTraining, Erm, Haat, Objective


@dataclass
class Config:
    objective: Objective


@pytest.mark.parametrize("clean", [0.0, 0.4])
def test_it_is_adversarial_training_with_its_attack(batch, clean):
    attack = attacks.Haat(steps=2)
    ours, twin = (
        make(attack=attack, clean=clean)(batch.model, batch.x, batch.y, generator=torch.Generator().manual_seed(0))
        for make in (Haat, AdversarialTraining)
    )
    compare(ours, twin.total, batch.model)


def test_training_lowers_the_adversarial_loss_on_held_out_data():
    objective = Haat(attack=attacks.Haat(threat=Threat(eps=0.1), steps=3))
    assert adversarial_loss(*trained(objective)) < 0.7 * adversarial_loss(*trained(Erm()))


def test_objective_and_attack_of_one_name_are_told_apart_in_configurations():
    named, _ = parse(parser(Config), Config, ["--objective", "Haat"])
    assert named.objective == Haat()
    other, _ = parse(parser(Config), Config, ["--objective", "AdversarialTraining", "--objective.attack", "Haat"])
    assert other.objective == AdversarialTraining(attack=attacks.Haat())
    assert dump(other) == dump(named).replace("Haat", "AdversarialTraining", 1)
