import pytest
from report_factory import (
    make_bounded,
    make_bounds,
    make_checked_records,
    make_evaluation,
    make_masking,
    make_measured,
    make_record,
    make_records,
    make_robust,
    make_training,
    make_transformed,
)

from meseta.errors import UserError
from meseta.report import comparison_table, to_markdown
from meseta.report.table import Table, accuracy_cell


def column(table: Table, title: str):
    index = [one.title for one in table.columns].index(title)
    return [row[index] for row in table.rows]


def test_values_are_the_records() -> None:
    records = make_records(3)
    table = comparison_table(records)
    for record, row in zip(records, table.rows, strict=True):
        evaluation, training = record.evaluation, record.training
        assert evaluation is not None
        assert training is not None
        medians = [one.median for one in record.measures]
        worst = [one.worst_case for one in evaluation.robust]
        cost = training.seconds_per_epoch
        expected = [evaluation.n, evaluation.clean_accuracy, *worst, *medians, cost, cost / 10]
        config = record.config["objective"]
        assert [cell.text for cell in row[:2]] == [record.name, "not checked"]
        assert [cell.value for cell in row[2:5]] == [
            "CURE" if config["weight"] else "Erm",
            config["name"],
            config["weight"],
        ]
        assert [cell.value for cell in row[5:]] == pytest.approx(expected)


def test_settings_that_differ_stand_beside_the_name_and_are_no_figures() -> None:
    table = comparison_table(make_records(3))
    shown = [one for one in table.columns if one.setting]
    assert [one.title for one in shown] == ["Setting: objective", "Setting: name", "Setting: weight"]
    assert {one.group for one in shown} == {"Settings that differ"}
    assert [cell.text for cell in column(table, "Setting: weight")] == ["0", "0.1", "0.2"]
    assert not any(cell.best for one in shown for cell in column(table, one.title))
    assert not any(one.setting for one in comparison_table(make_records(1)).columns)


def test_more_settings_than_there_is_room_for_are_counted() -> None:
    configs = [{f"option_{i}": i * k for i in range(1, 9)} for k in (1, 2)]
    table = comparison_table([make_record(str(i), config=config) for i, config in enumerate(configs)])
    assert {one.group for one in table.columns if one.setting} == {"Settings that differ, 5 of 8"}


def test_best_is_highest_accuracy_and_flattest_measure_and_lowest_cost() -> None:
    flat, steep = make_measured("Curvature(X)", [-0.5]), make_measured("Curvature(X)", [-40.0])
    radius = [make_measured("Radius(X)", [r]) for r in (1.0, 2.0)]
    a = make_record("a", evaluation=make_evaluation(clean=0.8), measures=[flat, radius[0]])
    b = make_record(
        "b", evaluation=make_evaluation(clean=0.9), measures=[steep, radius[1]], training=make_training("X()", 5.0)
    )
    table = comparison_table([a, b])
    assert [cell.best for cell in column(table, "Clean accuracy (%)")] == [False, True]
    assert [cell.best for cell in column(table, "Curvature(X), median")] == [True, False]
    assert [cell.best for cell in column(table, "Radius(X), median")] == [False, False]
    assert [cell.best for cell in column(table, "Training, s per epoch")] == [False, True]


def test_equal_texts_are_equally_best_and_one_run_is_not() -> None:
    evaluations = [make_evaluation(clean=clean) for clean in (0.90001, 0.90002, 0.5)]
    table = comparison_table([make_record(str(i), evaluation=e) for i, e in enumerate(evaluations)])
    assert [cell.best for cell in column(table, "Clean accuracy (%)")] == [True, True, False]
    assert not any(cell.best for cell in comparison_table(make_records(1)).rows[0])


def test_missing_sections_are_dashes() -> None:
    bare = make_record("bare", training=None, evaluation=None, measures=[])
    table = comparison_table([make_record(), bare])
    assert {cell.text for cell in table.rows[1][1:]} == {"–"}
    assert "| Run | bare |" in to_markdown(comparison_table([bare]))
    assert "| Clean accuracy (%) | – |" in to_markdown(comparison_table([bare]))


def test_thresholds_that_a_run_did_not_meet_are_dashes() -> None:
    one = make_record("a", evaluation=make_evaluation(robust=[make_robust("Linf", 8 / 255, 0.4)]))
    two = make_record("b", evaluation=make_evaluation(robust=[make_robust("Linf", 4 / 255, 0.6)]))
    table = comparison_table([one, two])
    assert [cell.text for cell in column(table, "Worst case, L∞ 4/255 (%)")] == ["–", "60.0"]
    assert [cell.text for cell in column(table, "Worst case, L∞ 8/255 (%)")] == ["40.0", "–"]


