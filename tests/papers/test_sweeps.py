import math

import pytest
from report_factory import make_record

from meseta.configuration import plain
from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.objectives import AdversarialTraining, Curvature, Erm, InputGradient, Jacobian, Objective, Scheduled, Sum
from meseta.papers.sweeps import labels, sweep_figure, sweeps
from meseta.schedules import LinearWarmup
from meseta.training import RunConfig


def made(objective: Objective, **settings: object) -> Record:
    config = RunConfig(objective=objective, **settings)
    return make_record(config.run_name, config=plain(config))


def test_runs_alike_but_for_weight_and_seed_are_one_sweep() -> None:
    records = [made(Jacobian(weight=w), seed=s, start_from=f"base-{s}") for w in (0.1, 0.01) for s in (0, 1, 2)]
    others = [made(InputGradient(weight=0.1, power=p)) for p in (1, 2)]
    jacobian, one, two, plainly = sweeps([*records, *others, made(Erm())], "weight")
    assert jacobian.name == "Jacobian"
    assert {x: len(group) for x, group in jacobian.records.items()} == {0.01: 3, 0.1: 3}
    assert list(jacobian.records) == [0.01, 0.1]
    assert (one.name, two.name) == ("InputGradient, power=1", "InputGradient, power=2")
    assert (plainly.name, list(plainly.records)) == ("Erm", [None])
    assert [sweep.name for sweep in sweeps([made(AdversarialTraining())], "weight")] == ["AdversarialTraining"]


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda o: Scheduled(objective=o, schedules={"weight": LinearWarmup()}), "Jacobian"),
        (lambda o: AdversarialTraining(objective=o), "AdversarialTraining + Jacobian"),
        (lambda o: Sum(parts=(Erm(), o)), "Sum + Jacobian"),
        (lambda o: Sum(parts=(InputGradient(weight=0.5), o)), "Sum + InputGradient + Jacobian"),
    ],
)
def test_the_weight_is_found_inside_other_objectives(wrap, name) -> None:
    (sweep,) = sweeps([made(wrap(Jacobian(weight=w))) for w in (0.2, 0.1)], "weight")
    assert sweep.name == name
    assert list(sweep.records) == [0.1, 0.2]


def test_two_weights_that_move_and_records_without_a_configuration_are_refused() -> None:
    parts = [(0.1, 0.1), (0.2, 0.1), (0.1, 0.2)]
    records = [made(Sum(parts=(InputGradient(weight=a), Jacobian(weight=b)))) for a, b in parts]
    with pytest.raises(UserError, match="both move"):
        sweeps(records, "weight")
    assert [list(sweep.records) for sweep in sweeps(records[:2], "weight")] == [[0.1, 0.2]]
    with pytest.raises(UserError, match="does not say how it was trained"):
        sweeps([make_record("given", config={})], "weight")


def test_lines_are_means_over_the_seeds_and_whiskers_their_ends() -> None:
    records = [made(Curvature(weight=w), seed=s) for w in (0.0, 0.1, 1.0) for s in (0, 1)]
    value = {id(record): float(i) for i, record in enumerate(records)}
    (sweep,) = sweeps(records, "weight")
    with_weight, without = sweep.apart("λ = 0")
    lines = [(one.name, i, one, lambda record: value[id(record)]) for i, one in enumerate((with_weight, without))]
    figure = sweep_figure("key", "title", lines, x_label="λ", x_name="λ", y_label="y")
    swept, across = figure.series
    assert (swept.x, swept.y, swept.low, swept.high) == ((0.1, 1.0), (2.5, 4.5), (2.0, 4.0), (3.0, 5.0))
    assert (across.name, across.x, across.y) == ("Curvature, λ = 0", (0.1, 1.0), (0.5, 0.5))
    assert figure.log_x
    assert "2 seeds" in figure.notes[0]
    only = {id(records[2]): 7.0}
    (line,) = sweep_figure(
        "key", "title", [("a", 0, with_weight, lambda r: only.get(id(r)))], x_label="λ", x_name="λ", y_label="y"
    ).series
    assert (line.x, line.y) == ((0.1,), (7.0,))


def drawn(records, value):
    (sweep,) = sweeps(records, "weight")
    lines = [("a", 0, sweep, value)]
    return sweep_figure("key", "title", lines, x_label="λ", x_name="λ", y_label="y")


def test_the_same_run_given_twice_and_runs_of_one_seed_are_one_seed() -> None:
    one, two = (made(Curvature(weight=0.1), seed=s, start_from="base") for s in (0, 1))
    again = made(Curvature(weight=0.1), seed=0, start_from="base", name="again")
    values = {one.name: 1.0, "again": 3.0}
    figure = drawn([one, one, again, one, two], lambda r: 10.0 if r == two else values[r.name])
    assert figure.series[0].y == pytest.approx((((1 + 1 + 3 + 1) / 4 + 10) / 2,))
    assert "2 seeds" in figure.notes[0]
    assert drawn([one, one, again], lambda r: 1.0).notes == ()
    others = [made(Curvature(weight=0.1), seed=0, start_from=f"base-{i}") for i in range(3)]
    assert "3 seeds" in drawn(others, lambda r: 1.0).notes[0]


def test_runs_from_scratch_are_no_seeds_of_fine_tuned_ones() -> None:
    records = [made(Jacobian(weight=w), start_from=start) for w in (0.1, 1.0) for start in (None, "base")]
    assert [sweep.name for sweep in sweeps(records, "weight")] == ["Jacobian, from scratch", "Jacobian, fine-tuned"]


def test_a_point_without_a_finite_mean_is_left_out() -> None:
    records = [made(Curvature(weight=w), seed=s) for w in (0.1, 1.0) for s in (0, 1)]
    figure = drawn(records, lambda r: math.inf if r == records[1] else 1.0)
    assert figure.series[0].x == (1.0,)


def test_labels_say_the_value_and_where_needed_the_objective() -> None:
    records = [made(Jacobian(weight=w)) for w in (0.0, 0.5)]
    assert labels(records, "weight", "λ") == ["λ = 0", "λ = 0.5"]
    assert labels([*records, made(Erm())], "weight", "λ") == ["Jacobian, λ = 0", "Jacobian, λ = 0.5", "Erm"]
