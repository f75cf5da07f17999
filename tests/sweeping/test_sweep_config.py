"""What a space may say, and every mistake named before anything is trained."""

import pytest

from meseta.attacks import FGSM
from meseta.configuration import dump, read
from meseta.errors import UserError
from meseta.models import Mlp
from meseta.objectives import InputGradient, Soar
from meseta.sweeping import Range, SweepConfig
from meseta.training import RunConfig
from meseta.workflow import EvaluateConfig

ATTACKED = EvaluateConfig(split="val", threats={"Linf": (0.1,)}, attacks=(FGSM(),))


def made(space, search="grid", **settings):
    return SweepConfig(
        **{"run": RunConfig(model=Mlp(), objective=InputGradient()), "evaluate": ATTACKED} | settings,
        space=space,
        search=search,
    )


def test_a_grid_is_every_combination_and_each_is_a_run():
    sweep = made(
        {
            "objective.weight": Range(low=0.01, high=1, log=True, num=3),
            "objective": ["InputGradient", "Soar"],
            "epochs": {"low": 1, "high": 2, "num": 2},
        }
    )
    cells = sweep.grid()
    assert len(cells) == sweep.count() == 12
    runs = [sweep.cell(cell, i) for i, cell in enumerate(cells, 1)]
    assert {(type(run.objective), run.objective.weight, run.epochs) for run in runs} == {
        (kind, weight, epochs) for kind in (InputGradient, Soar) for weight in (0.01, 0.1, 1) for epochs in (1, 2)
    }
    assert len({run.name for run in runs}) == 12
    assert {run.out for run in runs} == {"runs/sweep/cells"}


def test_choices_may_be_methods_with_settings_and_share_nothing():
    two = [{"class_path": "InputGradient", "init_args": {"q": 1}}, Soar(weight=2)]
    sweep = made({"objective": two, "objective.weight": [3, 4]})
    runs = [sweep.cell(cell) for cell in sweep.grid()]
    assert [run.objective.weight for run in runs] == [3, 4, 3, 4]
    assert runs[0].objective == InputGradient(q=1, weight=3)
    assert two[0]["init_args"] == {"q": 1}
    assert sweep.grid()[0]["objective"] == "InputGradient(q=1)"


def test_ranges_of_whole_numbers_have_whole_points():
    assert [cell["epochs"] for cell in made({"epochs": {"low": 1, "high": 8, "num": 4, "log": True}}).grid()] == [
        1,
        2,
        4,
        8,
    ]
    assert made({"epochs": [1, 2]}).is_whole("epochs")
    assert not made({"objective.weight": [1, 2]}).is_whole("objective.weight")


def test_a_file_says_the_same(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "run: {model: Mlp, objective: InputGradient}\nsearch: grid\n"
        "space: {objective.weight: [1/10, 1e-3], optimizer.lr: {low: 1e-3, high: 1e-1, log: true, num: 3}}\n"
        "evaluate: {threats: {Linf: [0.1]}}\n"
    )
    sweep = read(SweepConfig, file)
    assert sweep.evaluate.split == "val"  # without being told
    assert [(c["objective.weight"], c["optimizer.lr"]) for c in sweep.grid()][:4] == [
        (0.1, 0.001),
        (0.1, 0.01),
        (0.1, 0.1),
        (0.001, 0.001),
    ]
    (tmp_path / "again.yaml").write_text(dump(sweep))
    assert read(SweepConfig, tmp_path / "again.yaml") == sweep


