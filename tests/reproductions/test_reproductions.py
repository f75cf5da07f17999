"""What every reproduction keeps: published settings by default, a smoke scale that runs, a page of what was found."""

import re
from dataclasses import fields, replace

import pytest
import yaml

from meseta.configuration import dump
from meseta.errors import UserError
from meseta.registry import reproductions
from meseta.report.reproduced import Part, read_reproduced
from meseta.reproductions import SCALES, reproduce

PAPERS = reproductions()
each = pytest.mark.parametrize("paper", PAPERS)


@each
def test_the_scale_of_the_paper_changes_nothing(paper):
    assert PAPERS[paper].at("paper") == PAPERS[paper]()
    assert not PAPERS[paper]().changed()


@each
def test_smaller_scales_say_what_they_change(paper):
    for scale in ("smoke", "short"):
        one = PAPERS[paper].at(scale)
        changed = {setting.name.split(".")[0] for setting in one.changed()}
        assert changed == {f.name for f in fields(one) if getattr(one, f.name) != getattr(PAPERS[paper](), f.name)}
        assert changed


def test_of_a_setting_that_has_settings_those_that_differ_are_named():
    one = PAPERS["guo2020"]()
    changed = replace(one, mlp=replace(one.mlp, seeds=2)).changed()
    assert [(setting.name, setting.published, setting.here) for setting in changed] == [("mlp.seeds", "10", "2")]


@each
def test_settings_are_plain_and_documented(paper):
    method = PAPERS[paper]
    yaml.safe_load(dump(method()))
    for field in fields(method):
        assert re.search(rf"\b{field.name}\b", method.__doc__), field.name


@each
@pytest.mark.usefixtures("pictures_alone")
def test_smoke_runs_every_part_once_and_writes_everything(paper, tmp_path):
    one, said = PAPERS[paper].at("smoke"), []
    page = reproduce(one, "smoke", out=tmp_path, say=said.append)
    found = read_reproduced(page.parent)
    assert list(found.parts) == list(one.parts())
    for part in found.parts.values():
        assert part.tables or part.figures
        for table in part.tables:
            assert table.rows
            assert all(len(row.entries) == len(table.columns) for row in table.rows)
        for figure in part.figures:
            assert (page.parent / "figures" / f"{figure}.png").stat().st_size > 1000
            assert f'id="figure-{figure}"' in page.read_text()
    text = (page.parent / "reproduction.md").read_text()
    assert all(part.title in text for part in found.parts.values())
    assert str(tmp_path) not in text


def test_a_second_call_trains_and_attacks_nothing(tmp_path):
    one, said = PAPERS["guo2020"].at("smoke"), []
    for again in (False, True):
        said.clear()
        page = reproduce(one, "smoke", out=tmp_path, only=["references"], say=said.append)
        assert any("training" in line for line in said) != again
        assert any("attacking" in line for line in said) != again
    assert said == ["guo2020: references"]
    assert list(read_reproduced(page.parent).parts) == ["references"]


def test_other_settings_need_another_folder(tmp_path):
    one = PAPERS["mustafa2020"].at("smoke")
    (tmp_path / "mustafa2020-smoke").mkdir()
    (tmp_path / "mustafa2020-smoke" / "reproduction.yaml").write_text(dump(one))
    with pytest.raises(UserError, match="other settings"):
        reproduce(replace(one, epochs=2), "smoke", out=tmp_path)


class Counting(PAPERS["mustafa2020"]):
    """A reproduction whose parts cost nothing."""

    def parts(self):
        return {name: lambda lab, name=name: Part(title=name) for name in ("a", "b")}


def test_parts_of_an_earlier_call_stay_unless_nobody_knows_its_settings(tmp_path):
    one = Counting.at("smoke")
    for name in ("a", "b"):
        page = reproduce(one, "smoke", out=tmp_path, only=[name])
    assert list(read_reproduced(page.parent).parts) == ["a", "b"]
    (page.parent / "reproduction.yaml").unlink()
    reproduce(one, "smoke", out=tmp_path, only=["b"])
    assert list(read_reproduced(page.parent).parts) == ["b"]


def test_an_unknown_part_is_named_before_anything_is_done(tmp_path):
    with pytest.raises(UserError, match=r"part: unknown name 'figure-11'\. Did you mean 'figure-1'"):
        reproduce(PAPERS["mustafa2020"].at("smoke"), "smoke", out=tmp_path / "new", only=["figure-11"])
    assert not (tmp_path / "new").exists()


def test_scales_are_those_of_the_command():
    assert SCALES == ("smoke", "short", "paper")
