"""The figures of estimates show what the measures found."""

import pytest
from tiny_runs import drawn, tiny_run

from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.models import Cnn4
from meseta.papers import Haat5, Mustafa3
from meseta.report.figure import leaves


@pytest.fixture
def run(tmp_path):
    return tiny_run(tmp_path)


def test_mustafa_3_shows_the_norms_and_their_difference_at_every_example(run):
    figure, said = drawn(Mustafa3(n=10), [run])
    assert len(said) == 1
    norms, lacks = leaves([figure])
    (section,) = read_record(run.folder).measures
    lanczos, ascent, along = (sample.values for sample in norms.samples)
    assert list(lanczos) == section.values
    assert list(ascent) == section.parts["hessian_ascent"].values
    assert list(along) == section.parts["gradient_direction"].values
    assert lacks.samples[0].values == pytest.approx([v - g for v, g in zip(lanczos, along, strict=True)])
    assert lacks.samples[1].values == pytest.approx([v - g for v, g in zip(ascent, along, strict=True)], abs=1e-6)
    assert drawn(Mustafa3(n=10), [run])[1] == []


@pytest.mark.parametrize(("figure", "panel"), [(Mustafa3, 0), (Haat5, 0)])
def test_a_figure_draws_what_is_there_on_more_examples_and_never_measures_fewer(run, figure, panel):
    drawn(figure(n=6), [run])
    assert len(drawn(figure(n=12), [run])[1]) == 1
    found, said = drawn(figure(n=6), [run])
    assert said == []
    assert [one.n for one in read_record(run.folder).measures] == [12]
    assert "12 examples" in leaves([found])[panel].title


def test_a_network_without_curvature_is_refused_before_anything_is_announced(tmp_path):
    flat, said = tiny_run(tmp_path, "relu", model=Cnn4(activation="relu")), []
    with pytest.raises(UserError, match="CrossEntropy"):
        Mustafa3(n=6).take([flat], said.append)
    assert said == []


def test_values_off_the_axis_are_counted(run):
    drawn(Mustafa3(n=10), [run])
    record = read_record(run.folder)
    section = record.measures[0]
    values = [None, 0.0, *section.values[2:]]
    changed = record.model_copy(update={"measures": [section.model_copy(update={"values": values})]})
    norms, _ = leaves([Mustafa3(n=10).draw([changed])])
    assert (len(norms.samples[0].values), norms.samples[0].total) == (8, 10)
    assert any("1 not finite, 1 zero or negative of 10 values" in note for note in norms.notes)


def test_haat_5_has_the_curves_as_published_and_up_to_sign(run):
    figure, _ = drawn(Haat5(n=10, radius=1e-3), [run])
    published, up_to_sign = leaves([figure])
    curves = read_record(run.folder).measures[0].curves
    for panel, ending in ((published, "_as_published"), (up_to_sign, "")):
        for series, name in zip(panel.series, ("difference", "exact"), strict=True):
            assert list(series.y) == curves[f"{name}{ending}"].median
            assert list(series.low) == curves[f"{name}{ending}"].quantile_05
            assert series.x == tuple(range(1, 11))
    assert "h = 0.001" in published.series[0].name


def test_a_record_without_the_measure_says_what_measures_it(run):
    for figure in (Mustafa3(), Haat5()):
        with pytest.raises(UserError, match="erm lacks"):
            figure.draw([run.record])
    with pytest.raises(UserError, match="`n`"):
        Haat5(n=0)
