"""Figures of accuracy under attack: Mustafa 2020, Guo 2020, and the tuning of Mei 2022."""

import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from report_factory import PROVENANCE, make_bounded, make_cascade, make_evaluation, make_masking, make_record

from meseta.attacks import PGD, Attack
from meseta.attacks import Haat as HaatAttack
from meseta.configuration import parse, parser, plain
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.record import AttackResult, Evaluation, Record, RobustAccuracy
from meseta.linalg import PowerIteration
from meseta.models import Mlp
from meseta.objectives import CrossLipschitz, Erm, Haat, Jacobian
from meseta.papers import Guo2, Haat2, Haat3, Mustafa1, Mustafa4
from meseta.report.figure import PanelFigure, leaves
from meseta.report.printed import save
from meseta.threat import Threat
from meseta.training import RunConfig, train
from meseta.workflow import CertifyConfig, EvaluateConfig, load_run

EPS = (1.0, 2.0, 3.0)


def evaluation(attacks: list[Attack], threats: list[Threat], shares: dict[str, float], n: int = 100, **changes):
    """An evaluation in which each attack met all; accuracy falls with eps, and the worst case is below each."""
    robust = []
    for i, threat in enumerate(threats):
        results = [
            AttackResult(
                attack=repr(attack.against(threat)),
                name=attack.name,
                accuracy=shares[attack.name] / (i + 1),
                violations=0,
                seconds=1.0,
            )
            for attack in attacks
        ]
        worst = 0.9 * min(result.accuracy for result in results)
        robust.append(RobustAccuracy(norm=threat.norm, eps=threat.eps, worst_case=worst, attacks=results))
    defaults = {"provenance": PROVENANCE, "split": "test", "n": n, "clean_accuracy": 0.95, "nonfinite_logits": 0}
    return Evaluation(**(defaults | {"robust": robust} | changes))


def by_two(shift: float = 0.0, **changes) -> Evaluation:
    figure = Mustafa4(eps=EPS)
    shares = {"PGD-50 CrossEntropy x10": 0.8 - shift, "PGD-50 Decision x10": 0.7 - shift}
    return evaluation([*figure._attacks()], figure._threats(), shares, **changes)


def test_mustafa_draws_each_attack_and_the_worst_case_of_every_run() -> None:
    records = [make_record(str(i), evaluation=by_two(0.1 * i)) for i in range(2)]
    drawn = Mustafa4(eps=EPS).draw(records)
    a, b, c = leaves([drawn])
    assert [one.x for one in a.series] == [(0.0, *EPS)] * 2
    assert a.series[0].y == pytest.approx((95, 80, 40, 80 / 3))
    assert b.series[1].y == pytest.approx((95, 60, 30, 20))
    assert c.series[1].y == pytest.approx((95, 54, 27, 18))
    assert Mustafa1(eps=EPS).draw(records).series == c.series
    assert (drawn.key, a.y_label, c.y_label) == ("mustafa-4", "accuracy (%)", "worst-case accuracy (%)")


def test_the_evaluation_beside_is_found_and_the_masking_verdict_stays() -> None:
    masked = make_evaluation(masking=make_masking(BlackBox="broken"))
    small, large = by_two(0.3, n=50), by_two(n=100)
    record = make_record("a", evaluation=masked, other_evaluations=[small, large])
    figure = Mustafa1(eps=EPS).draw([record])
    assert figure.series[0].y[1] == pytest.approx(63)
    assert "upper bound" in figure.notes[-1]


