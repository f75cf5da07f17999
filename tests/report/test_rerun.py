from report_factory import make_records

from meseta.report.comparison import runs_of
from meseta.report.rerun import flatten, settings


def test_settings_that_differ_come_first() -> None:
    rows = settings(runs_of(make_records(2)))
    differs = [row.differs for row in rows]
    assert differs == sorted(differs, reverse=True)
    assert {row.key for row in rows if row.differs} == {
        "objective",
        "config: objective.name",
        "config: objective.weight",
    }


def test_flatten_tells_null_from_text() -> None:
    assert flatten({"a": {"b": None, "c": {}}, "d": "x", "e": [1, "y"]}) == {
        "a.b": "null",
        "a.c": "{}",
        "d": "x",
        "e": '[1, "y"]',
    }
