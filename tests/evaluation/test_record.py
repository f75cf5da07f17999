import json
import subprocess
import sys

import pytest

from meseta.errors import UserError
from meseta.evaluation.record import Record, find_records, read_record, write_record

RECORD = Record(name="a", model="SiluCnn()", data="digits", config={"epochs": 1})


def test_round_trip(tmp_path):
    run = tmp_path / "run"
    write_record(RECORD, run / "record.json")
    assert read_record(run) == read_record(run / "record.json") == RECORD
    assert find_records([run]) == find_records([tmp_path]) == find_records([run / "record.json"]) == [RECORD]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "does not fit the schema"),
        ('{"schema_version": 99}', "has schema version 99; this meseta reads version 1"),
        ('{"schema_version": 1, "name": "a"}', "model: Field required"),
        (RECORD.model_dump_json()[:-1] + ', "surprise": 1}', "surprise: Extra inputs"),
        ("[" * 200_000, "is not JSON"),
        (RECORD.model_dump_json().replace('"a"', '"\\ud800"'), "half a character"),
    ],
)
def test_bad_records_are_named(tmp_path, text, message):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_record(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("clean_accuracy", 1.5), ("n", -3), ("nonfinite_logits", -1)])
def test_figures_that_cannot_be_are_refused(tmp_path, field, value):
    provenance = {"command": "c", "created": "now", "seconds": 1, "seed": 0, "device": "cpu", "versions": {}}
    good = {"split": "test", "n": 10, "clean_accuracy": 0.9, "nonfinite_logits": 0, "robust": []}
    for changed, refused in ((good, False), (good | {field: value}, True)):
        evaluation = {"provenance": provenance | {"commit": None}} | changed
        (tmp_path / "record.json").write_text(json.dumps(RECORD.model_dump() | {"evaluation": evaluation}))
        if refused:
            with pytest.raises(UserError, match=f"evaluation.{field}"):
                read_record(tmp_path)
        else:
            read_record(tmp_path)


def test_missing_and_binary_records(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_record(tmp_path)
    with pytest.raises(UserError, match=r"no record\.json"):
        find_records([tmp_path])
    (tmp_path / "record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        read_record(tmp_path)


def test_an_interrupted_write_leaves_the_old_record(tmp_path, monkeypatch):
    file = tmp_path / "record.json"
    write_record(RECORD, file)
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_record(RECORD.model_copy(update={"name": "b"}), file)
    assert json.loads(file.read_text())["name"] == "a"
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_records_need_no_torch():
    code = "import sys; sys.modules['torch'] = None; import meseta.evaluation.record, meseta.cli, meseta.report"
    subprocess.run([sys.executable, "-c", code], check=True)