def test_what_was_attacked_on_another_split_is_not_drawn() -> None:
    trained = by_two(0.5, split="train", n=1000)
    record = make_record("a", evaluation=trained, other_evaluations=[by_two()])
    assert Mustafa1(eps=EPS).draw([record]).series[0].y[1] == pytest.approx(63)
    assert Mustafa1(eps=EPS, split="train").draw([record]).series[0].y[1] == pytest.approx(18)
    with pytest.raises(UserError, match=r"--split val$"):
        Mustafa1(eps=EPS, split="val").draw([record])

    records = [regularised(Jacobian(weight=w), 0, 0.5, 1.0) for w in (0.1, 1.0)]
    with pytest.raises(UserError, match=r"meseta evaluate RUN .* --split train$"):
        Guo2(split="train").draw(records)
    seen = evaluation([*Guo2().attacks()], [Guo2().threat()], {a.name: 0.5 for a in Guo2().attacks()}, split="train")
    with pytest.raises(UserError, match=r"meseta certify RUN .* --split train$"):
        Guo2(split="train").draw([r.model_copy(update={"other_evaluations": [seen]}) for r in records])
    with pytest.raises(UserError, match=r"--split train$"):
        Haat3(split="train").draw([tuned(1e-6, k) for k in (2, 6)])


def test_the_number_of_examples_is_said_and_where_they_differ() -> None:
    records = [make_record(name, evaluation=by_two(n=n)) for name, n in (("a", 20), ("b", 60))]
    assert "n = 20 to 60 test examples, not the same." in Mustafa1(eps=EPS).draw(records).notes
    assert "n = 60 test examples." in Mustafa1(eps=EPS).draw(records[1:]).notes
    assert all("n = 60 test examples." in one.notes for one in leaves([Mustafa4(eps=EPS).draw(records[1:])]))
    assert "n = 1000 test examples." in Haat3().draw([tuned(1e-6, k) for k in (2, 6)]).notes
    distances_of_three = [regularised(Jacobian(weight=w), 0, 0.5, 1.0) for w in (0.1, 1.0)]
    assert Guo2().draw(distances_of_three).notes[:2] == (
        "Accuracies: n = 100 test examples.",
        "Distances: n = 3 test examples.",
    )


def test_examples_for_which_an_attack_found_nothing_never_make_a_run_look_worse() -> None:
    """Distances 0, 1, 2 of which the farthest are not found: a mean of those found would fall from 1 to 0.5."""
    whole, failing, lost = (
        regularised(Jacobian(weight=w), 0, 0.5, 1.0).model_copy(update={"name": name})
        for w, name in ((0.01, "whole"), (0.1, "failing"), (1.0, "lost"))
    )

    def with_deepfool(record: Record, values: list[float | None]) -> Record:
        first, *others = record.bounds
        return record.model_copy(
            update={"bounds": [make_bounded("attack", values, bound=first.bound), *others]},
        )

    records = [whole, with_deepfool(failing, [0.0, 1.5, None]), with_deepfool(lost, [0.0, None, None])]
    *_, deepfool, carlini = leaves([Guo2().draw(records)])
    assert deepfool.y_label == "median L2 distance (input units)"
    assert (deepfool.series[0].x, deepfool.series[0].y) == ((0.01, 0.1), (1.0, 1.5))
    assert deepfool.notes == (
        "DeepFool found no adversarial example for 3 of 9 examples of Jacobian: medians, with those as the farthest.",
        "DeepFool, left out for want of a median: Jacobian at λ = 1.",
    )
    assert (carlini.y_label, carlini.notes) == ("mean L2 distance (input units)", ())
    assert carlini.series[0].x == (0.01, 0.1, 1.0)


@pytest.mark.parametrize(
    "unfit",
    [
        make_evaluation(robust=[make_cascade("L2", eps, 0.5) for eps in EPS]),  # a cascade
        by_two().model_copy(update={"robust": by_two().robust[:2]}),  # lacks an eps
        by_two().model_copy(update={"robust": [one.model_copy(update={"cascade": True}) for one in by_two().robust]}),
        evaluation(
            [PGD(), PGD(steps=7)], [Threat("L2", eps) for eps in EPS], {PGD().name: 0.5, PGD(steps=7).name: 0.4}
        ),
        None,
    ],
)
def test_what_lacks_comes_with_the_command_that_measures_it(unfit) -> None:
    with pytest.raises(UserError, match="PGD-50 CrossEntropy x10 and PGD-50 Decision x10") as error:
        Mustafa1(eps=EPS).draw([make_record("a", evaluation=unfit)])
    said = str(error.value).split("Measure it: ")[1]
    words = shlex.split(said)
    assert words[:5] == ["meseta", "evaluate", "RUN", "--norm", "L2"]
    assert [float(word) for word in words[6:9]] == list(EPS)
    config, _ = parse(parser(EvaluateConfig), EvaluateConfig, words[9:])
    assert [repr(one.against(Threat("L2", 1.0))) for one in config.attacks or ()] == [
        repr(one.against(Threat("L2", 1.0))) for one in Mustafa1()._attacks()
    ]


