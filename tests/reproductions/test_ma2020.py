"""The reproduction of Ma et al. 2020: what is trained as the paper says, and claims that follow the figures."""

from dataclasses import replace
from pathlib import Path

import pytest

from meseta.attacks import FGSM, PGD, GaussianNoise
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.record import read_record, write_record
from meseta.models import Mlp
from meseta.objectives import AdversarialTraining, Soar
from meseta.report.reproduced import Entry, ReproducedTable, Row
from meseta.reproductions import Lab, Ma2020
from meseta.reproductions.lab import DIVERGED, accuracies
from meseta.reproductions.ma2020 import (
    COLLAPSED,
    DECISION,
    INITIAL,
    LOSS,
    METHODS,
    NOTHING_LEFT,
    SIGMAS,
    SOURCES,
    STRENGTHS,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
    _column,
    _honest,
    _least,
    _linear_claims,
    _transformed,
)
from meseta.threat import Threat
from meseta.training import RunConfig
from meseta.workflow import EvaluateConfig

SHORT = Ma2020.at("short")


class Untrained:
    """A lab that trains nothing and says where the runs would be."""

    def train(self, *runs, may_diverge=False):
        return [Path("runs") / run.run_name for run in runs]


def config(name, seed=0, reproduction=None):
    return (reproduction or Ma2020())._config(Untrained(), name, seed)


def table(columns, rows, notes=None):
    """Return a table of one seed from {name: (entries, worst case)}."""
    return ReproducedTable(
        key="t",
        title="t",
        columns=columns,
        rows=[
            Row(
                name=name,
                entries=[Entry(ours=[value]) for value in values],
                worst_case=[worst],
                note=(notes or {}).get(name, ""),
            )
            for name, (values, worst) in rows.items()
        ],
    )


def test_tables_that_print_the_same_model_agree():
    assert TABLE_4["PGD1 init"][:2] == [TABLE_1["SOAR"][0], TABLE_1["SOAR"][3]]
    rounded = [(round(value, 1), spread) for value, spread in TABLE_4["PGD1 init"][2:]]
    assert [value for value, _ in rounded] == [value for value, _ in TABLE_3["SOAR"]]
    assert set(METHODS) == set(TABLE_1)
    assert set(INITIAL) == set(TABLE_4) < set(TABLE_5)


@pytest.mark.parametrize("printed", [TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_6, TABLE_7])
def test_printed_rows_are_whole(printed):
    assert len({len(row) for row in printed.values()}) == 1
    assert all(0 <= spread < value <= 100 for row in printed.values() for value, spread in row)


def test_a_stronger_attack_leaves_less_in_what_is_printed():
    assert all(row[0][0] > row[1][0] > row[2][0] > row[3][0] for row in TABLE_1.values())
    assert all(row[0][0] > row[1][0] > row[2][0] for t in (TABLE_2, TABLE_6, TABLE_7) for row in t.values())


def test_the_paper_scale_is_the_papers():
    assert Ma2020.at("paper") == Ma2020()
    assert Ma2020.at("paper").changed() == []
    assert {"epochs", "train_limit", "resnet_width"} <= {one.name for one in Ma2020.at("short").changed()}


def test_soar_goes_on_from_the_plain_model_as_appendix_c_says():
    run = config("soar-pgd1", seed=1)
    assert run.start_from == "runs/standard-s1"
    assert (run.epochs, run.batch_size, run.optimizer.lr, run.optimizer.momentum) == (150, 128, 0.002, 0.9)
    assert [round(150 * share) for share in run.schedule.milestones] == [90, 100]
    soar = run.objective
    assert isinstance(soar, Soar)
    assert (soar.weight, soar.value_clip, soar.gradient_clip, soar.alpha) == (0.5, 10, 30, 8 / 255)
    assert (soar.start, soar.form, soar.directions) == ("pgd1", "as_published", 1)