def test_the_goal_is_one_of_the_threats():
    several = EvaluateConfig(split="val", threats={"Linf": (0.1, 0.2), "L2": (1,)})
    with pytest.raises(UserError, match=r"`goal` must name one of the threats.*\{Linf: 0.1\}"):
        made({"epochs": [1]}, evaluate=several)
    threat = made({"epochs": [1]}, evaluate=several, goal={"L2": 1}).threat()
    assert (threat.norm, threat.eps) == ("L2", 1)
    with pytest.raises(UserError, match="not attacked at"):
        made({"epochs": [1]}, evaluate=several, goal={"L2": 2})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "at least one option"),
        ({"objective.wait": [1]}, "objective.wait=1"),
        ({"optimiser.lr": [1]}, "optimiser.lr: a run has no such option"),
        ({"epochs.x": [1]}, "epochs.x: a run has no such option"),
        ({"optimizer.lr": ["fast"]}, "optimizer.lr=fast"),
        ({"objective": ["Nope"]}, "unknown name 'Nope'"),
        ({"objective": ["Erm", "InputGradient"], "objective.weight": [1]}, "objective=Erm, objective.weight=1"),
        ({"epochs": []}, "epochs must be a list"),
        ({"epochs": 3}, "epochs must be a list"),
        ({"epochs": [0]}, "epochs=0: `epochs`"),
        ({"epochs": [1, 1]}, "names a value twice"),
        ({"name": ["a"]}, "set for each cell"),
        ({"epochs": {"low": 1}}, "needs low and high"),
        ({"epochs": {"low": 1, "high": 2, "numb": 2}}, "got numb"),
        ({"epochs": {"low": "a", "high": 2, "num": 2}}, "finite numbers, got 'a'"),
        ({"epochs": {"low": 3, "high": 2, "num": 2}}, "low must be below high"),
        ({"optimizer.lr": {"low": 0, "high": 2, "num": 2, "log": True}}, "low must be positive"),
        ({"epochs": {"low": 1, "high": 2, "num": 2, "log": 3}}, "log must be true or false"),
        ({"epochs": {"low": 1, "high": 2}}, "Add num"),
        ({"epochs": {"low": 1, "high": 2, "num": 1}}, "num"),
        ({"epochs": {"low": 1, "high": 2, "num": 10**9}}, "1,000,000,000 cells are more than"),
        ({"epochs": list(range(1, 200)), "batch_size": list(range(2, 200))}, "39,402 cells are more than"),
        ({1: [2]}, "must name options"),
        ({"objective": [{"class_path": "InputGradient", "init_args": [1]}]}, "must be a mapping"),
    ],
)
def test_a_bad_space_is_named(space, message):
    with pytest.raises(UserError, match=message) as error:
        made(space)
    assert "space" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"evaluate": EvaluateConfig(threats={"Linf": (0.1,)})}, "must be val or train, got test"),
        ({"floor": 90}, "`floor`"),
        ({"workers": 0}, "`workers`"),
        ({"trials": 3}, "as many as its cells"),
        ({"search": "tpe"}, "how many cells"),
        ({"search": "tpe", "trials": 0}, "`trials`"),
        ({"search": "random"}, "`search`"),
        ({"storage": "a.db"}, "`storage`"),
        ({"storage": "postgresql://me:secret@host/db"}, "holds a password, (?!.*secret)"),
        ({"storage": "postgresql://["}, "no URL of a database"),
        ({"storage": "postgresql://localhost:notaport/x"}, "no URL of a database"),
        ({"storage": "sqlite://"}, "keeps nothing"),
        ({"storage": "sqlite:///:memory:"}, "keeps nothing"),
        ({"search": "tpe", "trials": 10**9}, "cells are more than"),
        ({"run": RunConfig(devices=2)}, "`devices`"),
        ({"name": "a/b"}, "`name`"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        made({"epochs": [1]}, **settings)


def test_tpe_takes_any_value_of_a_range_and_both_ends_must_be_runs():
    assert made({"epochs": {"low": 1, "high": 9}}, "tpe", trials=3).count() == 3
    with pytest.raises(UserError, match="Leave num out"):
        made({"epochs": {"low": 1, "high": 9, "num": 3}}, "tpe", trials=3)
    with pytest.raises(UserError, match="epochs=0"):
        made({"epochs": {"low": 0, "high": 9}}, "tpe", trials=3)
