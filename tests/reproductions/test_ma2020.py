"""The reproduction of Ma et al. 2020: what is trained as the paper says, and claims that follow the figures."""

from pathlib import Path

import pytest

from meseta.attacks import PGD
from meseta.objectives import AdversarialTraining, Soar
from meseta.report.reproduced import Entry, ReproducedTable, Row
from meseta.reproductions import Ma2020
from meseta.reproductions.ma2020 import (
    INITIAL,
    METHODS,
    SOURCES,
    TABLE_1,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    TABLE_6,
    TABLE_7,
)


class Untrained:
    """A lab that trains nothing and says where the runs would be."""

    def train(self, *runs, may_diverge=False):
        return [Path("runs") / run.run_name for run in runs]


def config(name, seed=0, reproduction=None):
    return (reproduction or Ma2020())._config(Untrained(), name, seed)


def table(columns, rows):
    """Return a table of one seed from {name: (entries, worst case)}."""
    return ReproducedTable(
        key="t",
        title="t",
        columns=columns,
        rows=[
            Row(name=name, entries=[Entry(ours=[value]) for value in values], worst_case=[worst])
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


COLUMNS = ["clean", "PGD20", *SOURCES, "APGD", "textbook", "AutoAttack"]


def initialisation(zero, worst, sure, decision):
    """Return the claims where zero and random init do alike: PGD20, CNN and the textbook loss are of `zero`."""
    pgd, cnn, textbook = zero
    row = ([80, pgd, cnn, 60, 30, textbook, 0], worst)
    table_4 = table(COLUMNS, {"zero init": row, "random init": row, "PGD1 init": ([80, 33, 70, 80, 30, 33, 20], 20)})
    names = ("Standard", "Adv7", "Adv1-scratch", "Adv1-pretrain", *INITIAL)
    of = {"Standard": 90, "Adv7": 50, "zero init": sure, "random init": sure}
    table_5 = table(["clean"], {name: ([of.get(name, 80)], 0) for name in names})
    slope = ([0.1, decision], 0)
    slopes = table(
        ["loss", "decision"],
        {"Standard": ([0.5, 2.0], 0), "zero init": slope, "random init": slope, "PGD1 init": ([0.3, 1.0], 0)},
    )
    return [claim.holds for claim in Ma2020()._initialisation_claims(table_4, table_5, slopes)]


def test_the_claims_on_initialisation_hold_where_gradients_are_masked():
    assert initialisation(zero=(70, 15, 85), worst=2, sure=99.6, decision=3.0) == [True] * 7


def test_the_claims_on_initialisation_fall_where_they_are_not():
    found = initialisation(zero=(15, 70, 15), worst=14, sure=60, decision=1.0)
    assert found == [False, True, False, True, False, False, False]


def white_box(soar, adv7, worst_soar, worst_adv7):
    def row(values, worst):
        return [*values, 0, 0], worst

    linf = table(
        ["clean", "FGSM", "PGD7", "PGD20", "APGD", "AutoAttack"],
        {
            "Standard": row((86, 22, 1, 0), 0),
            "Adv7": row(adv7, worst_adv7),
            "Adv1-scratch": row((83, 28, 17, 13), 10),
            "Adv1-pretrain": row((84, 23, 12, 8), 7),
            "SOAR": row(soar, worst_soar),
        },
    )
    l2 = table(["20"], {"Standard": ([60], 0), "Adv7": ([adv7[0] - 2], 0), "SOAR": ([soar[0] - 5], 0)})
    return [claim.holds for claim in Ma2020()._white_box_claims(linf, l2)]


def test_the_claims_on_white_box_attacks_go_both_ways():
    assert white_box((82, 48, 39, 33), (71, 42, 38, 36), 18, 34) == [True] * 6
    assert white_box((60, 20, 9, 5), (71, 42, 38, 36), 4, 30) == [False] * 6


def test_a_missing_figure_decides_nothing():
    assert white_box((82, None, 39, 33), (71, 42, 38, 36), 18, 34)[1] is None


def test_the_claims_on_weight_go_both_ways():
    def holds(high, zero, corrected):
        rows = {
            "PGD1 init, λ = 0.1": ([80, 10, 50, 60, 0, 0, 0], 5),
            "PGD1 init, λ = 0.5": ([80, high, 50, 60, 0, 0, 0], 10),
            "zero init, λ = 0.5": ([80, 20, 50, 60, 0, 0, 0], 5),
            "zero init, λ = 1": ([80, zero, 50, 60, 0, 0, 0], 5),
            "PGD1 init, λ = 0.5, corrected R": ([80, 10, 50, 60, 0, 0, 0], corrected),
        }
        claims = Ma2020()._weight_claims(table(COLUMNS, rows), [0.1, 0.5], [0.5, 1.0])
        return [claim.holds for claim in claims]

    assert holds(30, 60, 15) == [True, True, True]
    assert holds(5, 50, 9) == [False, False, False]
