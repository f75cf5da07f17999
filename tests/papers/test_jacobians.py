"""Yu's pictures of gradients and their statistics."""

import pytest
from tiny_runs import drawn, tiny_run

from meseta.autodiff import Decision
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.geometry import GradientNorm
from meseta.papers import Yu8, Yu10, Yu15
from meseta.report.figure import PictureFigure, leaves
from meseta.report.printed import save
from meseta.workflow import MeasureConfig, measure_run


@pytest.fixture
def runs(tmp_path):
    return [tiny_run(tmp_path, "erm"), tiny_run(tmp_path, "pgd", seed=1)]


def test_yu_8_shows_pictures_of_each_run_and_the_distributions_of_all(runs):
    figure, said = drawn(Yu8(n=5, hessian=3), runs)
    assert len(said) == 8
    pictures, entries, eigenvalues, norms, sparsity = leaves([figure])
    assert [label for label, _ in pictures.rows] == ["erm", "pgd"]
    records = [read_record(run.folder) for run in runs]
    for record, (_, tiles) in zip(records, pictures.rows, strict=True):
        assert [tile.picture for tile in tiles] == [
            record.pictured[0].pictures[name] for name in ("input", "gradient", "normalized", "hessian")
        ]
        assert tiles[3].picture.shape == (1, 9, 9)
        assert [tile.signed for tile in tiles] == [False, True, False, True]
    measures = {one.name: one for one in records[1].measures}
    assert list(norms.samples[1].values) == measures["GradientNorm(Decision), q=1"].values
    shares = [100 * v for v in measures["GradientSparsity(Decision)"].values]
    assert list(sparsity.samples[1].values) == pytest.approx(shares)
    assert sorted(entries.samples[1].values) == measures["GradientSparsity(Decision)"].curves["magnitudes"].median
    assert entries.samples[1].total == eigenvalues.samples[1].total == 64
    assert any(note.startswith("pgd, means of 5 examples") for note in figure.notes)


def test_another_square_of_the_hessian_is_taken_beside_the_first(runs):
    drawn(Yu8(n=5, hessian=3), runs[:1])
    assert drawn(Yu8(n=5, hessian=2), runs[:1])[1] == ["erm: picturing the gradient at 1 examples"]
    for side in (2, 3):
        figure, said = drawn(Yu8(n=5, hessian=side), runs[:1])
        assert said == []
        assert leaves([figure])[0].rows[0][1][3].picture.shape == (1, side**2, side**2)
    record = read_record(runs[0].folder)
    assert len(record.pictured) == 2
    with pytest.raises(UserError, match="4×4"):
        Yu8(n=5, hessian=4).draw([record])
    assert drawn(Yu10(indices=(0,)), runs[:1])[1] == []  # and its gradient serves the others


def test_nothing_is_announced_that_is_then_refused(runs):
    for figure, at in ((Yu10(indices=(0, 99)), "`indices`"), (Yu8(n=5, hessian=9), "`hessian`")):
        said = []
        with pytest.raises(UserError, match=at):
            figure.take(runs, said.append)
        assert said == []


def test_statistics_of_more_examples_are_drawn_and_kept(runs):
    measure_run(runs[0], MeasureConfig(measures=(GradientNorm(field=Decision(), q=1),), n=20))
    figure, said = drawn(Yu8(n=5, hessian=2), runs[:1])
    assert len(said) == 3
    assert len(leaves([figure])[3].samples[0].values) == 20
    assert any("means of 20 (‖J‖₁), 5 (entries) and 5 (eigenvalues) examples" in note for note in figure.notes)


def test_runs_on_the_same_inputs_share_a_row_of_them(runs, tmp_path):
    colour = tiny_run(tmp_path, "cifar", shape=(3, 8, 8))
    figure, _ = drawn(Yu10(indices=(0, 4)), [*runs, colour])
    grey, coloured = leaves([figure])
    assert [label for label, _ in grey.rows] == ["input", "erm", "pgd"]
    assert [label for label, _ in coloured.rows] == ["input", "cifar"]
    assert grey.columns == ("test 0", "test 4")
    record = read_record(colour.folder)
    assert coloured.rows[1][1][0].picture == record.pictured[0].pictures["normalized"]
    signed, _ = drawn(Yu15(indices=(0, 4), signed=True), [colour])
    (panel,) = leaves([signed])
    assert panel.rows[1][1][0].picture == record.pictured[0].pictures["gradient"]
    assert panel.rows[1][1][0].signed
    assert not panel.rows[0][1][0].signed


def test_grey_pictures_are_printed_grey(runs, tmp_path):
    from matplotlib.image import imread

    figure, _ = drawn(Yu10(indices=(0,)), runs[:1])
    assert isinstance(figure.rows[0][0], PictureFigure)
    _, image = save(figure, tmp_path)
    pixels = imread(image)[..., :3]
    assert (pixels.max(axis=2) - pixels.min(axis=2)).max() < 0.01
    assert pixels.std() > 0.1


def test_a_record_without_pictures_says_what_takes_them(runs):
    with pytest.raises(UserError, match="erm lacks pictures of the gradient"):
        Yu10().draw([runs[0].record])
    with pytest.raises(UserError, match="`indices`"):
        Yu15(indices=())
