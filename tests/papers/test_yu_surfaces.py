"""Yu's surfaces: each figure looks at what it shows, once, and draws it from the record."""

from dataclasses import replace

import pytest
from report_factory import make_evaluation, make_robust
from tiny_runs import drawn, tiny_run

from meseta.errors import UserError
from meseta.evaluation.record import read_record, write_record
from meseta.papers import Yu1, Yu2, Yu3, Yu4, Yu6, Yu7, Yu9, Yu11, Yu12, Yu13, Yu14
from meseta.report.figure import leaves

SMALL = {"resolution": 3, "parameter_resolution": 2, "n": 8, "eps": 0.1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [tiny_run(folder, name=name) for name in ("natural", "robust")]


@pytest.mark.parametrize(
    ("figure", "shape"),
    [
        *[(figure, (2, 2)) for figure in (Yu1, Yu2, Yu3, Yu6, Yu7, Yu9, Yu14)],
        *[(figure, (4, 2)) for figure in (Yu11, Yu12)],
        (Yu13, (8, 2)),
        (Yu4, (4, 4)),
    ],
)
def test_each_figure_has_its_panels_and_is_measured_once(runs, figure, shape):
    found, _ = drawn(figure(**SMALL), runs)
    assert (len(found.rows), len(found.rows[0])) == shape
    again, said = drawn(figure(**SMALL), runs)
    assert said == []
    assert again == found
    for panel in leaves([found]):
        alike = [
            other
            for other in leaves([found])
            if (other.value_label, other.origin_label) == (panel.value_label, panel.origin_label)
        ]
        values = [v for other in alike for row in other.values for v in row]
        assert panel.span == (min(values), max(values))


def test_figure_4_shows_both_fields_of_the_same_planes(runs):
    found, _ = drawn(Yu4(**SMALL), runs[:1])
    loss, decision = found.rows
    assert [panel.title for panel in loss] == ["random", "cross-entropy", "least likely class", "C&W margin"]
    (first,) = [one for one in read_record(runs[0].folder).surfaces if "least_likely" in one.settings]
    assert loss[2].values == tuple(map(tuple, first.fields["CrossEntropy"]))
    assert decision[2].values == tuple(map(tuple, first.fields["Decision"]))


def test_mistakes_are_named(runs):
    with pytest.raises(UserError, match="must hold one index"):
        Yu4(indices=(1, 2))
    with pytest.raises(UserError, match="drawn from 2 runs or more, got 1"):
        Yu6().check_runs(1)
    with pytest.raises(UserError, match="lacks the surfaces of Yu14"):
        Yu14(indices=(9,), **SMALL).draw([run.record for run in runs])


def test_runs_are_seen_at_one_eps_that_of_the_first(runs, tmp_path):
    free = {**SMALL, "eps": None}
    for run, eps in zip(runs, (0.3, 0.05), strict=True):
        evaluated = make_evaluation(robust=[make_robust("Linf", eps, 0.5)])
        write_record(read_record(run.folder).model_copy(update={"evaluation": evaluated}), run.folder / "record.json")
    fresh = [replace(run, record=read_record(run.folder)) for run in runs]
    found, _ = drawn(Yu14(**free), fresh)
    assert [panel.x[-1] for panel in leaves([found])] == pytest.approx([0.9] * 4)


def test_runs_on_other_data_are_refused(runs, tmp_path):
    other = tiny_run(tmp_path, name="other", data_seed=5)
    with pytest.raises(UserError, match="example 0 of test is not the same"):
        drawn(Yu6(**SMALL), [runs[0], other])
    drawn(Yu4(**SMALL), [runs[0]])
    drawn(Yu4(**SMALL), [other])
    with pytest.raises(UserError, match="not of the same data"):
        Yu4(**SMALL).draw([read_record(run.folder) for run in (runs[0], other)])


def test_what_a_reader_must_know_stands_below(runs):
    found, _ = drawn(Yu4(**SMALL), runs[:1])
    seen = [one for one in read_record(runs[0].folder).surfaces if one.shown == ["CrossEntropy", "Decision"]]
    assert "some of their points leave the valid inputs" in found.notes[0]
    assert "% of their way is off the planes" in found.notes[0]
    assert ("is wrong at the example itself" in " ".join(found.notes)) == (seen[0].predicted != seen[0].label)
    loss = found.rows[0]
    assert [panel.path_label for panel in loss] == ["", "path of BIM-20 CrossEntropy", "", "path of BIM-20 Decision"]
