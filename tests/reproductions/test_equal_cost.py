"""The same cost for every method, a choice on the held-out split, and claims that can come out either way."""

from dataclasses import fields, is_dataclass, replace
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from meseta.data import DataConfig
from meseta.models import SiluCnn
from meseta.objectives import Erm
from meseta.registry import methods as registered
from meseta.reproductions import equal_cost
from meseta.reproductions.equal_cost import (
    NAMES,
    PENALTIES,
    PLAIN,
    EqualCost,
    Judged,
    Method,
    above,
    apart,
    chart,
    chosen_by,
    claims,
    everywhere,
    level,
    methods,
    of_examples,
    place,
    share_out,
)
from meseta.threat import Threat

THREAT = Threat("Linf", 0.1)


def names_in(owner: object) -> set[str]:
    """Return the names of all dataclasses inside an object."""
    if isinstance(owner, dict | tuple | list):
        return set().union(*map(names_in, owner.values() if isinstance(owner, dict) else owner))
    if not is_dataclass(owner):
        return set()
    return {type(owner).__name__}.union(*(names_in(getattr(owner, field.name)) for field in fields(owner)))


def test_every_objective_of_the_library_takes_part():
    tried = names_in({**methods(1.0, THREAT, 64), PLAIN: Erm()})
    assert set(registered("objectives")) <= tried


def test_a_strength_scales_what_a_method_does_and_nothing_else():
    weak, strong = (methods(strength, THREAT, 64) for strength in (0.5, 1.0))
    assert weak.keys() == strong.keys()
    assert all(weak[name] != strong[name] for name in weak)
    assert weak["jacobian"].weight == pytest.approx(strong["jacobian"].weight / 2)
    assert weak["pgd"].attack.threat.eps == pytest.approx(0.05)


@given(st.integers(1, 100), st.floats(1, 60), st.integers(10, 60_000))
def test_every_training_costs_the_budget(budget: int, step: float, examples: int):
    epochs, share = share_out(budget, step, examples)
    assert 1 <= share <= examples
    assert abs(epochs * step * share - budget * examples) <= epochs * step / 2 + 1e-6 * budget * examples or share == 1
    assert (epochs - 1) * step < budget  # one epoch less could not spend it


def test_whole_epochs_over_all_examples_where_the_cost_divides_the_budget():
    assert share_out(8, 2.0, 6000) == (4, 6000)
    assert share_out(8, 16.0, 6000) == (1, 3000)


def test_the_most_robust_within_two_points_is_chosen_else_the_cleanest(monkeypatch):
    clean = {"plain": 90.0, "near": 88.5, "nearer": 89.5, "far": 87.0, "farther": 80.0}
    robust = {"plain": 10.0, "near": 40.0, "nearer": 30.0, "far": 70.0, "farther": 90.0}
    monkeypatch.setattr(equal_cost, "held_out", lambda run: clean[run.name])
    monkeypatch.setattr(equal_cost, "on_held_out", lambda runs, threat: [robust[runs[0].name]])
    monkeypatch.setattr(equal_cost, "best", lambda runs, score: max(runs, key=score, default=None))
    runs = [Path(name) for name in ("near", "nearer", "far", "farther")]
    assert chosen_by(runs, Path("plain"), THREAT).name == "near"
    assert chosen_by(runs[2:], Path("plain"), THREAT).name == "far"


def test_every_method_can_take_a_step():
    data = DataConfig(source="digits").load()
    network = SiluCnn(maps=(2, 2, 2, 2), hidden=(4,)).build(data.input_shape, data.num_classes)
    x, y = data.train[:2]
    for name, objective in methods(1.0, THREAT, prod(data.input_shape)).items():
        values = objective(network, x, y, generator=torch.Generator().manual_seed(0)).total
        assert torch.isfinite(values).all(), name


