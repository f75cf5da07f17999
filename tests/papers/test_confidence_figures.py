"""Guo's figures of formulas, against the formulas."""

import math

import pytest

from meseta.errors import UserError
from meseta.papers import Guo1, Guo3
from meseta.report.figure import leaves


def lines(figure):
    return {one.name: one for panel in leaves([figure]) for one in panel.series}


def test_the_distances_of_guo_1():
    found = lines(Guo1(nu=(2.0, 5.0)).draw([]))
    p = found["the classifier errs"].x
    xi = [math.log(2 * one) for one in p]
    for nu in (2.0, 5.0):
        r = [(math.sqrt(1 + 2 * a * x / (1 - a)) - 1) / (a * nu) for a, x in zip(p, xi, strict=True)]
        assert found[f"‖r*‖, ν = {nu:g}"].y == pytest.approx(r, rel=1e-9)
    r = found["‖r*‖, ν = 2"].y
    for name in ("Lemma 3.1, lower bound", "Lemma 3.1, upper bound"):
        assert found[name].y == pytest.approx(r, rel=1e-6)
    assert found["the classifier errs"].y == pytest.approx([math.log(one / (1 - one)) / 2 for one in p], rel=1e-9)
    printed = [math.sqrt(1 + 2 * a * x / (1 - a) - 1) / (a * 2) for a, x in zip(p, xi, strict=True)]
    assert found["eq. 8 as printed"].y == pytest.approx(printed, rel=1e-6)
    at_09 = min(range(len(p)), key=lambda i: abs(p[i] - 0.9))
    assert r[at_09] / found["the classifier errs"].y[at_09] == pytest.approx(1.22, abs=0.02)


def test_the_quadratic_model_reaches_log_2_at_the_distance():
    figure = Guo1(nu=(1.0,), p=(0.9,))
    found = lines(figure.draw([]))
    r, model, loss = (found[name] for name in ("log 2", "its quadratic model, p = 0.9", "loss, p = 0.9"))
    p, xi = 0.9, math.log(1.8)
    distance = (math.sqrt(1 + 2 * p * xi / (1 - p)) - 1) / p
    crossed = next(x for x, y in zip(model.x, model.y, strict=True) if y >= math.log(2))
    assert crossed == pytest.approx(distance, abs=2 * r.x[1])
    assert model.y[0] == loss.y[0] == pytest.approx(-math.log(0.9))
    margin = math.log(9)
    assert loss.y == pytest.approx([math.log1p(math.exp(x - margin)) for x in loss.x])


def test_the_factors_of_guo_3():
    factors, slopes = leaves([Guo3().draw([])])
    p = factors.series[0].x
    truth = [
        [(1 - one) ** 2 for one in p],
        [0.5] * len(p),
        [one * (1 - one) for one in p],
        [0.5] * len(p),
    ]
    steep = [[2 * (1 - one) for one in p], [0] * len(p), [2 * one - 1 for one in p], [0] * len(p)]
    for panel, columns in ((factors, truth), (slopes, steep)):
        for series, column in zip(panel.series, columns, strict=True):
            assert series.y[1:-1] == pytest.approx(column[1:-1], abs=1e-6)


def test_a_figure_of_a_formula_takes_no_runs_and_sound_settings_alone():
    with pytest.raises(UserError, match="from a formula"):
        Guo1().check_runs(1)
    Guo3().check_runs(0)
    for bad in ({"nu": ()}, {"nu": (0.0,)}, {"p": (0.5,)}, {"p": ()}):
        with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
            Guo1(**bad)
