"""Each check on a model that passes and on one that is built to fail it."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from trials import BOUNDS, MASKED, Before, Distances, Hidden, SometimesFlat, Waves, blobs, case, quick, rounded

from meseta import Threat
from meseta.attacks import PGD, Attack
from meseta.errors import UserError
from meseta.evaluation.masking import (
    BlackBox,
    Case,
    Confidence,
    FiniteDifferences,
    GradientHealth,
    GradientReach,
    LargeEps,
    LogitScale,
    MarginLoss,
    MoreEffort,
    OneStep,
    RandomPoints,
    StochasticForward,
    TextbookLoss,
    Transferred,
)
from meseta.evaluation.masking.base import graded_gain


def test_every_check_is_fine_on_a_model_whose_gradients_are_exact():
    trial = case()
    for check in quick():
        finding = check(trial)
        assert finding.level == ("untested" if check == Transferred() else "fine"), finding.evidence


def reversed_gradient():
    model = Distances()
    return Hidden(model, lambda x: -model(x))


@pytest.mark.parametrize("check", [BlackBox(queries=100), RandomPoints(draws=60), FiniteDifferences()])
def test_gradients_that_point_the_wrong_way(check):
    finding = check(case(reversed_gradient(), threat=Threat("Linf", 0.25, BOUNDS)))
    assert finding.level == "broken", finding.evidence


def test_logits_far_too_large():
    trial = case(MASKED["scaled"](Distances()), threat=Threat("Linf", 0.15, BOUNDS))
    findings = [check(trial) for check in (MarginLoss(), LogitScale(), GradientHealth(), LargeEps())]
    assert [finding.level for finding in findings[2:]] == ["broken"] * 2, findings
    assert all(finding.level != "fine" for finding in findings), findings
    assert Confidence()(trial).level == "suspicious"
    assert GradientHealth()(trial).figures["useless_on_margin"] == 0


def one_sided(x: Tensor) -> Tensor:
    """Logits (relu(h), relu(-h)) with margins |h| up to 50: the label's logit alone has a gradient."""
    h = 200 * (x[:, 0] - x[:, 1])
    return torch.stack([h.relu(), (-h).relu()], 1)


def test_saturation_that_only_the_textbook_loss_suffers():
    """From a margin of 17 on p_y = 1 in float32, and with it goes the only gradient that there is."""
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0)) * 0.25 + 0.3
    trial = case(one_sided, data=(x, one_sided(x).argmax(1)), threat=Threat("Linf", 0.08, BOUNDS))
    finding = TextbookLoss()(trial)
    assert finding.level == "broken", finding.evidence
    assert MarginLoss()(trial).level == GradientHealth()(trial).level == "fine"
    assert GradientHealth()(trial).figures["wrong_textbook"] > 0.3


def test_examples_of_a_model_with_right_gradients_transfer_to_one_with_wrong_ones():
    trial = case(reversed_gradient(), threat=Threat("Linf", 0.25, BOUNDS))
    finding = Transferred(attack=Elsewhere(source=Distances()))(trial)
    assert finding.level == "broken", finding.evidence
    assert Transferred(attack=Elsewhere(source=Distances()))(case()).level == "fine"
    assert Transferred()(trial).level == "untested"


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Attack):
    """PGD on another model."""

    source: nn.Module

    def perturb(self, model, x, y, generator):
        return PGD(threat=self.threat, steps=20)(self.source, x, y, generator=generator)


@pytest.mark.parametrize("threat", [Threat("Linf", 0.1, BOUNDS), Threat("L2", 0.3, BOUNDS), Threat("L1", 0.5, None)])
def test_gradients_that_hold_over_no_distance(threat):
    trial = case(Waves(Distances()), threat=threat)
    assert FiniteDifferences()(trial).level == GradientHealth()(trial).level == "fine"
    finding = GradientReach()(trial)
    assert finding.level == "broken", finding.evidence
    assert GradientReach()(case(threat=threat)).figures["cosine"] > 0.95


def test_within_their_reach_waves_are_a_slope():
    assert GradientReach()(case(Waves(Distances()), threat=Threat("Linf", 1e-4, BOUNDS))).level == "fine"


def test_what_breaks_under_another_threat_does_not_count():
    trial = case()
    assert trial.at(Threat("Linf", 0.5, BOUNDS)).by_loss.any()
    TextbookLoss(factor=5.0)(trial)
    LargeEps()(trial)
    assert not trial.broken.any()


def test_rounded_inputs_have_no_gradient():
    finding = GradientHealth()(case(Before(Distances(), rounded)))
    assert finding.level == "broken"
    assert finding.figures["useless"] == finding.figures["useless_in_double"] == 1


def test_straight_through_gradients_are_no_slopes():
    finding = FiniteDifferences()(case(MASKED["straight-through"](Distances())))
    assert finding.level == "broken"


@pytest.mark.parametrize("kind", ["noisy", "dropout"])
def test_noise_inside_the_model(kind):
    assert StochasticForward()(case(MASKED[kind](Distances()))).level == "broken"