def test_more_strengths_change_no_training_that_was_there(monkeypatch):
    monkeypatch.setattr(equal_cost, "step_flops", lambda objective, *rest: 1 + len(repr(objective)) / 100)
    short = replace(EqualCost.at("short"), mnist="digits", train_limit=64)
    assert short.strengths == (0.35, 1.0, 3.0)
    more, fewer = (
        {
            run.run_name: run
            for tried in one.plan("mnist").values()
            for run in (one._run("mnist", each) for each in tried)
        }
        for one in (short, replace(short, strengths=(0.35, 1.0)))
    )
    assert {name: more[name] for name in fewer} == fewer
    assert len(fewer) == 1 + 2 * len(methods(1.0, THREAT, 64))


def test_penalties_search_for_no_adversarial_example():
    every = methods(1.0, THREAT, 64)
    assert set(every) >= PENALTIES
    assert all("attack" not in repr(every[name]) for name in PENALTIES)
    assert {"pgd", "n-fgsm", "trades", "haat", "scorpio", "grad-align", "llr", PLAIN}.isdisjoint(PENALTIES)


def test_the_choice_tells_where_the_grid_ends_and_where_nothing_is_accurate_enough(monkeypatch):
    clean = {"plain": 90.0, "near": 89.0, "far": 80.0}
    monkeypatch.setattr(equal_cost, "held_out", lambda run: clean[run.name])
    short = EqualCost.at("short")

    def mark(strength: float, run: str, one: EqualCost = short) -> str:
        return one._mark(Method("jacobian", strength, Erm(), 2.0, 3, 64), Path(run), Path("plain"))

    assert mark(1.0, "near") == " (chosen)"
    assert mark(3.0, "near") == mark(0.35, "near") == " (chosen, end of the grid)"
    assert mark(1.0, "near", EqualCost.at("smoke")) == " (chosen)"  # one strength has no ends
    assert mark(3.0, "far") == " (the cleanest: none is within 2 points)"


def judged(name: str, worst: float, *, step: float = 2.0, near: bool = True, verdict="trusted", n: int = 200) -> Judged:
    return Judged(
        name=name, run=Path(f"{name}-1"), step=step, clean=90.0, is_near=near, worst=worst, n=n, verdict=verdict
    )


ERM = judged("erm", 0.1, step=1.0)


def holds(*found: Judged) -> list[bool | None]:
    return [claim.holds for claim in claims([ERM, *found])]


def test_neither_a_masked_nor_an_inaccurate_method_wins():
    honest, masked, far = judged("jacobian", 0.5), judged("soar", 0.9, verdict="broken"), judged("pgd", 0.8, near=False)
    found = [ERM, honest, masked, far]
    assert level(found) == [honest]
    assert [place(one, found) for one in found] == [2, 1, 3, 4]
    assert level([judged("erm", 0.1, verdict="broken"), masked])[0].name == "erm"


def test_a_winner_is_named_only_beyond_chance():
    alone = claims([ERM, judged("jacobian", 0.8), judged("pgd", 0.3, step=6.0)])
    assert alone[0].text == "Within 2 points of plain training jacobian keeps the most."
    assert alone[0].holds is True
    tied = claims([ERM, judged("n-fgsm", 0.8), judged("jacobian", 0.8), judged("cure", 0.77), judged("pgd", 0.3)])
    assert tied[0].text == "Within 2 points of plain training one method keeps the most."
    assert tied[0].holds is None
    assert tied[0].evidence.startswith("n-fgsm, jacobian and cure are level: ")
    assert "n = 200" in tied[0].evidence
    assert tied[1].text == "n-fgsm, jacobian and cure each keep more than plain training."
    assert tied[1].holds is True


@pytest.mark.parametrize(("dear", "expected"), [(0.3, True), (0.58, None), (0.9, False)])
def test_dear_steps_and_pgd_are_told_from_cheap_ones_beyond_chance(dear: float, expected: bool | None):
    found = holds(judged("jacobian", 0.6), judged("pgd", dear, step=6.0))
    assert found[3:] == [expected, expected]


def test_no_method_against_plain_training_beyond_chance():
    assert holds(judged("jacobian", 0.13))[1] is None
    first = judged("erm", 0.8, step=1.0)
    assert [claim.holds for claim in claims([first, judged("jacobian", 0.3)])][1] is False
    assert [claim.holds for claim in claims([first, judged("soar", 0.3, verdict="broken")])][1] is None
    assert holds(judged("jacobian", 0.9, verdict="suspicious"))[2] is None
    masked = [judged("erm", 0.8, step=1.0, verdict="broken"), judged("jacobian", 0.3)]
    assert claims(masked)[2].holds is False