def test_taking_measures_once_beside_the_evaluation_of_the_run(tmp_path: Path) -> None:
    data = DataConfig(train_limit=320, test_limit=60)
    folder = train(RunConfig(out=str(tmp_path), name="run", data=data, model=Mlp(), epochs=2))
    figure = Mustafa4(eps=(0.3, 0.6), steps=2, restarts=1, n=20)
    said: list[str] = []
    figure.take([load_run(folder)], said.append)
    record = load_run(folder).record
    assert len(said) == 1
    assert record.evaluation is None
    assert [one.n for one in record.other_evaluations] == [20]
    a, b, c = leaves([figure.draw([record])])
    for each in (a, b):
        assert all(low <= high for low, high in zip(c.series[0].y, each.series[0].y, strict=True))
        assert all(first >= second for first, second in pairwise(each.series[0].y))
    figure.take([load_run(folder)], said.append)
    Mustafa1(eps=(0.3, 0.6), steps=2, restarts=1, n=10).take([load_run(folder)], said.append)
    assert len(said) == 1

    guo = Guo2(n=12, steps=2, searches=1)
    guo.take([load_run(folder)], said.append)
    bounds = load_run(folder).record.bounds
    assert [(one.name, one.n) for one in bounds] == [(one.name, 12) for one in guo.nearest()]
    guo.take([load_run(folder)], said.append)
    replace(guo, near=5).take([load_run(folder)], said.append)
    assert len(said) == 1 + 3
    replace(guo, n=20, near=12).take([load_run(folder)], said.append)
    assert said[4:] == ["run: attacking with FGSM, PGD-2 CrossEntropy"]
    replace(guo, near=15).take([load_run(folder)], said.append)
    assert [guo._distances(attack, load_run(folder).record).n for attack in guo.nearest()] == [15, 15]
    replace(guo, n=15).take([load_run(folder)], said.append)
    assert len(said) == 1 + 3 + 1 + 2


def regularised(objective, seed: int, accuracy: float, distance: float, model: str = "LeNet5()") -> Record:
    guo = Guo2()
    fgsm, pgd = guo.attacks()
    both = evaluation([fgsm, pgd], [guo.threat()], {fgsm.name: accuracy, pgd.name: accuracy / 2})
    bounds = [
        make_bounded("attack", [0.0, distance, 2 * distance], bound=repr(attack), mean=distance)
        for attack in guo.nearest()
    ]
    config = plain(RunConfig(objective=objective, seed=seed))
    name = f"{type(objective).__name__}-{seed}"
    data = "MNIST: 9 train examples of 1×28×28, classes 7 against 1"
    return make_record(name, model=model, data=data, config=config, evaluation=both, bounds=bounds)