def test_cost_is_compared_with_the_same_model_on_the_same_data_only() -> None:
    plain = [make_record(str(s), training=make_training("Erm()", s)) for s in (8.0, 10.0, 30.0)]
    other = make_record("other", model="ResNet50()", training=make_training("CURE()", 20.0))
    cure = make_record("cure", training=make_training("CURE()", 20.0))
    cells = column(comparison_table([*plain, other, cure]), "Training, cost relative to Erm")
    assert [cell.text for cell in cells[-2:]] == ["–", "2.00×"]


def test_accuracy_says_its_interval_and_n() -> None:
    cell = accuracy_cell(81 / 263, 263)
    assert cell.text == "30.8"
    assert cell.note == "25.5–36.6"
    assert cell.detail == "95 % Wilson interval 25.5–36.6 %, n = 263"


def test_duplicate_names_are_told_apart() -> None:
    table = comparison_table([make_record("erm"), make_record("erm")])
    assert [row[0].text for row in table.rows] == ["erm", "erm (2)"]


def test_no_records() -> None:
    with pytest.raises(UserError, match="records"):
        comparison_table([])


def test_distances_by_kind_certified_accuracy_and_tightness() -> None:
    bounds = [
        make_bounded("sound", [0.0, 0.1, 0.2, 0.3], "A"),
        make_bounded("sound", [0.0, 0.2, 0.1, 0.3], "B"),
        make_bounded("estimate", [0.0, 0.5, 0.5, 0.5]),
        make_bounded("attack", [0.0, 0.8, 0.4, None]),
    ]
    table = comparison_table([make_record("a", bounds=bounds), make_record("b")])
    titles = [one.title for one in table.columns if one.title.startswith(("L2", "Certified"))]
    assert titles == [
        "Certified accuracy, L2 0.2 (%)",
        "Certified accuracy, L2 0.3 (%)",
        "L2 certified radius (sound), median",
        "L2 Taylor (estimate), median",
        "L2 smallest attack, median",
        "L2 certified radius / smallest attack, median",
    ]
    row = dict(zip([one.title for one in table.columns], table.rows[0], strict=True))
    assert [row[title].value for title in titles] == pytest.approx([0.25, 0.0, 0.2, 0.5, 0.6, (0.25 + 0.5) / 2])
    assert {column(table, title)[1].text for title in titles} == {"–"}


def test_a_median_without_an_adversarial_example_is_none_found() -> None:
    table = comparison_table([make_record(bounds=[make_bounded("attack", [0.0, None, None])])])
    (cell,) = column(table, "L2 smallest attack, median")
    assert (cell.value, cell.text) == (None, "none")


def test_the_run_with_the_larger_certificate_is_best_and_only_where_it_is_sound() -> None:
    small, large = (make_bounds(50, scale=scale) for scale in (1.0, 2.0))
    table = comparison_table([make_record("a", bounds=small), make_record("b", bounds=large)])
    assert [cell.best for cell in column(table, "L2 certified radius (sound), median")] == [False, True]
    assert [cell.best for cell in column(table, "L2 Taylor (estimate), median")] == [False, False]
    assert [cell.best for cell in column(table, "L2 LinearPiece (proxy), median")] == [False, False]


def test_the_verdict_comes_right_after_the_name_everywhere() -> None:
    table = comparison_table(make_checked_records())
    assert [one.title for one in table.columns][:2] == ["Run", "Masking"]
    words = ["trusted ✓", "suspicious !", "broken ✗", "not checked"]
    assert [row[1].text for row in table.rows] == words
    assert to_markdown(table).splitlines()[2] == f"| Masking | {' | '.join(words)} |"
    assert "Masking" not in [one.title for one in comparison_table([make_record(evaluation=None)]).columns]


def test_why_is_told_by_the_findings_that_are_not_fine() -> None:
    (cell,) = column(comparison_table(make_checked_records()[1:2]), "Masking")
    assert [line.split(":")[0] for line in cell.detail.splitlines()] == ["ZeroGradients", "LogitScale"]


def test_no_robust_figure_of_a_masked_model_is_ever_the_best() -> None:
    """It has the highest of everything: what attacks left of it is a bound, what needs no attack counts as ever."""
    masked = make_evaluation(
        0.95, decay=1.0, masking=make_masking(BlackBox="broken"), transformed=make_transformed(0.95)
    )
    fair = [make_evaluation(0.9 - i / 100, 50.0 + i, transformed=make_transformed(0.8 - i / 100)) for i in range(2)]
    bounds = [make_bounds(50, scale=scale) for scale in (9.0, 2.0, 1.0)]
    table = comparison_table(
        [
            make_record(str(i), evaluation=e, bounds=b)
            for i, (e, b) in enumerate(zip([masked, *fair], bounds, strict=True))
        ]
    )
    best = {
        one.title: [row[i].best for row in table.rows]
        for i, one in enumerate(table.columns)
        if one.title.startswith(("Worst case", "Spatial", "Gaussian", "L2 smallest attack"))
    }
    assert len(best) == 5 + 4 + 1
    assert set(map(tuple, best.values())) == {(False, True, False)}
    assert [cell.best for cell in column(table, "Clean accuracy (%)")] == [True, False, False]
    assert [cell.best for cell in column(table, "L2 certified radius (sound), median")] == [True, False, False]