def test_nothing_dear_and_no_pgd_within_the_floor_decide_nothing():
    cheap = judged("jacobian", 0.9)
    for pgd, said in (
        (judged("pgd", 0.3, step=6.0, near=False), "less accurate than plain training: no comparison"),
        (judged("pgd", 0.3, step=6.0, verdict="broken"), "masked gradients: no comparison"),
    ):
        found = claims([ERM, cheap, pgd])
        assert [claim.holds for claim in found[3:]] == [None, None]
        assert said in found[4].evidence
    assert "PGD training diverged" in claims([ERM, cheap])[4].evidence


def test_what_is_trained_on_attacks_and_plain_training_are_no_penalties():
    found = [ERM, judged("n-fgsm", 0.9), judged("pgd", 0.3, step=6.0), judged("jacobian", 0.1)]
    assert claims(found)[4].holds is False
    assert claims(found[:3])[4].holds is None


def test_a_method_is_first_everywhere_only_alone():
    jacobian, fgsm, cure = ([ERM, judged(name, 0.8)] for name in ("jacobian", "n-fgsm", "cure"))
    assert everywhere({"a": jacobian, "b": jacobian}).holds is True
    tied = everywhere({"a": [*jacobian, fgsm[1]], "b": jacobian})
    assert tied.holds is None
    assert "Among the first everywhere: jacobian." in tied.evidence
    assert everywhere({"a": [*jacobian, fgsm[1]], "b": cure}).holds is False
    assert everywhere({"a": jacobian}).holds is None


def test_nothing_is_decided_where_plain_training_guesses():
    lost = [replace(one, clean=10.0) for one in (ERM, judged("jacobian", 0.8), judged("pgd", 0.3, step=6.0))]
    found = claims(lost)
    assert [claim.holds for claim in found] == [None] * 5
    assert all("hardly better than guessing" in claim.evidence for claim in found)
    assert everywhere({"a": lost, "b": [ERM, judged("cure", 0.8)]}).holds is None


def test_chance_decides_nothing():
    pairs = ((0.9, 0.5), (0.5, 0.9), (0.52, 0.5))
    assert [above(judged("a", one), judged("b", other)) for one, other in pairs] == [True, False, None]


def test_the_number_of_examples_is_told():
    assert of_examples([{"a": judged("a", 0.5)}, {"a": judged("a", 0.5)}]) == "the same 200 test examples"
    assert of_examples([{"a": judged("a", 0.5)}, {"a": judged("a", 0.5, n=100)}]) == "100 to 200 test examples"
    short = EqualCost.at("short")
    assert (short.n_test, short.checked) == (150, 30)


def test_costs_that_are_nearly_equal_are_drawn_apart():
    costs = {"a": 1.0, "b": 2.0, "c": 2.01, "d": 2.05, "e": 5.0}
    places = apart(costs)
    assert places["a"] == 1.0
    assert places["e"] == 5.0
    assert places["b"] < places["c"] < places["d"]
    assert all(abs(places[name] / cost - 1) < 0.05 for name, cost in costs.items())


def test_the_chart_holds_every_method_once_and_tells_the_kinds_apart():
    found = [
        judged("erm", 0.1, step=1.0),
        judged("jacobian", 0.6),
        judged("pgd", 0.5, near=False),
        judged("soar", 0.9, verdict="broken"),
    ]
    figure = chart("mnist", found, THREAT)
    assert [group.labels for group in figure.groups] == [("erm", "jacobian"), ("pgd",), ("soar",)]
    assert all(low <= y <= high for g in figure.groups for low, y, high in zip(g.low, g.y, g.high, strict=True))


def test_scales_leave_data_sets_out_and_know_all_others():
    assert set(EqualCost().parts()) == {*NAMES, "overview"}
    assert set(EqualCost.at("smoke").parts()) == {"mnist", "overview"}
    assert EqualCost.at("paper") == EqualCost()
