import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_factory import (
    make_bounded,
    make_bounds,
    make_cascade,
    make_checked_records,
    make_curve,
    make_distribution,
    make_evaluation,
    make_finding,
    make_masking,
    make_measured,
    make_pictured,
    make_record,
    make_records,
    make_robust,
    make_training,
    make_transformed,
)

from meseta.cli import main
from meseta.errors import MissingExtra, UserError
from meseta.evaluation.record import LeftOut, Record, write_record
from meseta.report import comparison_table, web, write_report
from meseta.report.comparison import runs_of
from meseta.report.notices import notices
from meseta.report.page import headlines, render

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"


class Page(HTMLParser):
    """A page read back: scripts, attributes, text and the cells of each table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: list[list[list[tuple[str, dict[str, str | None]]]]] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs)))
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "script" in self._inside:
            self.scripts[-1] += data
        elif "style" not in self._inside:
            self.text += data
            if {"td", "th"} & set(self._inside):
                text, attrs = self.tables[-1][-1][-1]
                self.tables[-1][-1][-1] = text + data, attrs


def spoil(value: Any, free: bool = True) -> Any:
    """Put markup in every free string of a record, keys included."""
    if isinstance(value, dict):
        return {(key + EVIL if free else key): spoil(one) for key, one in value.items()}
    if isinstance(value, list):
        return [spoil(one) for one in value]
    return value + EVIL if isinstance(value, str) else value


def spoiled_record() -> Record:
    def walk(value: Any, key: str = "") -> Any:
        if key in ("config", "versions", "figures"):
            return spoil(value)
        if isinstance(value, dict) and key not in ("parts", "curves"):
            return {k: walk(v, k) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [walk(one, key) for one in value]
        if key in ("parts", "curves"):
            return {k + EVIL: one for k, one in value.items()}
        kept = ("norm", "kind", "level", "verdict", "pixels")
        return value + EVIL if isinstance(value, str) and key not in kept else value

    measured = make_measured(
        "M(X)", [1.0, 2.0], parts={"p": make_distribution([1.0, 2.0])}, curves={"c": make_curve([1.0, 2.0])}
    )
    masking = make_masking(BlackBox="broken", OneStep="suspicious", Stochastic="untested")
    evaluation = make_evaluation(masking=masking, transformed=make_transformed(0.9), suite="standard")
    pictured = [make_pictured(0), make_pictured(1, predicted=4)]
    record = make_record(bounds=make_bounds(20), measures=[measured], evaluation=evaluation, pictured=pictured)
    return Record.model_validate(walk(record.model_dump()))


@pytest.mark.parametrize("records", [make_records(3), make_checked_records()], ids=["unchecked", "checked"])
def test_numbers_agree_with_the_record(records: list[Record]) -> None:
    table = comparison_table(records)
    titles, *rows = Page(render(records)).tables[0][1:]
    assert [attrs["title"] for _, attrs in titles] == [column.title for column in table.columns]
    for cells, row in zip(rows, table.rows, strict=True):
        for (text, attrs), cell in zip(cells, row, strict=True):
            assert text.split()[: len(cell.text.split())] == cell.text.split()
            assert attrs.get("data-value") == (None if cell.value is None else str(cell.value))
            assert attrs.get("title", "") == cell.detail


def test_a_row_of_the_page_is_the_record(tmp_path: Path) -> None:
    """From the file: what the page sorts by is what the record holds, to the last digit."""
    records = make_records(2)
    write_report(records, tmp_path / "report.html")
    titles, *rows = Page((tmp_path / "report.html").read_text()).tables[0][1:]
    for record, row in zip(records, rows, strict=True):
        values = {
            str(title["title"]): cell.get("data-value") for (_, title), (_, cell) in zip(titles, row, strict=True)
        }
        evaluation, training = record.evaluation, record.training
        assert evaluation
        assert training
        assert float(str(values["Clean accuracy (%)"])) == evaluation.clean_accuracy
        assert float(str(values["Worst case, L2 0.25 (%)"])) == evaluation.robust[3].worst_case
        assert float(str(values["Training, s per epoch"])) == training.seconds_per_epoch
        assert float(str(values["Setting: weight"])) == record.config["objective"]["weight"]
        for one in record.measures:
            assert float(str(values[f"{one.name}, median"])) == one.median


def test_interval_and_n_are_on_the_page() -> None:
    cell = Page(render(make_records(1))).tables[0][2][3]
    assert cell[0].split() == ["93.0", "91.2–94.4"]
    assert "n = 1000" in str(cell[1]["title"])


def test_measures_of_one_column_on_other_examples_are_announced() -> None:
    name = "SpectralCurvature(CrossEntropy)"
    same, other = ([make_measured(name, [1.0] * n)] for n in (5, 7))
    found = notices(runs_of([make_record("a", measures=same), make_record("b", measures=other)]))
    assert f"{name} was not taken on the same examples of all runs (n = 5 to 7); compare with care." in found
    assert not any(
        name in one for one in notices(runs_of([make_record("a", measures=same), make_record("b", measures=same)]))
    )


def test_every_attack_is_shown_with_its_violations() -> None:
    robust = [make_robust("Linf", 8 / 255, 0.4, violations=7)]
    record = make_record(evaluation=make_evaluation(robust=robust, nonfinite_logits=3))
    html = render([record])
    page = Page(html)
    header, row = next(table for table in page.tables if any(c[0] == "worst case" for c in table[0]))
    shown = dict(zip((c[0] for c in header), (c[0].split() for c in row), strict=True))
    for attack in robust[0].attacks:
        assert shown[attack.name][0] == f"{100 * attack.accuracy:.1f}"
    assert shown["FGSM"][1:] == ["7", "violations"]
    assert shown["worst case"][0] == "40.0"
    assert shown["non-finite logits"] == ["3"]
    assert len(notices(runs_of([record]))) == 2


@pytest.mark.parametrize("count", [1, 2])
def test_markup_in_any_field_is_text(count: int) -> None:
    page = Page(render([spoiled_record(), make_record()][:count]))
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert all(str(attrs["src"]).startswith("data:image/png;base64,") for tag, attrs in page.tags if tag == "img")
    assert sum(tag == "img" for tag, _ in page.tags) == 4
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "<script>alert(1)</script>" in page.text
    assert "{{7*7}}" in page.text
    json.loads(page.scripts[0])


def test_markup_never_closes_the_embedded_json() -> None:
    html = render([spoiled_record()])
    start = html.index('<script type="application/json"')
    assert "<" not in html[html.index(">", start) + 1 : html.index("</script>", start)]


def test_nothing_is_loaded_and_plotly_is_embedded_once() -> None:
    from plotly.offline import get_plotlyjs

    html = render(make_records(2))
    assert html.count(get_plotlyjs()) == 1
    own = html.replace(get_plotlyjs(), "")
    assert "http:" not in own
    assert "https:" not in own
    assert "url(" not in own
    assert "@import" not in own
    links = [attrs[name] for _, attrs in Page(own).tags for name in ("src", "href") if name in attrs]
    assert all(str(link).startswith("#") for link in links)


def test_anchors_lead_somewhere() -> None:
    for records in (make_records(2), [make_record(evaluation=None, measures=[], training=None)]):
        tags = Page(render(records)).tags
        ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        assert {str(attrs["href"])[1:] for tag, attrs in tags if tag == "a"} <= set(ids)


def test_same_records_give_the_same_bytes() -> None:
    assert render(make_records(2)) == render(make_records(2))


def test_twenty_runs_stay_small(tmp_path: Path) -> None:
    write_report(make_records(20), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 15e6


@pytest.mark.parametrize(
    "records",
    [
        [make_record(evaluation=None, measures=[], training=None, config={})],
        [make_record("erm"), make_record("erm")],
        [make_record("x" * 5000), make_record("")],
        [make_record(measures=[make_measured("Zero(X)", [0.0] * 9), make_measured("Null(X)", [None] * 9)])],
        [make_record(evaluation=make_evaluation(robust=[])), make_record("b", evaluation=None)],
        [make_record(evaluation=make_evaluation(n=0))],
        [make_record(evaluation=make_evaluation(robust=[], masking=make_masking())), *make_checked_records()],
        [make_record(bounds=[make_bounded("attack", [0.0, None]), make_bounded("attack", [0.0] * 3, norm="L1")])],
        [make_record(bounds=[make_bounded("sound", [0.0, None]), make_bounded("attack", [0.0, None], norm="Linf")])],
    ],
    ids=["bare", "duplicates", "long", "degenerate", "partial", "n=0", "checked", "only attacks", "no distance"],
)
def test_edge_cases_render(records: list[Record]) -> None:
    page = Page(render(records))
    assert not re.search(r"\b(nan|inf|None)\b", page.text.replace("NaN or infinite", ""))
    assert len(page.tables[0]) == 2 + len(records)


def test_runs_on_other_examples_or_against_other_attacks_are_announced() -> None:
    fewer = make_record("fewer", evaluation=make_evaluation(n=500))
    robust = make_robust("Linf", 8 / 255, 0.4)
    weaker = robust.model_copy(update={"attacks": robust.attacks[:1]})
    weak = make_record("weak", evaluation=make_evaluation(robust=[weaker]))
    assert any("same examples" in notice for notice in notices(runs_of([make_record(), fewer])))
    assert any("different attacks" in notice for notice in notices(runs_of([make_record(), weak])))
    assert notices(runs_of(make_records(2))) == []


def test_certificates_have_their_section_and_say_what_the_kinds_are() -> None:
    html = render([make_record("a", bounds=make_bounds(30)), make_record("b")])
    page = Page(html)
    assert 'id="certificates"' in html
    assert "A certified radius is sound" in page.text
    for name in (
        "certified (sound): Certificate",
        "estimate: Taylor",
        "proxy: LinearPiece",
        "smallest attack: FMN-100",
    ):
        assert name in page.text
    assert {"figure-certified-accuracy-L2", "figure-distances-L2-a"} < {attrs.get("id") for _, attrs in page.tags}
    assert 'id="certificates"' not in render([make_record("b")])


def test_examples_are_pictures_with_words_for_those_who_do_not_see_them() -> None:
    page = Page(render([make_record("erm", pictured=[make_pictured(0), make_pictured(1, predicted=4)])]))
    alt = [attrs["alt"] for tag, attrs in page.tags if tag == "img"]
    assert alt == [
        "example 0, input: label 3",
        "example 0, erm: perturbation: ×20.0, m = 0.0250",
        "example 0, erm: adversarial: 3 → 5, L∞ 0.0250",
        "example 1, input: label 3",
    ]
    assert "misclassified as 4 already" in page.text
    assert "red" in page.text
    assert 'id="examples"' not in render([make_record()])


def test_a_certificate_beyond_an_attack_is_announced() -> None:
    sound = make_bounded("sound", [0.1, 0.9, 0.4])
    attack = make_bounded("attack", [0.5, 0.5, 0.4], ignored=2)
    found = notices(runs_of([make_record(bounds=[sound, attack])]))
    assert any("on 1 of 3 examples an attack is nearer" in notice for notice in found)
    assert any("did not accept 2 results of FMN-100" in notice for notice in found)
    other = make_record("b", bounds=[make_bounded("sound", [0.1] * 9)])
    assert any("not taken on the same examples" in n for n in notices(runs_of([make_record(bounds=[sound]), other])))


def test_the_page_leads_with_the_verdict_and_the_worst_case_beside_it() -> None:
    """The order is verdict, comparison; the number is that of the record at the threat of the checks."""
    html = render(make_checked_records())
    assert html.index('id="verdict"') < html.index('id="comparison"')
    lead = Page(html[html.index('id="verdict"') : html.index('id="comparison"')]).text.split()
    text = " ".join(lead)
    for record in make_checked_records():
        assert record.evaluation
        worst = next(one.worst_case for one in record.evaluation.robust if one.eps == 8 / 255)
        assert f"{100 * worst:.1f} %" in text.replace("\xa0", " ")
    for words in ("trusted ✓", "suspicious !", "broken ✗", "not checked", "This report fails", "upper bound"):
        assert words in text
    assert make_finding("BlackBox", "broken").evidence in text
    assert make_finding("BlackBox", "fine").evidence not in text
    assert "This report fails" not in Page(render([make_checked_records()[0]])).text


def test_the_headline_is_the_worst_case_at_the_largest_eps_that_all_runs_met() -> None:
    robust = [make_robust("Linf", eps / 255, 1 / eps) for eps in (2, 4, 8)] + [make_robust("L2", 0.5, 0.9)]

    def headline(**masking: Any) -> tuple[str, object]:
        checked = make_masking(**masking) if masking else None
        (one,) = headlines(runs_of([make_record(evaluation=make_evaluation(robust=robust, masking=checked))]))
        return one.threat, one.worst_case and one.worst_case.value

    assert headline() == ("L∞ 8/255", 1 / 8)
    assert headline(eps=4 / 255) == ("L∞ 8/255", 1 / 8)
    assert headline(eps=16 / 255) == ("L∞ 8/255", 1 / 8)
    assert headline(norm="L2", eps=0.5) == ("L2 0.5", 0.9)
    assert headline(norm="L1", eps=12.0)[1] in (1 / 8, 0.9)
    fewer = make_record(evaluation=make_evaluation(robust=robust[:2]))
    both = headlines(runs_of([make_record(evaluation=make_evaluation(robust=robust)), fewer]))
    assert [(one.threat, one.worst_case and one.worst_case.value) for one in both] == [("L∞ 4/255", 1 / 4)] * 2
    apart = [make_evaluation(robust=robust, masking=make_masking(norm=norm)) for norm in ("Linf", "L2")]
    of_both = headlines(runs_of([make_record(evaluation=one) for one in apart]))  # at one threat, to be compared
    assert [one.threat for one in of_both] == ["L∞ 8/255"] * 2


def test_a_run_that_was_not_attacked_has_no_verdict() -> None:
    assert headlines(runs_of([make_record(evaluation=None)])) == []
    assert 'id="verdict"' not in render([make_record(evaluation=None)])


def test_every_finding_is_on_the_page() -> None:
    for records in (make_checked_records(), make_checked_records()[2:3]):
        text = Page(render(records)).text
        for record in records:
            for finding in (
                record.evaluation.masking.findings if record.evaluation and record.evaluation.masking else []
            ):
                for words in (finding.name, finding.evidence, finding.rule, finding.check):
                    assert words in text


def test_levels_are_compared_check_by_check() -> None:
    tables = Page(render(make_checked_records())).tables
    header, *rows = next(table for table in tables if len(table[0]) == 4 and table[0][0][0] == "Check")
    assert [cell[0] for cell in header] == ["Check", "trades", "soar", "quantised"]
    levels = {row[0][0]: [" ".join(cell[0].split()) for cell in row[1:]] for row in rows}
    assert levels["BlackBox"] == ["fine ✓", "fine ✓", "broken ✗"]
    assert levels["FiniteDifferences"] == ["untested", "fine ✓", "fine ✓"]
    assert levels["Verdict"] == ["trusted ✓", "suspicious !", "broken ✗"]


def test_a_cascade_says_what_stands_after_each_attack_and_what_it_met() -> None:
    robust = make_cascade("Linf", 8 / 255, 0.4, clean=0.9, by_others=5)
    page = Page(render([make_record(evaluation=make_evaluation(robust=[robust]))]))
    assert "those before it left standing" in page.text
    header, row = next(table for table in page.tables if any(c[0] == "worst case" for c in table[0]))
    titles = [" ".join(cell[0].split()) for cell in header]
    shown = dict(zip(titles, (" ".join(cell[0].split()) for cell in row), strict=True))
    assert shown["standing after FGSM"] == "47.9 broke 421 of 900"
    assert (
        shown["standing after Square-1000"]
        == f"40.5 broke {robust.attacks[-1].attacked - 405} of {robust.attacks[-1].attacked}"
    )
    assert shown["other searches"] == "broke 5 more"
    assert shown["worst case"].startswith("40.0")
    assert any(
        "5 at L∞ 8/255" in notice
        for notice in notices(runs_of([make_record(evaluation=make_evaluation(robust=[robust]))]))
    )


def test_checks_at_several_thresholds_are_announced() -> None:
    evaluations = [make_evaluation(masking=make_masking(eps=eps)) for eps in (4 / 255, 8 / 255)]
    records = [make_record(str(i), evaluation=one) for i, one in enumerate(evaluations)]
    assert notices(runs_of(records)) == ["The masking checks ran at different thresholds: a verdict holds at its own."]


def test_a_record_from_before_the_checks_reads_and_renders_as_it_did() -> None:
    content = make_record().model_dump()
    for field in ("suite", "masking", "transformed"):
        del content["evaluation"][field]
    for robust in content["evaluation"]["robust"]:
        del robust["cascade"], robust["by_others"]
        for attack in robust["attacks"]:
            del attack["attacked"]
    html = render([Record.model_validate(content)])
    assert html == render([make_record()])
    assert 'id="masking"' not in html
    assert "not checked" in Page(html).text


def test_failure_leaves_the_old_page_and_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(make_records(1), path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_failure_while_rendering_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "to_plotly", lambda figure: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(make_records(1), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one record"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(UserError, match="is a folder"):
        write_report(make_records(1), tmp_path)


@pytest.mark.parametrize("package", ["jinja2", "plotly"])
def test_missing_extra_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [package, "plotly.offline"] if package == "plotly" else [package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=package):
        write_report(make_records(1), tmp_path / "report.html")


def test_report_and_show_need_no_torch(tmp_path: Path) -> None:
    """Through the command line, from a folder of runs and from a record."""
    script = """
