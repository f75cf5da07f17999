import math
from itertools import pairwise
from pathlib import Path

import pytest
from report_factory import (
    lognormal,
    make_bounded,
    make_bounds,
    make_cascade,
    make_checked_records,
    make_curve,
    make_distribution,
    make_evaluation,
    make_masking,
    make_measured,
    make_record,
    make_records,
    make_robust,
)

from meseta.report import write_figures
from meseta.report.comparison import wilson
from meseta.report.figure import HistogramFigure, LineFigure, bin_edges, bin_shares
from meseta.report.figures import (
    all_figures,
    attack_curves,
    certified_curves,
    distance_figures,
    measure_histograms,
    robustness_curves,
    sandwich_figures,
)
from meseta.report.interactive import to_plotly
from meseta.report.printed import save
from meseta.report.style import style

NAME = "SpectralCurvature(CrossEntropy)"


def histogram_of(*values: list[float | None]):
    return measure_histograms([make_record(str(i), measures=[make_measured(NAME, v)]) for i, v in enumerate(values)])


def test_curves_hold_the_record_in_percent_with_clean_accuracy_at_zero() -> None:
    records = make_records(2)
    linf, l2 = robustness_curves(records)
    assert (linf.key, l2.key) == ("robust-accuracy-Linf", "robust-accuracy-L2")
    evaluation = records[1].evaluation
    assert evaluation is not None
    shares = [evaluation.clean_accuracy] + [one.worst_case for one in evaluation.robust if one.norm == "Linf"]
    series = linf.series[1]
    assert series.x == pytest.approx([0, 2 / 255, 4 / 255, 8 / 255])
    assert series.y == pytest.approx([100 * share for share in shares])
    low, high = zip(*(wilson(share, evaluation.n) for share in shares), strict=True)
    assert series.low == pytest.approx([100 * one for one in low])
    assert series.high == pytest.approx([100 * one for one in high])


def test_runs_with_other_norms_keep_their_colour() -> None:
    l2_only = make_record("b", evaluation=make_evaluation(robust=[make_robust("L2", 0.5, 0.4)]))
    linf, l2 = robustness_curves([make_record("a"), l2_only, make_record("c")])
    assert [one.style for one in linf.series] == [0, 2]
    assert [one.style for one in l2.series] == [0, 1, 2]


def test_no_evaluation_and_no_measures_give_no_figures(tmp_path: Path) -> None:
    assert write_figures([make_record(evaluation=None, measures=[])], tmp_path) == []


def test_bins_are_common_and_every_value_is_in_one() -> None:
    (figure,) = histogram_of([1.0, 2.0, 3.0], [2.0, 10.0])
    edges = bin_edges(figure)
    assert (edges[0], edges[-1]) == (1.0, 10.0)
    assert all(a < b for a, b in pairwise(edges))
    assert [sum(bin_shares(sample, edges)) for sample in figure.samples] == pytest.approx([100, 100])


def test_values_over_magnitudes_use_a_log_axis_and_zeros_stay_counted() -> None:
    (figure,) = histogram_of([0.0, 0.0, None, *(10.0**k for k in range(7))])
    assert figure.log_x
    assert "2 zero" in figure.notes[0]
    assert "1 not finite of 10" in figure.notes[0]
    assert sum(bin_shares(figure.samples[0], bin_edges(figure))) == pytest.approx(70)


def test_signed_measures_stay_linear() -> None:
    (figure,) = histogram_of([-100.0, -1.0, 0.01, 100.0])
    assert not figure.log_x
    assert figure.notes == ()
    assert len(figure.samples[0].values) == 4


@pytest.mark.parametrize("values", [[0.0] * 5, [2.5] * 5, [-3.0]])
def test_equal_values_have_one_full_bin(values: list[float | None], tmp_path: Path) -> None:
    (figure,) = histogram_of(values)
    assert max(bin_shares(figure.samples[0], bin_edges(figure))) == 100
    assert all(file.stat().st_size for file in save(figure, tmp_path))


def test_a_run_without_finite_values_keeps_its_note() -> None:
    assert histogram_of([None, None]) == []
    (figure,) = histogram_of([None, math.nan, math.inf], [1.0, 2.0])
    assert "3 not finite of 3" in figure.notes[0]
    assert all(math.isfinite(y) for trace in to_plotly(figure)["data"] for y in trace["y"])


