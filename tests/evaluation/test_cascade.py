"""The steps that a batch goes through: who meets whom, what is added up, and that it goes on where it stopped."""

from dataclasses import dataclass

import pytest
import torch

from meseta import Threat
from meseta.attacks import FGSM, PGD, Attack, GaussianNoise
from meseta.evaluation.cascade import BatchResult, Plan, Tally, digits, mask, run_batch

X = torch.tensor([[0.1], [0.4], [0.45], [0.6], [0.9], [0.2]])
Y = torch.tensor([0, 0, 0, 1, 1, 1])  # the last one is misclassified


def threshold(x):
    """Class 1 where the first entry exceeds 0.5."""
    s = 10 * (x.flatten(1)[:, 0] - 0.5)
    return torch.stack([-s, s], 1)


@dataclass(frozen=True, kw_only=True)
class Shift(Attack):
    """Moves every input by a constant, as far as the ball allows, and notes how many it met."""

    by: float = 0.1
    met: tuple[list[int], ...] = ([],)

    def perturb(self, model, x, y, generator):
        self.met[0].append(len(x))
        return self.threat.project(x + self.by, x)


def nothing(threat):
    return torch.zeros(6, dtype=torch.bool)


def tallied(plan, known=nothing, **options):
    tally = Tally.of(plan)
    tally.add(plan, run_batch(threshold, X, Y, 0, plan, **options), known)
    return tally


def test_a_cascade_attacks_only_what_stands():
    up, down = Shift(by=0.15), Shift(by=-0.15, met=([],))
    plan = Plan(threats=(Threat(eps=0.07), Threat(eps=0.15)), attacks=(up, down), cascade=True)
    small, large = tallied(plan).robust(plan)
    # at 0.07 up breaks 0.45; at 0.15 up breaks 0.4 and down 0.6
    assert [a.attacked for a in small.attacks] == [5, 4]
    assert [a.attacked for a in large.attacks] == [4, 3]
    assert [a.accuracy for a in small.attacks] == [4 / 6, 4 / 6]
    assert [a.accuracy for a in large.attacks] == [3 / 6, 2 / 6]
    assert (small.worst_case, large.worst_case) == (4 / 6, 2 / 6)
    assert up.met[0] == [5, 4]
    assert down.met[0] == [4, 3]
    assert small.cascade


def test_elsewhere_each_attack_meets_all_that_it_did_not_break_itself():
    attacks = (Shift(by=0.15), Shift(by=-0.15, met=([],)))
    plan = Plan(threats=(Threat(eps=0.07), Threat(eps=0.15)), attacks=attacks, cascade=False)
    small, large = tallied(plan).robust(plan)
    assert [a.attacked for a in small.attacks] == [5, 5]
    assert [a.attacked for a in large.attacks] == [4, 5]
    assert [a.accuracy for a in large.attacks] == [3 / 6, 4 / 6]
    assert large.worst_case == 2 / 6


@pytest.mark.parametrize("cascade", [True, False])
def test_the_worst_case_is_the_same_either_way(cascade):
    threats = tuple(Threat(norm, eps) for norm in ("L2", "Linf") for eps in (0.06, 0.12, 0.3))
    plan = Plan(threats=threats, attacks=(FGSM(), PGD(steps=3)), cascade=cascade)
    # 0.4, 0.45 and 0.6 lie 0.1, 0.05 and 0.1 from the boundary, 0.1 and 0.9 lie 0.4
    assert [r.worst_case for r in tallied(plan).robust(plan)] == [4 / 6, 2 / 6, 2 / 6] * 2


def test_what_other_searches_broke_counts_in_the_worst_case():
    plan = Plan(threats=(Threat(eps=0.01), Threat(eps=0.07)), attacks=(Shift(by=0.15),), cascade=True)

    def known(threat):
        """At 0.07 others broke 0.45, as the attack does, 0.9, which it does not, and what was wrong before."""
        return torch.tensor([False, False, True, False, True, True]) & (threat.eps > 0.05)

    small, large = tallied(plan, known).robust(plan)
    assert (small.worst_case, small.by_others) == (5 / 6, 0)
    assert (large.worst_case, large.by_others) == (3 / 6, 1)
    assert large.attacks[0].accuracy == 4 / 6


def test_it_goes_on_where_it_stopped_and_repeats_nothing():
    def plan(met):
        attacks = (PGD(steps=2), Shift(by=0.15, met=met), Shift(by=-0.15, met=met))
        threats = (Threat(eps=0.07), Threat(eps=0.15), Threat("L2", 0.1))
        return Plan(threats=threats, attacks=attacks, cascade=True, transformations=(GaussianNoise(sigma=0.3),) * 2)

    saved = []
    whole = run_batch(threshold, X, Y, 3, plan(([],)), save=lambda result: saved.append(result.model_dump_json()))
    assert len(saved) == 11
    for steps, text in enumerate(saved, 1):
        met = ([],)
        went_on = run_batch(threshold, X, Y, 3, plan(met), done=BatchResult.model_validate_json(text))
        assert [s.broken for s in went_on.steps] == [s.broken for s in whole.steps]
        assert [t.right for t in went_on.transformed] == [t.right for t in whole.transformed]
        assert len(met[0]) == sum(step % 3 > 0 for step in range(steps, 9))


def test_progress_adds_up_to_the_examples():
    for done in (None, 2):
        plan = Plan(threats=(Threat(eps=0.07), Threat(eps=0.1)), attacks=(FGSM(), Shift()), cascade=True)
        result = run_batch(threshold, X, Y, 0, plan)
        if done is not None:
            result.steps = result.steps[:done]
        seen = []
        run_batch(threshold, X, Y, 0, plan, done=result if done else None, progress=seen.append)
        assert sum(seen) == pytest.approx(len(Y))


def test_a_transformation_leaves_wrong_what_was_wrong():
    plan = Plan(threats=(Threat(),), attacks=(Shift(),), cascade=True, transformations=(GaussianNoise(sigma=1e-6),))
    (noise,) = tallied(plan).transformed(plan)
    assert (noise.accuracy, noise.alone) == (5 / 6, 5 / 6)
    assert noise.name


def test_accuracy_on_transformed_inputs_alone_counts_what_became_right():
    class Flip(GaussianNoise):
        def __call__(self, model, x, y, *, generator=None):
            return 1 - x

    plan = Plan(threats=(Threat(),), attacks=(Shift(),), cascade=True, transformations=(Flip(),))
    (flipped,) = tallied(plan).transformed(plan)
    right, turned = threshold(X).argmax(1) == Y, threshold(1 - X).argmax(1) == Y
    assert flipped.alone == turned.float().mean()
    assert flipped.accuracy == (right & turned).float().mean() != flipped.alone


def test_digits_and_masks():
    bits = torch.tensor([True, False, False, True])
    assert digits(bits) == "1001"
    assert torch.equal(mask("1001"), bits)
