"""SOAR's figures show the expansions that the records hold."""

import pytest
from tiny_runs import drawn, tiny_run

from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.geometry import Expansion
from meseta.looking import ProfileConfig, profile_run
from meseta.papers import Soar1, Soar4
from meseta.report.figure import leaves
from meseta.report.profiles import profile_figures
from meseta.threat import Threat


@pytest.fixture
def runs(tmp_path):
    return [tiny_run(tmp_path, "erm"), tiny_run(tmp_path, "pgd", seed=1)]


def test_soar_1_has_a_panel_for_each_run_with_the_curves_of_the_library(runs):
    figure, said = drawn(Soar1(index=2, eps=0.1, h=(0.05,)), runs)
    assert len(said) == 2
    assert [panel.title for panel in leaves([figure])] == ["erm", "pgd"]
    for run, panel in zip(runs, leaves([figure]), strict=True):
        x, y = run.data.test[[2]]
        truth = Expansion(threat=Threat(eps=0.1), h=(0.05,))(run.model, x, y)
        assert [one.name for one in panel.series] == list(truth.curves)
        for one in panel.series:
            assert one.y == pytest.approx(truth.curves[one.name][0].tolist(), rel=1e-4)
            assert one.x == pytest.approx(truth.t.tolist(), rel=1e-5)


@pytest.mark.parametrize("direction", ["random", "gradient"])
def test_the_axis_gives_the_true_length_of_the_step(runs, direction):
    figure, _ = drawn(Soar1(index=2, eps=0.3, direction=direction), runs[:1])
    x, y = runs[0].data.test[[2]]
    eta = Expansion(threat=Threat(eps=0.3), direction=direction)(runs[0].model, x, y).eta.flatten()
    (one,) = read_record(runs[0].folder).profiles
    assert one.lengths == pytest.approx({"Linf": eta.abs().max().item(), "L2": eta.norm().item()}, rel=1e-5)
    (panel,) = leaves([figure])
    assert panel.x_label == f"t, of a step of L∞ length {eta.abs().max():.3f}, L2 length {eta.norm():.2f}"


def test_what_a_record_holds_is_not_taken_again(runs):
    drawn(Soar4(indices=(0, 1)), runs)
    figure, said = drawn(Soar4(indices=(0, 1, 3)), runs)
    assert said == ["erm: expanding at 1 examples", "pgd: expanding at 1 examples"]
    assert [len(row) for row in figure.rows] == [2, 2, 2]
    assert len(read_record(runs[0].folder).profiles) == 3
    assert drawn(Soar4(indices=(0, 1, 3)), runs)[1] == []


def test_of_one_run_three_examples_stand_in_a_row(runs):
    figure, _ = drawn(Soar4(indices=(0, 1, 2, 3)), runs[:1])
    assert [len(row) for row in figure.rows] == [3, 1]


def test_a_record_without_the_expansion_says_what_takes_it(runs):
    with pytest.raises(UserError, match="erm lacks the expansion at test example 0"):
        Soar1().draw([runs[0].record])


def test_indices_beyond_the_split_are_refused(runs):
    said = []
    with pytest.raises(UserError, match="`indices` must be below 24"):
        Soar1(index=24).take(runs, said.append)
    assert said == []  # nothing is announced that is then refused
    with pytest.raises(UserError, match="`indices`"):
        Soar4(indices=())


def test_profiles_of_the_same_example_stand_side_by_side(runs):
    shared, own = ProfileConfig(indices=(1,)), ProfileConfig(expansion=Expansion(seed=4), indices=(1,))
    for run in runs:
        profile_run(run, shared)
    profile_run(runs[0], own)
    figures = profile_figures([read_record(run.folder) for run in runs])
    assert [len(leaves([figure])) for figure in figures] == [2, 1]
    assert len({figure.key for figure in figures}) == 2
    assert profile_figures([runs[0].record]) == []


def test_a_curve_that_is_not_finite_has_gaps_that_are_counted(runs):
    profile_run(runs[0], ProfileConfig())
    record = read_record(runs[0].folder)
    one = record.profiles[0]
    curves = dict(one.curves)
    curves["f itself"] = [None, *curves["f itself"][1:]]
    curves["first order"] = [None] * len(one.x)
    (figure,) = profile_figures([record.model_copy(update={"profiles": [one.model_copy(update={"curves": curves})]})])
    lengths = {series.name: len(series.x) for series in figure.series}
    assert lengths["f itself"] == len(one.x) - 1
    assert "first order" not in lengths
    assert any("f itself is not finite at 1 of 41 points" in note for note in figure.notes)
    assert any("first order is not finite at 41 of 41 points" in note for note in figure.notes)