import sys
sys.modules["torch"] = None
import meseta.report
assert not {"plotly", "matplotlib", "jinja2", "rich"} & set(sys.modules)
from meseta.cli import main
for arguments in (["report", sys.argv[1]], ["show", sys.argv[1]], ["show", sys.argv[1] + "/erm/record.json"]):
    assert main(arguments) == 0, arguments
for verb in ("list", "evaluate", "surface", "figure"):
    assert main([verb, sys.argv[1]]) == 2, verb
"""
    for record in make_records(2):
        write_record(record.model_copy(update={"pictured": [make_pictured()]}), tmp_path / record.name / "record.json")
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}", str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    shown = done.stdout
    assert done.stderr.count("needs torch. Install it") == done.stderr.count("\n") == 4
    assert {file.name for file in tmp_path.glob("report.*")} == {
        f"report.{kind}" for kind in ("html", "md", "csv", "tex")
    }
    assert len(list((tmp_path / "figures").glob("*.pdf"))) >= 4
    assert shown.count("Clean accuracy (%)") == 3
    assert shown.count("Settings\n") == 1
    assert "PreActResNet18(classes=10)" in shown


def names_in(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_reports_in_one_folder_have_their_own_figures_and_leave_none_of_runs_before(tmp_path: Path) -> None:
    """What a report did not write stays."""
    for name in ("Before(X)", "Now(X)"):
        measures = [make_measured(name, [1.0, 2.0])]
        write_record(make_record(name, evaluation=None, training=None, measures=measures), tmp_path / f"{name}.json")
    (tmp_path / "out").mkdir()
    page, figures = tmp_path / "out" / "v1.2.html", tmp_path / "out" / "v1.2-figures"
    assert main(["report", str(tmp_path / "Before(X).json"), "--out", str(page)]) == 0
    assert names_in(figures) == {"Before-X.pdf", "Before-X.png"}
    (figures / "mine.pdf").write_text("mine")
    assert main(["report", str(tmp_path / "Now(X).json"), "--out", str(page)]) == 0
    assert names_in(figures) == {"Now-X.pdf", "Now-X.png", "mine.pdf"}
    assert main(["report", str(tmp_path / "Now(X).json"), "--out", str(page.with_name("report.html"))]) == 0
    pages = {f"{stem}.{kind}" for stem in ("v1.2", "report") for kind in ("html", "md", "csv", "tex")}
    assert names_in(tmp_path / "out") == pages | {"v1.2-figures", "figures"}


def test_steps_that_training_left_out_are_told() -> None:
    left_out = [LeftOut(step=12, why="the gradient of body.0.weight is not finite"), LeftOut(step=40, why="x")]
    training = make_training(steps=100, left_out=left_out, weight_factor=0.25)
    assert notices(runs_of([make_record("a", training=training)])) == [
        "a: 2 of 100 steps of training were left out, the first at step 12 since the gradient of body.0.weight is not "
        "finite, and the weights of penalties end at 0.25 of what was set."
    ]
