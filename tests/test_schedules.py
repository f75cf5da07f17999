import pytest
from hypothesis import given
from hypothesis import strategies as st

from meseta.errors import UserError
from meseta.registry import methods
from meseta.schedules import Constant, Cosine, Cyclic, InverseDecay, LinearWarmup, StepDecay, Steps


def test_schedules_by_hand():
    assert [StepDecay().factor(s) for s in (0, 0.49, 0.5, 0.75)] == pytest.approx([1, 1, 0.1, 0.01])
    assert [Cosine().factor(s) for s in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert [Cosine(warmup=0.2).factor(s) for s in (0, 0.1, 0.2, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [Cyclic(peak=0.25).factor(s) for s in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert Constant().factor(0.7) == 1
    assert [LinearWarmup().factor(s) for s in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.5, 1, 1])
    assert [LinearWarmup(until=1, start=3).factor(s) for s in (0, 0.5, 1)] == pytest.approx([3, 2, 1])
    assert [InverseDecay(growth=3, power=0.5).factor(s) for s in (0, 1)] == pytest.approx([1, 0.5])
    assert [Steps().factor(s) for s in (0, 0.49, 0.5, 1)] == [0.1, 0.1, 1, 1]
    steps = Steps(milestones=(0.2, 0.6), factors=(0, 2, 0.5))
    assert [steps.factor(s) for s in (0, 0.19, 0.2, 0.59, 0.6, 1)] == [0, 0, 2, 2, 0.5, 0.5]


def test_steps_hold_what_step_decay_computes():
    decay, steps = StepDecay(), Steps(milestones=(0.5, 0.75), factors=(1, 0.1, 0.01))
    shares = [k / 40 for k in range(41)]
    assert [steps.factor(s) for s in shares] == pytest.approx([decay.factor(s) for s in shares])


@given(share=st.floats(0, 1))
def test_every_schedule_stays_between_zero_and_the_full_value(share):
    for schedule in methods("schedules").values():
        assert 0 <= schedule().factor(share) <= 1


@pytest.mark.parametrize(
    ("made", "bad"),
    [
        (StepDecay, {"gamma": 0.0}),
        (StepDecay, {"gamma": 5.0}),
        (StepDecay, {"milestones": (100, 150)}),
        (Cyclic, {"peak": 1.0}),
        (Cosine, {"warmup": -1.0}),
        (InverseDecay, {"growth": -1.0}),
        (InverseDecay, {"power": -1.0}),
        (LinearWarmup, {"until": 0.0}),
        (LinearWarmup, {"until": 2.0}),
        (LinearWarmup, {"start": -0.1}),
        (LinearWarmup, {"start": float("nan")}),
        (Steps, {"milestones": (0.5, 0.2)}),
        (Steps, {"milestones": (0.5, 0.5)}),
        (Steps, {"milestones": (0.0,)}),
        (Steps, {"factors": (1.0,)}),
        (Steps, {"factors": (1.0, -1.0)}),
        (Steps, {"factors": (1.0, float("inf"))}),
    ],
)
def test_bad_settings_are_refused(made, bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        made(**bad)