def test_styles_of_twenty_runs_differ_without_colour_and_marker() -> None:
    looks = [style(i) for i in range(20)]
    assert len({(look.colour, look.dash) for look in looks}) == 20
    assert len({(look.colour, look.symbol) for look in looks}) == 20
    assert len({look.symbol for look in looks[:9]}) == 9


def test_plotly_shows_names_as_text() -> None:
    figure = robustness_curves([make_record('<b>x</b><a href="http://example.org">')])[0]
    assert "<" not in to_plotly(figure)["data"][0]["name"]


def test_files_are_pdf_with_truetype_fonts_and_png(tmp_path: Path) -> None:
    records = [make_record(), make_record("_hidden $x_2$ " + "long " * 40, evaluation=None)]
    files = write_figures(records, tmp_path / "figures")
    assert {file.suffix for file in files} == {".pdf", ".png"}
    assert sorted(files) == sorted((tmp_path / "figures").iterdir())
    for file in files:
        content = file.read_bytes()
        assert content.startswith(b"%PDF-" if file.suffix == ".pdf" else b"\x89PNG\r\n\x1a\n")
        assert file.suffix == ".png" or b"/Type3" not in content.replace(b" ", b"")


def test_a_failed_figure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def fail(self: Figure, file: Path, **_: object) -> None:
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        write_figures(make_records(1), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_certified_curves_are_the_record_with_the_best_sound_bound_of_each_example() -> None:
    low, high = [0.0, 0.1, 0.4, 0.1], [0.0, 0.2, 0.1, 0.3]
    bounds = [make_bounded("sound", low, "A"), make_bounded("sound", high, "B"), make_bounded("proxy", [9.0] * 4)]
    (figure,) = certified_curves(
        [make_record("a", bounds=bounds), make_record("b"), make_record("c", bounds=bounds[:1])]
    )
    assert figure.key == "certified-accuracy-L2"
    assert [one.style for one in figure.series] == [0, 2]
    both = figure.series[0]
    assert both.y[0] == 75
    assert both.y[-1] == 0
    assert all(a >= b for a, b in pairwise(both.y))
    for radius, share in zip(both.x, both.y, strict=True):
        assert share == 25 * sum(value > radius for value in (0.0, 0.2, 0.4, 0.3))


def test_a_radius_without_an_end_is_certified_as_far_as_the_axis_goes() -> None:
    (figure,) = certified_curves([make_record("a", bounds=[make_bounded("sound", [None, 0.2, 0.1, 0.0])])])
    assert figure.series[0].x[-1] == 0.2
    assert (figure.series[0].y[0], figure.series[0].y[-1]) == (75, 25)


def test_no_certified_curve_without_a_sound_bound() -> None:
    bounds = [make_bounded("estimate", [1.0]), make_bounded("attack", [2.0])]
    assert certified_curves([make_record(bounds=bounds)]) == []


def test_the_sandwich_sorts_by_the_attack_and_names_the_kinds() -> None:
    bounds = [
        make_bounded("attack", [3.0, 0.0, 1.0, None]),
        make_bounded("sound", [0.3, 0.0, 0.1, 0.5]),
        make_bounded("proxy", [2.0, 0.0, 2.0, 2.0]),
    ]
    (figure,) = sandwich_figures([make_record(bounds=bounds)])
    assert [cloud.kind for cloud in figure.clouds] == ["sound", "proxy", "attack"]
    assert [cloud.name.split(":")[0] for cloud in figure.clouds] == ["certified (sound)", "proxy", "smallest attack"]
    assert figure.clouds[2].y == (1.0, 3.0)
    assert figure.clouds[0].y == (0.1, 0.3, 0.5)
    assert figure.clouds[0].x == pytest.approx((100 / 6, 50, 500 / 6))
    assert not figure.log_y
    assert "1 of them misclassified" in figure.notes[0]
    assert "1 without one found" in figure.notes[1]


def test_distances_over_magnitudes_use_a_log_axis_and_zeros_stay_counted() -> None:
    bounds = [make_bounded("sound", [0.0, 0.001, 0.1]), make_bounded("attack", [1.0, 2.0, 3.0])]
    (figure,) = sandwich_figures([make_record(bounds=bounds)])
    assert figure.log_y
    assert any("1 zero, not on the axis" in note for note in figure.notes)
    assert to_plotly(figure)["layout"]["yaxis"]["type"] == "log"


def test_other_examples_and_norms_are_other_sandwiches() -> None:
    bounds = [*make_bounds(20), *make_bounds(30, norm="Linf"), make_bounded("sound", [0.1] * 5, split="train")]
    figures = sandwich_figures([make_record("a", bounds=bounds), make_record("a", bounds=bounds[:4])])
    assert len({figure.key for figure in figures}) == len({figure.title for figure in figures}) == len(figures) == 4


def test_parts_have_histograms_and_curves_bands() -> None:
    parts = {"along_v": make_distribution(lognormal(2.0)), "empty": make_distribution([None] * len(lognormal(1.0)))}
    curves = {"along_v": make_curve([4.0, 2.0, 1e-3]), "spectrum": make_curve([2.0, 1.0])}
    values = lognormal(1.0)
    records = [
        make_record(str(i), measures=[make_measured(NAME, values, parts=parts, curves=curves)]) for i in range(2)
    ]
    figures = [figure for figure in all_figures(records) if not figure.key.startswith(("robust", "attacks"))]
    assert len({figure.key for figure in figures}) == 4
    assert [type(figure) for figure in figures] == [HistogramFigure, HistogramFigure, LineFigure, LineFigure]
    assert figures[1].title == f"{NAME}: along v"
    curve = figures[2]
    assert isinstance(curve, LineFigure)
    assert (curve.series[0].x, curve.series[0].y) == ((1, 2, 3), (4.0, 2.0, 1e-3))
    assert curve.series[0].low == (2.0, 1.0, 5e-4)
    assert curve.log_y
    drawing = to_plotly(curve)
    assert [trace["fill"] for trace in drawing["data"] if "fill" in trace] == ["toself"] * 2
    assert measure_histograms(records)[0].key == figures[0].key


@pytest.mark.parametrize("count", [1, 5])
def test_bounds_parts_and_curves_are_drawn_for_print(count: int, tmp_path: Path) -> None:
    measured = make_measured(NAME, lognormal(1.0, 50), curves={"c": make_curve([1.0, 2.0]), "one": make_curve([3.0])})
    records = [
        make_record(str(i), bounds=make_bounds(40, i), measures=[measured], **({"evaluation": None} if i else {}))
        for i in range(count)
    ]
    names = {file.stem for file in write_figures(records, tmp_path)}
    drawn = {"certified-accuracy-L2", "smallest-attack-accuracy-L2", "smallest-attack-L2", "distances-L2-0"}
    assert drawn | {"attacks-Linf-0", "attacks-L2-0"} < names
    assert len(names) == 2 + 2 + 3 + count + 3


def test_each_attack_is_a_line_below_which_the_worst_case_lies() -> None:
    record = make_record("a", evaluation=make_evaluation(n=400))
    linf, l2 = attack_curves([record])
    assert (linf.key, l2.key) == ("attacks-Linf-a", "attacks-L2-a")
    assert record.evaluation
    robust = [one for one in record.evaluation.robust if one.norm == "Linf"]
    worst, *attacks = linf.series
    assert worst.name == "worst case"
    assert worst.y == robustness_curves([record])[0].series[0].y
    assert [one.name for one in attacks] == [attack.name for attack in robust[0].attacks]
    for k, line in enumerate(attacks):
        shares = [record.evaluation.clean_accuracy, *(one.attacks[k].accuracy for one in robust)]
        assert line.y == pytest.approx([100 * share for share in shares])
        assert all(a <= b for a, b in zip(worst.y, line.y, strict=True))
    assert {trace["meta"]["run"] for trace in to_plotly(linf)["data"]} == {-1}


def test_a_cascade_and_a_single_attack_have_no_line_for_each_attack() -> None:
    cascade = make_record(evaluation=make_evaluation(robust=[make_cascade("Linf", 8 / 255, 0.4)]))
    robust = make_robust("Linf", 8 / 255, 0.4)
    single = robust.model_copy(update={"attacks": robust.attacks[:1]})
    assert attack_curves([cascade, make_record(evaluation=make_evaluation(robust=[single]))]) == []
    assert attack_curves([cascade, make_record("b", evaluation=make_evaluation(robust=[robust]))]) != []


def test_curves_of_a_masked_model_are_called_an_upper_bound() -> None:
    (figure,) = robustness_curves(make_checked_records())
    assert [note for note in figure.notes if "upper bound" in note] == [
        "quantised: gradients are masked, and what attacks left is only an upper bound."
    ]
    evaluation = make_evaluation(masking=make_masking(BlackBox="broken"))
    record = make_record(evaluation=evaluation, bounds=make_bounds(9))
    curves = [*attack_curves([record]), *distance_figures([record])[:1]]
    assert all("masked" in figure.notes[-1] for figure in curves)


def test_a_run_with_attacks_alone_shows_the_accuracy_they_leave_and_their_distances() -> None:
    values = [[0.0, 1.0, None, 3.0, 4.0], [0.0, 2.0, None, 1.0, 4.0]]
    record = make_record("a", bounds=[make_bounded("attack", one, str(i)) for i, one in enumerate(values)])
    curve, histogram = distance_figures([record, make_record("b")])
    assert isinstance(curve, LineFigure)
    assert isinstance(histogram, HistogramFigure)
    (line,) = curve.series
    assert (line.x[0], line.x[-1]) == (0, 4)
    for eps, share in zip(line.x, line.y, strict=True):
        assert share == 20 * sum(value > eps for value in (0.0, 1.0, math.inf, 1.0, 4.0))
    (sample,) = histogram.samples
    assert (sample.values, sample.total) == ((1.0, 1.0, 4.0), 5)
    assert histogram.notes == (
        "a: 1 misclassified, 1 without an adversarial example found of 5 examples, not on the axis.",
    )
    assert certified_curves([record]) == []
    assert sandwich_figures([record]) == []


def test_attacks_that_found_nothing_leave_everything_standing() -> None:
    (curve,) = distance_figures([make_record(bounds=[make_bounded("attack", [None, None, 0.0])])])
    assert isinstance(curve, LineFigure)
    assert curve.series[0].y == pytest.approx((200 / 3,))


def test_an_attack_with_other_settings_is_another_line() -> None:
    def robust(eps: float, *steps: int):
        one, settings = make_robust("Linf", eps, 0.4), "PGD(threat=Threat(eps={}), steps={})"
        attacks = [
            one.attacks[0].model_copy(update={"name": "PGD", "attack": settings.format(eps, k), "accuracy": k / 200})
            for k in steps
        ]
        return one.model_copy(update={"attacks": attacks})

    record = make_record("a", evaluation=make_evaluation(robust=[robust(0.1, 10, 100), robust(0.2, 100, 10)]))
    (figure,) = attack_curves([record])
    lines = {series.name: series.y[1:] for series in figure.series}
    assert lines["PGD"] == pytest.approx((5, 5))
    assert lines["PGD (2)"] == pytest.approx((50, 50))


def test_bands_are_named_where_there_are_any_and_doubts_where_there_are_runs() -> None:
    few, many = (certified_curves([make_record(str(i), bounds=make_bounds(20)) for i in range(n)])[0] for n in (2, 6))
    assert "Bands" in few.notes[0]
    assert "Bands" not in many.notes[0]
    suspicious = make_record("s", evaluation=make_evaluation(masking=make_masking(BlackBox="suspicious")))
    note = "s: masking checks find it suspicious, so that its figures may be too high."
    assert note in robustness_curves([suspicious])[0].notes


def test_distances_of_several_runs_have_one_axis() -> None:
    records = [make_record(name, bounds=make_bounds(40, scale=scale)) for name, scale in (("a", 1.0), ("b", 3.0))]
    figures = sandwich_figures(records)
    assert len(figures) == 2
    assert figures[0].span == figures[1].span
    values = [y for figure in figures for cloud in figure.clouds for y in cloud.y]
    assert figures[0].span == (min(values), max(values))
    assert to_plotly(figures[0])["layout"]["yaxis"]["range"] == to_plotly(figures[1])["layout"]["yaxis"]["range"]