def test_guo_has_four_panels_a_network_and_a_line_a_regulariser(tmp_path: Path) -> None:
    records = [
        regularised(kind(weight=w), seed, accuracy=0.5 + w + 0.1 * seed, distance=1 + w, model=model)
        for model in ("LeNet5()", "LeNet300100(norm='none')")
        for kind in (Jacobian, CrossLipschitz)
        for w in (0.01, 0.1)
        for seed in (0, 1)
    ]
    plainly = regularised(Erm(), 0, 0.4, 0.9)
    drawn = Guo2().draw([*records, plainly])
    assert isinstance(drawn, PanelFigure)
    assert [len(row) for row in drawn.rows] == [4, 4]
    assert drawn.rows[1][3].title == "(h) C&W, LeNet300100"
    fgsm, pgd, deepfool, _ = drawn.rows[0]
    assert [one.name for one in fgsm.series] == ["Jacobian", "CrossLipschitz", "Erm"]
    assert [one.style for one in fgsm.series] == [0, 1, 2]
    line = fgsm.series[0]
    assert line.x == (0.01, 0.1)
    assert line.y == pytest.approx((56, 65))
    assert (line.low, line.high) == (pytest.approx((51, 60)), pytest.approx((61, 70)))
    assert fgsm.series[2].y == pytest.approx((40, 40))
    assert pgd.series[0].y == pytest.approx((28, 32.5))
    assert deepfool.series[0].y == pytest.approx((1.01, 1.1))
    assert len({one.key for one in leaves([drawn])}) == 8
    assert "7 against 1" in drawn.title
    assert all(file.stat().st_size for file in save(drawn, tmp_path))


def test_guo_says_what_lacks() -> None:
    record = regularised(Jacobian(), 0, 0.5, 1.0)
    with pytest.raises(UserError, match=r"meseta evaluate RUN --norm Linf --eps 0\.1 --attacks"):
        Guo2().draw([record.model_copy(update={"evaluation": None})])
    with pytest.raises(UserError, match="meseta certify RUN") as error:
        Guo2().draw([record.model_copy(update={"bounds": []})])
    words = shlex.split(str(error.value).split("Measure them: ")[1])[3:]
    config, _ = parse(parser(CertifyConfig), CertifyConfig, words)
    assert [repr(one) for one in config.attacks] == [repr(Guo2().nearest()[0])]
    assert config.bounds == ()
    with pytest.raises(UserError, match="no run has a weight"):
        Guo2().draw([regularised(Erm(), 0, 0.5, 1.0)])


def tuned(radius: float | None, steps: int, seed: int = 0, worst: float = 0.5) -> Record:
    solver = PowerIteration(steps=steps)
    objective = Haat(attack=HaatAttack(radius=radius, guarded=radius is None, solver=solver))
    robust = [make_cascade("Linf", 8 / 255, worst)]
    return make_record(
        f"haat-{radius}-{steps}-{seed}",
        config=plain(RunConfig(objective=objective, seed=seed)),
        evaluation=make_evaluation(robust=robust, suite="autoattack"),
    )


def test_haat_is_drawn_against_both_of_its_settings() -> None:
    records = [tuned(xi, 6, seed, 0.4 + 0.1 * seed) for xi in (1e-6, 1e-3, None) for seed in (0, 1)]
    a, b = (figure.draw([*records, tuned(1e-6, 2), tuned(1e-6, 11)]) for figure in (Haat2(), Haat3()))
    lines = {one.name: one for one in a.series}
    attacked = lines["under attack"]
    assert attacked.x == (1e-6, 1e-3)
    assert attacked.y == pytest.approx((45, 45))
    assert (attacked.low, attacked.high) == (pytest.approx((40, 40)), pytest.approx((50, 50)))
    assert list(lines) == ["clean", "under attack", "clean, exact Hessian", "under attack, exact Hessian"]
    assert lines["under attack, exact Hessian"].x == (1e-6, 1e-3)
    assert [one.style for one in a.series] == [0, 1, 2, 3]
    assert b.series[1].x == (2, 6, 11)
    assert (a.log_x, b.log_x) == (True, False)
    assert b.ticks == {2: "2", 6: "6", 11: "11"}
    assert "at L∞ 8/255" in b.title
    with pytest.raises(UserError, match="no two runs are alike but for"):
        Haat2().draw(records[-2:])
    other = tuned(1e-3, 2).model_copy(update={"evaluation": None})
    with pytest.raises(UserError, match=r"meseta evaluate RUN --suite autoattack --norm Linf --eps 0\.031"):
        Haat2().draw([*records[:1], tuned(1e-4, 6).model_copy(update={"evaluation": None}), other])