def test_training_from_scratch_follows_the_paper():
    run = config("standard")
    assert (run.epochs, run.optimizer.lr, run.optimizer.weight_decay, run.augment) == (200, 0.01, 2e-4, "crop_flip")
    assert [200 * share for share in run.schedule.milestones] == [100, 150]
    for name, steps in (("adv7", 7), ("adv1-scratch", 1)):
        objective = config(name).objective
        assert isinstance(objective, AdversarialTraining)
        assert isinstance(objective.attack, PGD)
        assert (objective.attack.steps, objective.attack.alpha) == (steps, pytest.approx(2 / 255))
        assert objective.attack.threat.eps == 8 / 255
    assert config("adv1-pretrain").schedule == config("soar-zero").schedule


def test_sources_share_no_seed_with_what_is_attacked():
    seeds = {config(name, seed).seed for name in METHODS.values() for seed in range(3)}
    assert seeds.isdisjoint({config(name, seed).seed for name in SOURCES for seed in range(3)})


def test_starts_weights_and_forms_are_told_apart():
    ours = Ma2020()
    assert ours._weighted("zero", 0.5) == "soar-zero"
    assert ours._objective(ours._weighted("zero", 2.0)) == ours._soar(start="zero", weight=2.0)
    assert ours._objective("soar-random").start == "random"
    assert ours._objective("soar-corrected").form == "corrected"


def test_figures_2_and_3_are_watched_on_what_they_show():
    main, other = config("soar-pgd1").watch, config("soar-pgd1-2").watch
    assert [one.directions for one in main.objectives] == [1, 100]
    assert all(one.form == "as_published" and one.value_clip is None for one in main.objectives)
    assert other.attacks == main.attacks
    assert config("soar-zero").watch is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [("seeds", 0), ("weights", ()), ("l2_eps", ()), ("dimensions", ()), ("dimensions", (1,)), ("draws", 1)],
)
def test_settings_that_leave_nothing_to_do_are_refused_at_once(setting, value):
    with pytest.raises(UserError, match=f"`{setting}`"):
        Ma2020(**{setting: value})


def test_short_scale_compares_on_the_same_examples():
    assert (SHORT.n_test, SHORT.n_judged, SHORT.n_wide) == (200, 200, 1000)
    assert SHORT._columns[-2:] == ["AutoAttack, n = 50", "clean, n = 1000"]
    assert Ma2020()._columns[-1] == "AutoAttack, n = 1000"  # the clean accuracy there is of all examples as it is