def test_the_worst_case_of_a_masked_model_is_an_upper_bound() -> None:
    robust = [make_robust("Linf", 8 / 255, 0.4)]
    for level, text in {"broken": "≤40.0", "suspicious": "40.0", "fine": "40.0"}.items():
        evaluation = make_evaluation(robust=robust, masking=make_masking(BlackBox=level))
        (cell,) = column(comparison_table([make_record(evaluation=evaluation)]), "Worst case, L∞ 8/255 (%)")
        assert (cell.value, cell.text) == (0.4, text)
        assert ("upper bound" in cell.detail) == (level == "broken")


def test_transformed_accuracies_are_columns_and_other_settings_other_columns() -> None:
    weak, *_ = make_transformed(0.9)
    other = weak.model_copy(update={"transformation": "Spatial(level=9)", "accuracy": 0.3})
    evaluations = [make_evaluation(transformed=[weak]), make_evaluation(transformed=[other]), make_evaluation()]
    table = comparison_table([make_record(str(i), evaluation=e) for i, e in enumerate(evaluations)])
    assert [cell.text for cell in column(table, "Spatial weak (%)")] == ["90.0", "–", "–"]
    assert [cell.text for cell in column(table, "Spatial weak (2) (%)")] == ["–", "30.0", "–"]


def test_certified_radii_stand_beside_attacks_on_more_examples() -> None:
    bounds = [make_bounded("sound", [0.5, 0.4, 0.0]), make_bounded("attack", [0.6, 0.7, 0.0, 1.0, 2.0])]
    table = comparison_table([make_record("a", bounds=bounds)])
    cells = {column.title: cell for column, cell in zip(table.columns, table.rows[0], strict=True)}
    assert cells["L2 certified radius (sound), median"].value == 0.4
    assert cells["L2 smallest attack, median"].value == 0.7
    ratio = cells["L2 certified radius / smallest attack, median"].value
    assert ratio == pytest.approx((0.5 / 0.6 + 0.4 / 0.7) / 2)  # on the examples that have both
    elsewhere = [bounds[0].model_copy(update={"split": "val"}), bounds[1]]
    titles = [column.title for column in comparison_table([make_record("a", bounds=elsewhere)]).columns]
    assert "L2 certified radius (sound), median" in titles
    assert "L2 certified radius / smallest attack, median" not in titles


def test_flatness_of_a_model_that_hides_its_gradients_or_of_some_examples_is_never_the_best() -> None:
    """The smallest gradient is that of a mask, and the flattest median may be that of the one example that is left."""
    flat, steep = [make_measured("GradientNorm(X)", [value] * 20) for value in (0.0, 5.0)]
    partial = make_measured("GradientNorm(X)", [None] * 19 + [0.001])
    for level in ("suspicious", "broken"):
        masked = make_record(
            "masked", evaluation=make_evaluation(masking=make_masking(BlackBox=level)), measures=[flat]
        )
        trusted = [make_record(str(i), 1, measures=[one]) for i, one in enumerate((partial, steep))]
        cells = column(comparison_table([masked, *trusted]), "GradientNorm(X), median")
        assert [cell.text for cell in cells] == ["0", "0.00100 (19 of 20 not finite)", "5.00"]
        assert [cell.best for cell in cells] == [False, False, False]
    fine = make_record("fine", evaluation=make_evaluation(masking=make_masking()), measures=[flat])
    cells = column(comparison_table([fine, *trusted]), "GradientNorm(X), median")
    assert [cell.best for cell in cells] == [True, False, False]


def test_an_unchecked_run_is_not_the_best_beside_a_trusted_one() -> None:
    better, worse = (make_evaluation(0.9, decay) for decay in (1.0, 50.0))
    trusted = [make_evaluation(0.8, decay, masking=make_masking()) for decay in (20.0, 30.0)]
    table = comparison_table([make_record(str(i), evaluation=e) for i, e in enumerate((better, *trusted))])
    assert [cell.best for cell in column(table, "Worst case, L2 0.5 (%)")] == [False, True, False]
    assert [cell.best for cell in column(table, "Clean accuracy (%)")] == [True, False, False]
    unchecked = comparison_table([make_record("a", evaluation=better), make_record("b", evaluation=worse)])
    assert [cell.best for cell in column(unchecked, "Worst case, L2 0.5 (%)")] == [True, False]
