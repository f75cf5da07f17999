from report_factory import make_cascade, make_evaluation, make_record, make_robust

from meseta.report.attack_tables import attack_tables
from meseta.report.comparison import runs_of


def tables_of(*robust):
    return attack_tables(
        runs_of([make_record(str(i), evaluation=make_evaluation(robust=[one])) for i, one in enumerate(robust)])
    )


def test_attacks_are_columns_in_the_order_of_the_record() -> None:
    robust = make_robust("Linf", 8 / 255, 0.4)
    (table,) = tables_of(robust, robust.model_copy(update={"attacks": robust.attacks[1:2]}))
    assert not table.cascade
    assert table.title == "L∞, eps = 8/255"
    assert table.attacks == tuple((one.name, one.attack) for one in robust.attacks)
    whole, single = table.rows
    assert [left and left.accuracy.value for left in whole.results] == [one.accuracy for one in robust.attacks]
    assert [left is None for left in single.results] == [True, False, True, True]
    assert all(left.broke is None for left in whole.results if left)


def test_a_cascade_accounts_for_every_example() -> None:
    """What an attack meets is what the one before left, and all broken and standing ones are the correct ones."""
    robust = make_cascade("Linf", 8 / 255, 0.4, clean=0.9, n=1000, by_others=7)
    (table,) = tables_of(robust)
    (row,) = table.rows
    assert table.cascade
    assert table.by_others
    broke = [left.broke for left in row.results if left]
    met = [one.attacked for one in robust.attacks]
    assert [a - b for a, b in zip(met, broke, strict=True)] == [*met[1:], 407]
    assert 900 - sum(broke) - robust.by_others == 1000 * robust.worst_case


def test_cascades_in_another_order_have_their_own_table() -> None:
    robust, cascade = make_robust("Linf", 8 / 255, 0.4), make_cascade("Linf", 8 / 255, 0.4)
    turned = cascade.model_copy(update={"attacks": cascade.attacks[::-1]})
    tables = tables_of(cascade, robust, turned, cascade)
    assert [[row.run.label for row in table.rows] for table in tables] == [["0", "3"], ["1"], ["2"]]
    assert [table.cascade for table in tables] == [True, False, True]
    assert tables[2].attacks == tables[0].attacks[::-1]