def test_labels_follow_the_settings():
    other = replace(SHORT, eps=4 / 255, steps=10, training_steps=5)
    assert (other._pgd7, other._pgd20, other._adv7) == ("PGD5", "PGD10", "Adv5")
    assert other._radius == "L∞ ε = 4/255"
    assert "PGD10, textbook loss" in other._columns
    rows = {other._shown(name): ([0] * 6, 0) for name in METHODS}
    columns = ["clean", "FGSM", "PGD5", "PGD10", other._auto_column, other._wide_clean]
    l2 = table(["ε = 20/255"], {name: ([0], 0) for name in rows})
    claims = other._white_box_claims(table(columns, rows), l2, dict.fromkeys(rows, 30))
    text = " ".join(claim.text + claim.evidence for claim in claims)
    assert "PGD10" in text
    assert "Adv5" in text
    assert not {"PGD20", "Adv7"} & set(text.replace(":", " ").split())


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A run with two attacks on eight examples, one on sixteen, and accuracy under noise."""
    lab, noise = Lab(tmp_path_factory.mktemp("ma"), thorough=False, say=str), GaussianNoise(sigma=0.5)
    (run,) = lab.train(RunConfig(name="a", data=DataConfig(train_limit=256), model=Mlp(hidden=(8,)), epochs=2))
    threat = Threat("Linf", 0.05)
    lab.judge([run], threat, n=8)
    for n in (8, 16):
        lab.attack([run], [FGSM(), PGD(steps=20)], [threat], n=n)
    lab.evaluate([run], EvaluateConfig(attacks=(FGSM(),), checks=(), transformations=(noise,), n=200), beside=True)
    return run, threat, noise


def test_what_the_paper_printed_stands_beside_its_settings_alone(attacked):
    run, _, _ = attacked
    for ours, shown in ((SHORT, 1.0), (replace(SHORT, steps=10), None), (replace(SHORT, eps=4 / 255), None)):
        row = ours._plain("SOAR", [run], [(1.0, 0.1)], [[2.0], [3.0]])
        assert [entry.published for entry in row.entries] == [shown, None]
        assert [entry.ours for entry in row.entries] == [[2.0], [3.0]]
        assert row.worst_case == []
    assert SHORT._plain("Adv7", [run], [], []).name == "Adv7"
    assert replace(SHORT, training_steps=3)._plain("Adv7", [run], [], []).name == "Adv3"


def test_the_worst_case_is_the_least_of_the_judged_examples(attacked, tmp_path):
    run, threat, _ = attacked
    record = read_record(run)
    assert _least(run, threat) <= min(accuracies([run], PGD(steps=20), threat, most=8)[0], record.evaluation.n * 100)

    def lowered(n):
        radii = [one.model_copy(update={"worst_case": 0.0}) for one in record.evaluation.robust]
        beside = record.evaluation.model_copy(update={"robust": radii, "n": n})
        easy = [one.model_copy(update={"worst_case": 1.0}) for one in record.evaluation.robust]
        judged = record.evaluation.model_copy(update={"robust": easy})
        write_record(
            record.model_copy(update={"evaluation": judged, "other_evaluations": [beside]}), tmp_path / "record.json"
        )
        return _least(tmp_path, threat)

    assert lowered(n=8) == 0
    assert lowered(n=16) == 100  # of other examples, and no bound on these
    (tmp_path / DIVERGED).touch()
    assert _least(tmp_path, threat) is None


def test_a_seed_that_diverged_leaves_no_worst_case_to_claim_about(attacked, tmp_path):
    run, _, _ = attacked
    (tmp_path / DIVERGED).touch()
    ours = replace(SHORT, eps=0.05)
    one, both = (ours._row(name, runs, [], []) for name, runs in (("one", [run]), ("both", [run, tmp_path])))
    found = table(["clean"], {})
    honest = _honest(found.model_copy(update={"rows": [one, both]}))
    assert honest["one"] is not None
    assert honest["both"] is None


def test_transformed_images_count_whatever_the_model_says_of_them_plain(attacked, tmp_path):
    run, _, noise = attacked
    record = read_record(run)
    (found,) = record.other_evaluations[-1].transformed
    assert _transformed(run, noise) == 100 * found.alone > 100 * found.accuracy
    older = found.model_copy(update={"alone": None})
    evaluation = record.other_evaluations[-1].model_copy(update={"transformed": [older]})
    write_record(record.model_copy(update={"other_evaluations": [evaluation]}), tmp_path / "record.json")
    with pytest.raises(UserError, match="Evaluate it anew"):
        _transformed(tmp_path, noise)


COLUMNS = SHORT._columns


def initialisation(zero, worst, sure, decision, judged=None, adv7=50):
    """Return the claims where zero and random init do alike: PGD20, CNN and the textbook loss are of `zero`."""
    pgd, cnn, textbook = zero
    row = ([80, pgd, cnn, 60, 30, textbook, 0, 80], worst)
    table_4 = table(
        COLUMNS, {"zero init": row, "random init": row, "PGD1 init": ([80, 33, 70, 80, 30, 33, 20, 80], 20)}
    )
    names = ("Standard", "Adv7", "Adv1-scratch", "Adv1-pretrain", *INITIAL)
    of = {"Standard": 90, "Adv7": adv7, "zero init": sure, "random init": sure}
    table_5 = table(["clean"], {name: ([of.get(name, 80)], 0) for name in names})
    slope = ([0.1, decision], 0)
    slopes = table(
        [LOSS, DECISION],
        {"Standard": ([0.5, 2.0], 0), "zero init": slope, "random init": slope, "PGD1 init": ([0.3, 1.0], 0)},
    )
    kept = dict.fromkeys(INITIAL, pgd if judged is None else judged)
    return SHORT._initialisation_claims(table_4, table_5, slopes, kept)


def test_the_claims_on_initialisation_hold_where_gradients_are_masked():
    claims = initialisation(zero=(70, 15, 85), worst=2, sure=99.6, decision=3.0)
    assert [claim.holds for claim in claims] == [True] * 7
    assert all("n = 200" in claims[k].evidence for k in (0, 1, 4, 6))
    assert all("n = 1000" in claims[k].evidence for k in (2, 3, 5))


def test_the_claims_on_initialisation_fall_where_they_are_not():
    claims = initialisation(zero=(40, 70, 20), worst=98, judged=98, sure=60, decision=1.0, adv7=95)
    assert [claim.holds for claim in claims] == [False, None, False, False, False, False, False]
    assert "no such gap" in claims[1].evidence


def test_a_gap_without_robustness_and_a_certainty_above_the_plain_one_are_not_enough():
    claims = initialisation(zero=(30, 5, 30), worst=5, sure=94, decision=2.0)
    assert claims[0].holds is False
    assert claims[2].holds is not True
    assert claims[5].holds is None  # as steep as the plain one, within a tenth


def test_nothing_is_said_of_what_pgd_leaves_where_it_leaves_nothing():
    claims = initialisation(zero=(1, 40, 1), worst=0, sure=99, decision=3.0)
    for k in (4, 6):
        assert claims[k].holds is None
        assert NOTHING_LEFT in claims[k].evidence
    assert initialisation(zero=(70, 15, 85), worst=66, sure=99, decision=3.0)[4].holds is None  # chance may be it


def white_box(soar, adv7, worst_soar, worst_adv7, notes=None):
    def row(values, worst):
        return [*values, 0, 0, values[0]], worst

    linf = table(
        ["clean", "FGSM", "PGD7", "PGD20", "APGD", SHORT._auto_column, SHORT._wide_clean],
        {
            "Standard": row((86, 22, 1, 0), 0),
            "Adv7": row(adv7, worst_adv7),
            "Adv1-scratch": row((83, 28, 17, 13), 10),
            "Adv1-pretrain": row((84, 23, 12, 8), 7),
            "SOAR": row(soar, worst_soar),
        },
        notes,
    )
    l2 = table(["ε = 20/255"], {"Adv7": ([adv7[0] - 2], 0), "SOAR": ([soar[0] - 2], 0)}, notes)
    claims = SHORT._white_box_claims(linf, l2, {"SOAR": soar[3], "Adv7": adv7[3]})
    assert [f"n = {n}" in claim.evidence for claim, n in zip(claims, (1000, *[200] * 5), strict=True)] == [True] * 6
    return [claim.holds for claim in claims]


def test_the_claims_on_white_box_attacks_go_both_ways():
    assert white_box((88, 62, 50, 48), (71, 42, 38, 36), 18, 34) == [True] * 6
    assert white_box((60, 20, 9, 1), (75, 42, 38, 36), 1, 20) == [False, False, False, False, None, False]
    assert white_box((60, 20, 9, 20), (71, 42, 38, 40), 1, 20)[4] is None
    assert white_box((60, 20, 9, 20), (71, 42, 38, 40), 19, 10)[4] is False


def test_one_example_decides_nothing():
    assert white_box((71.5, 42.5, 30, 30), (71, 42, 38, 35), 20, 25.5)[:2] == [None, None]


@pytest.mark.parametrize("name", ["SOAR", "Adv7"])
def test_nothing_is_claimed_of_a_collapsed_model(name):
    found = white_box((88, 62, 50, 48), (71, 42, 38, 36), 18, 34, {name: COLLAPSED})
    assert [found[k] for k in (0, 1, 3, 4)] == [None] * 4


def test_a_missing_figure_decides_nothing():
    assert white_box((88, None, 50, 48), (71, 42, 38, 36), 18, 34)[1] is None


def test_the_claims_on_transfer_go_both_ways():
    def holds(soar, adv7, plain, white):
        rows = {"Standard": ([plain, plain], 0), "Adv7": ([adv7, adv7], 0), "SOAR": ([soar, soar], 0)}
        return [claim.holds for claim in SHORT._black_box_claims(table(list(SOURCES), rows), white)]

    assert holds(80, 60, 40, 0) == [True, True]
    assert holds(60, 80, 20, 40) == [False, False]
    assert holds(60, 61, 7, 0) == [None, None]


def test_the_claims_on_transformations_go_both_ways():
    def holds(soar, adv7, plain):
        rows = {"Standard": ([plain] * 3, 0), "Adv7": ([adv7] * 3, 0), "SOAR": ([soar] * 3, 0)}
        claims = SHORT._transformation_claims(table(STRENGTHS, rows), table(SIGMAS, rows))
        assert all("n = 1000" in claim.evidence for claim in claims)
        return [claim.holds for claim in claims]

    assert holds(70, 60, 50) == [True] * 3
    assert holds(50, 60, 70) == [False] * 3
    assert holds(60.5, 60, 60) == [None] * 3


def weight_claims(low, high, zero, corrected):
    rest = [50, 60, 0, 0, 0, 80]
    rows = {
        "PGD1 init, λ = 0.1": ([80, 10, *rest], 5),
        "PGD1 init, λ = 0.5": ([80, low, *rest], 20),
        "PGD1 init, λ = 1": ([80, high, *rest], 20),
        "zero init, λ = 0.5": ([80, 20, *rest], 5),
        "zero init, λ = 1": ([80, zero, *rest], 5),
        "PGD1 init, λ = 0.5, corrected R": ([80, 10, *rest], corrected),
    }
    return SHORT._weight_claims(table(COLUMNS, rows), [0.1, 0.5, 1.0], [0.5, 1.0])


def test_the_claims_on_weight_go_both_ways():
    assert [claim.holds for claim in weight_claims(30, 45, 70, 35)] == [True] * 3
    assert [claim.holds for claim in weight_claims(30, 10, 40, 9)] == [False] * 3
    assert [claim.holds for claim in weight_claims(30, 31, 56, 21)] == [None] * 3


def test_robustness_rises_only_where_it_does_from_each_weight_to_the_next():
    claim = weight_claims(60, 40, 70, 35)[0]
    assert claim.holds is False  # 10, 60, 40
    assert "60.0 % at λ = 0.5, 40.0 % at λ = 1" in claim.evidence


def test_one_weight_tells_nothing_of_weights():
    rows = {"PGD1 init, λ = 0.5": ([80, 30] + [50] * 6, 20), "zero init, λ = 0.5": ([80, 80] + [50] * 6, 5)}
    rows["PGD1 init, λ = 0.5, corrected R"] = ([80, 30] + [50] * 6, 20)
    claims = SHORT._weight_claims(table(COLUMNS, rows), [0.5], [0.5])
    assert [claim.holds for claim in claims[:2]] == [None, None]


def test_columns_are_found_by_name_and_leave_collapsed_models_out():
    found = table(["a", "b"], {"x": ([1, 2], 0), "y": ([3, 4], 0)}, {"y": COLLAPSED})
    assert _column(found, "b") == {"x": 2, "y": None}


def linear(mean, closed, error, ridge, robust):
    return Row(name="d = 10", entries=[Entry(ours=[value]) for value in (mean, closed, error, ridge, robust)])


def test_the_claims_on_the_linear_example_go_both_ways():
    def holds(*values, unmoved=True):
        return [claim.holds for claim in _linear_claims([linear(*values)], unmoved=unmoved)]

    assert holds(1.7, 1.65, 0.02, 0.002, 1e-20) == [True, True]
    assert holds(1.8, 1.65, 0.02, 0.002, 1.69) == [False, False]  # a little less is not mended
    assert holds(1.7, 1.65, 0.02, 1.0, 1e-20, unmoved=False) == [False, False]
    assert holds(1.7, 1.65, 0.02, None, 0.1)[1] is None
