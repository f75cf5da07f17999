from report_factory import make_pictured, make_record, make_records, make_training

from meseta.evaluation.record import Record
from meseta.report.comparison import runs_of
from meseta.report.rerun import MOST_DIFFERING, differing, flatten, settings, sources


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


def compared(*configs: tuple[str, dict]) -> dict[str, tuple[str, ...]]:
    records = [
        make_record(str(i), config={"name": str(i), "objective": config}, training=make_training(objective))
        for i, (objective, config) in enumerate(configs)
    ]
    shown, total = differing(runs_of(records))
    assert len(shown) == min(total, MOST_DIFFERING)
    return {one.key: one.values for one in shown}


def test_a_sweep_shows_what_it_sweeps_and_nothing_else() -> None:
    sweep = [("Cure(weight=1)", {"class_path": "Cure", "init_args": {"weight": w, "radius": 1.5}}) for w in (1, 2)]
    assert compared(*sweep) == {"weight": ("1", "2")}
    assert compared(sweep[0]) == {}


def test_objectives_differ_by_name_and_by_what_several_of_them_know() -> None:
    """A setting that only one of them knows says no more than its name."""
    found = compared(
        ("Erm()", {"class_path": "Erm", "init_args": {}}),
        ("Trades(beta=6)", {"class_path": "Trades", "init_args": {"beta": 6, "threat": {"eps": 0.1}}}),
        ("Llr(mu=3)", {"class_path": "Llr", "init_args": {"mu": 3, "threat": {"eps": 0.2}}}),
    )
    assert found == {"objective": ("Erm", "Trades", "Llr"), "eps": ("–", "0.1", "0.2")}


def test_a_wrapped_objective_is_named_with_what_it_wraps_and_compares_by_its_settings() -> None:
    inner = {"class_path": "Cure", "init_args": {"weight": 2.0}}
    found = compared(
        (
            "Scheduled(objective=Cure(weight=2.0), schedules={})",
            {"class_path": "Scheduled", "init_args": {"objective": inner}},
        ),
        ("Cure(weight=1.0)", {"class_path": "Cure", "init_args": {"weight": 1.0}}),
    )
    assert found == {"objective": ("Scheduled(Cure)", "Cure"), "weight": ("2.0", "1.0")}


def test_short_names_stay_apart() -> None:
    def config(steps: int) -> dict:
        attack = {"class_path": "PGD", "init_args": {"steps": steps, "solver": {"steps": steps + 1}}}
        return {"class_path": "AdversarialTraining", "init_args": {"attack": attack}}

    found = compared(("AdversarialTraining()", config(1)), ("AdversarialTraining()", config(3)))
    assert found == {"attack steps": ("1", "3"), "solver steps": ("2", "4")}


def test_every_section_says_where_it_is_from() -> None:
    record = make_record(pictured=[make_pictured(0), make_pictured(1)])
    names = [name for name, _ in sources(record)]
    assert names == ["training", "evaluation", *(one.measure for one in record.measures), "pictures: FMN(steps=100)"]
    assert sources(Record(name="a", model="m", data="d", config={})) == []
