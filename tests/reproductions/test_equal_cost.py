"""The same cost for every method, a choice on the held-out split, and claims that can come out either way."""

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meseta.objectives import Erm
from meseta.registry import methods as registered
from meseta.reproductions import equal_cost
from meseta.reproductions.equal_cost import (
    NAMES,
    PLAIN,
    EqualCost,
    Judged,
    above,
    apart,
    chart,
    chosen_by,
    claims,
    methods,
    place,
    share_out,
    winner,
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


def judged(name: str, worst: float, *, step: float = 2.0, near: bool = True, verdict="trusted", n: int = 200) -> Judged:
    return Judged(
        name=name, run=Path(f"{name}-1"), step=step, clean=90.0, is_near=near, worst=worst, n=n, verdict=verdict
    )


def test_neither_a_masked_nor_an_inaccurate_method_wins():
    plain = judged("erm", 0.1, step=1.0)
    honest, masked, far = judged("jacobian", 0.5), judged("soar", 0.9, verdict="broken"), judged("pgd", 0.8, near=False)
    found = [plain, honest, masked, far]
    assert winner(found) is honest
    assert [place(one, found) for one in found] == [2, 1, 3, 4]
    assert winner([judged("erm", 0.1, verdict="broken"), masked]).name == "erm"


@pytest.mark.parametrize("dear", [0.3, 0.95])
def test_claims_come_out_either_way(dear: float):
    found = [judged("erm", 0.1, step=1.0), judged("jacobian", 0.6), judged("pgd", dear, step=6.0)]
    first, plain, unmasked, cheap, pgd = claims(found)
    assert first.holds
    assert plain.holds
    assert unmasked.holds
    assert cheap.holds is pgd.holds is (dear < 0.6)


def test_no_winner_beyond_the_intervals_where_they_overlap():
    found = [judged("erm", 0.55, step=1.0), judged("jacobian", 0.6, verdict="suspicious")]
    first, plain, unmasked, *_ = claims(found)
    assert (first.holds, plain.holds, unmasked.holds) == (False, False, None)
    assert above(judged("a", 0.9), judged("b", 0.5))


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
