import math

import pytest
from report_factory import make_evaluation, make_measured, make_record, make_robust

from meseta.errors import UserError
from meseta.report.comparison import (
    eps_text,
    measure_groups,
    newcombe,
    runs_of,
    shorten,
    significant,
    threats_of,
    unique,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_against_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes / n, n) == pytest.approx((low, high), abs=6e-5)


def test_newcombe_against_published_values() -> None:
    assert newcombe(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=6e-5)
    low, high = newcombe(0.3, 50, 0.3, 50)
    assert low == pytest.approx(-high)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson(0.5, 0) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_wilson_holds_the_share_and_shrinks(share: float) -> None:
    wide, narrow = wilson(share, 10), wilson(share, 1000)
    assert wide[0] <= narrow[0] <= share <= narrow[1] + 1e-12 <= wide[1] + 1e-12


def test_names_are_unique_even_beside_numbered_ones() -> None:
    assert unique(["a", "a", "a (2)", "a", "b"]) == ["a", "a (3)", "a (2)", "a (4)", "b"]


def test_long_names_keep_both_ends() -> None:
    short = shorten("start" + "x" * 200 + "end")
    assert len(short) == 40
    assert short.startswith("start")
    assert short.endswith("end")


def test_legend_names_are_unique_where_the_middle_differs() -> None:
    runs = runs_of([make_record("a" * 60 + middle + "b" * 60) for middle in "xyz"])
    assert len({run.short for run in runs}) == len({run.label for run in runs}) == 3


def test_no_records_is_a_user_error() -> None:
    with pytest.raises(UserError, match="at least one record"):
        runs_of([])


@pytest.mark.parametrize(
    ("norm", "eps", "text"),
    [
        ("Linf", 8 / 255, "8/255"),
        ("Linf", 0.2, "0.2"),
        ("Linf", 0.03137, "0.03137"),
        ("L2", 1.0, "1"),
        ("L2", 8 / 255, "0.0313725"),
    ],
)
def test_eps_reads_as_people_write_it(norm: str, eps: float, text: str) -> None:
    assert eps_text(norm, eps) == text


def test_threats_are_the_union_in_order_of_size() -> None:
    one = make_record("a", evaluation=make_evaluation(robust=[make_robust("L2", 0.5, 0.4)]))
    two = make_record("b", evaluation=make_evaluation(robust=[make_robust("Linf", k / 255, 0.4) for k in (16, 8)]))
    assert threats_of(runs_of([one, two])) == [("Linf", "8/255"), ("Linf", "16/255"), ("L2", "0.5")]


def test_only_like_measures_share_a_group() -> None:
    values: list[float | None] = [1.0, 2.0]
    name = "GradientNorm(CrossEntropy)"
    same = [make_record(str(i), measures=[make_measured(name, values)]) for i in range(2)]
    assert [group.title for group in measure_groups(runs_of(same))] == [name]
    split = make_record("train", measures=[make_measured(name, values, split="train")])
    assert [g.title for g in measure_groups(runs_of([*same, split]))] == [f"{name}, test", f"{name}, train"]
    other = make_record("other", measures=[make_measured(name, values, measure="GradientNorm(norm=1)")])
    titles = [group.title for group in measure_groups(runs_of([same[0], other]))]
    assert titles[1] == "GradientNorm(norm=1)"
    assert len(set(titles)) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (37.512, "37.5"), (1234.5, "1234"), (0.01234, "0.0123"), (-2.0, "-2.00"), (1.5e-7, "1.50e-07")],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text


def test_significant_digits_are_true() -> None:
    for value in (3.14159e-3, 0.99961, 99.96, 9999.6, 31415.9):
        assert math.isclose(float(significant(value)), value, rel_tol=6e-3)
