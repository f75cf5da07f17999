"""The smallest distance over attacks, and the judge that believes none of them."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import FMN, DeepFool, MinimumNormAttack
from meseta.errors import UserError
from meseta.evaluation import distances


def threshold(x):
    """Class 1 where the first entry exceeds 0.5; margin 20 (x_0 - 0.5)."""
    s = 10 * (x.flatten(1)[:, 0] - 0.5)
    return torch.stack([-s, s], 1)


X = torch.tensor([[0.1, 0.5], [0.4, 0.5], [0.9, 0.5], [0.2, 0.5]])
Y = torch.tensor([0, 0, 1, 1])  # the last one is misclassified


@dataclass(frozen=True, kw_only=True)
class Moves(MinimumNormAttack):
    """Claims the input moved by so much, whatever the model says to it."""

    move: tuple[float, float] = (0.0, 0.0)

    def closest(self, model, x, y, *, generator=None):
        return x + torch.tensor(self.move)

    def search(self, model, x, y, generator):
        raise NotImplementedError


def test_the_smallest_of_all_attacks_by_hand():
    """To the right by 0.3 breaks the second example, by DeepFool's way every one at its distance."""
    right = Moves(threat=Threat("L2"), move=(0.3, 0.0))
    alone = distances(threshold, X, Y, attacks=right)
    assert alone.values == pytest.approx([None, 0.3, None, 0])
    both = distances(threshold, X, Y, attacks=[right, DeepFool(threat=Threat("L2"))])
    assert both.values == pytest.approx([0.4, 0.1, 0.4, 0], rel=1e-3)
    assert (both.kind, both.norm, both.n, both.correct) == ("attack", "L2", 4, 3)
    assert both.name == "Moves, DeepFool"
    assert set(both.parts) == {"Moves", "DeepFool"}
    assert both.parts["Moves"].values == alone.values
    assert "move=(0.3, 0.0)" in both.bound
    assert both.accuracy(0.2) == 2 / 4


@pytest.mark.parametrize(
    ("move", "ignored"), [((0.0, 0.9), 3), ((0.95, 0.0), 3), ((0.001, 0.0), 3), ((float("inf"), 0.0), 3)]
)
def test_what_is_outside_or_not_adversarial_or_not_finite_is_ignored_and_counted(move, ignored):
    result = distances(threshold, X, Y, attacks=Moves(threat=Threat("L2"), move=move))
    assert result.values == [None, None, None, 0]
    assert result.ignored == ignored


def test_none_found_is_not_a_violation():
    result = distances(threshold, X, Y, attacks=Moves(threat=Threat("L2"), move=(float("nan"), 0.0)))
    assert result.values == [None, None, None, 0]
    assert result.ignored == 0
    assert result.accuracy(9.9) == 3 / 4  # infinite, not unknown: nothing was found


def test_two_attacks_of_one_name_are_told_apart():
    suite = [FMN(threat=Threat("L2"), gamma=g) for g in (0.05, 0.1)]
    assert list(distances(threshold, X, Y, attacks=suite).parts) == [suite[0].name, f"{suite[0].name} (2)"]


def test_it_judges_in_eval_mode_and_does_not_depend_on_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Dropout(0.9), nn.SiLU(), nn.Linear(16, 3)).train()
    x = torch.rand(20, 6)
    y = model.eval()(x).argmax(1)
    model.train()
    attack = DeepFool(threat=Threat("L2", 1.0, (-3, 3)))
    whole, parts = (distances(model, x, y, attacks=attack, batch_size=size) for size in (20, 3))
    assert model.training
    assert whole.values == pytest.approx(parts.values, rel=1e-4)
    assert whole.nonfinite == whole.ignored == 0
    assert distances(model, [(x[:12], y[:12]), (x[12:], y[12:])], attacks=attack).n == 20


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ([], "at least one"),
        ([FMN(threat=Threat("L2")), DeepFool(threat=Threat("Linf"))], "share their norm"),
        ([FMN(), DeepFool(threat=Threat("Linf", 1.0, None))], "share their norm and bounds"),
    ],
)
def test_attacks_that_do_not_fit_together_are_refused(attacks, message):
    with pytest.raises(UserError, match=message):
        distances(threshold, X, Y, attacks=attacks)