def test_noise_too_small_for_a_prediction_is_suspicious():
    quiet = Before(Distances(), lambda x: x + 1e-3 * torch.randn_like(x))
    finding = StochasticForward()(case(quiet))
    assert finding.level == "suspicious"
    assert finding.figures["flips"] == 0


def test_effort_pays_where_only_some_starts_have_a_gradient():
    x, y = blobs()
    data = torch.cat([x, torch.full((len(x), 1), 0.5)], 1), y
    finding = MoreEffort(steps=20)(case(SometimesFlat(Distances()), data=data, threat=Threat("Linf", 0.3, BOUNDS)))
    assert finding.level == "broken", finding.evidence
    assert finding.figures["more_restarts"] > finding.figures["more_steps"]


def test_one_step_where_gradients_are_right_at_the_inputs_alone():
    data, model = blobs(), Distances()

    def lure(x: Tensor) -> Tensor:
        z = model(x)
        return torch.where(torch.cdist(x, data[0]).amin(1, keepdim=True) < 1e-4, z, -z)

    finding = OneStep()(case(Hidden(model, lure), data=data, threat=Threat("Linf", 0.3, BOUNDS)))
    assert finding.level == "broken", finding.evidence


def test_large_eps_needs_bounds_and_two_classes():
    assert LargeEps()(case(threat=Threat("Linf", 0.1, None))).level == "untested"
    x, y = blobs()
    assert LargeEps()(case(data=(x[y == 0], y[y == 0]))).level == "untested"


def standing_on_the_way(monkeypatch, counts, middle_is=1):
    """Let BIM-20 leave the first so many of 60 examples standing at the four eps, for a model of two classes."""
    y = torch.arange(60) % 2
    left = {eps: torch.arange(60) < count for eps, count in zip((0.125, 0.25, 0.5, 1.0), counts, strict=True)}
    monkeypatch.setattr(Case, "broken_by", lambda self, attack: ~left[self.threat.eps])
    logits = torch.eye(2)[middle_is]
    return LargeEps()(Case(lambda x: logits.expand(len(x), 2), torch.rand(60, 4), y, Threat()))


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ((60, 30, 0, 0), "fine"),
        ((60, 30, 10, 3), "suspicious"),  # half of the ten are of the class that the middle is not
        ((60, 60, 60, 0), "broken"),
        ((60, 60, 60, 60), "broken"),
        ((10, 13, 0, 0), "fine"),
        ((10, 14, 0, 0), "suspicious"),
    ],
)
def test_robustness_falls_to_zero_and_never_rises(monkeypatch, counts, level):
    finding = standing_on_the_way(monkeypatch, counts)
    assert finding.level == level, finding.evidence


def test_half_the_range_proves_nothing_for_the_class_of_the_middle(monkeypatch):
    y = torch.arange(60) % 2
    finding = standing_on_the_way(monkeypatch, (60, 60, 2, 0))
    assert finding.figures["standing_halfway"] == pytest.approx(float((y[:2] != 1).float().sum()) / 60)


def test_few_examples_are_chance():
    found = torch.zeros(10, dtype=torch.bool)
    found[:2] = True
    assert graded_gain(found, 0.05, 0.1) == "fine"
    found[2] = True
    assert graded_gain(found, 0.05, 0.1) == "broken"


@pytest.mark.parametrize(
    "check",
    [BlackBox(), LogitScale(), MarginLoss(), MoreEffort(), OneStep(), RandomPoints(), TextbookLoss(), Transferred()],
)
def test_rules_of_gains_say_what_is_chance(check):
    assert check.rule.endswith("2 examples or fewer are chance.")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MoreEffort(steps=0), "steps"),
        (lambda: MoreEffort(restarts=0), "restarts"),
        (lambda: OneStep(strides=()), "strides"),
        (lambda: OneStep(strides=(0.0,)), "strides"),
        (lambda: BlackBox(queries=0), "queries"),
        (lambda: RandomPoints(draws=0), "draws"),
        (lambda: StochasticForward(forwards=1), "forwards"),
        (lambda: StochasticForward(rounding=0.0), "rounding"),
        (lambda: FiniteDifferences(directions=0), "directions"),
        (lambda: FiniteDifferences(tolerance=0.0), "tolerance"),
        (lambda: GradientReach(reach=0.0), "reach"),
        (lambda: GradientReach(reach=1.5), "reach"),
        (lambda: GradientReach(draws=0), "draws"),
        (lambda: GradientReach(suspicious=0.1, broken=0.2), "broken"),
        (lambda: Confidence(doubt=0.0), "doubt"),
        (lambda: TextbookLoss(factor=0.0), "factor"),
        (lambda: Transferred(attack=1), "attack"),
        (lambda: MarginLoss(suspicious=0.3, broken=0.2), "broken"),
        (lambda: LogitScale(suspicious=-0.1), "suspicious"),
        (lambda: LargeEps(suspicious=-0.1), "suspicious"),
    ],
)
def test_bad_settings_are_named(make, named):
    with pytest.raises(UserError, match=f"`{named}`"):
        make()
