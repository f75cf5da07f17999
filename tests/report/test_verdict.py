from report_factory import make_bounded, make_bounds, make_evaluation, make_finding, make_masking, make_record

from meseta.evaluation.record import Masking, Record
from meseta.report.comparison import runs_of
from meseta.report.verdict import examined, labelled, matrix, verdict


def record_of(masking: Masking | None, **changes: object) -> Record:
    return make_record(evaluation=make_evaluation(masking=masking, **changes))


def test_the_verdict_is_the_records() -> None:
    for level in ("broken", "suspicious"):
        assert verdict(record_of(make_masking(BlackBox=level, OneStep="untested"))) == level
    assert verdict(record_of(make_masking())) == "trusted"


def test_attacked_but_not_checked_is_said_plainly() -> None:
    assert verdict(record_of(None)) == "not checked"
    assert verdict(make_record(evaluation=None, bounds=[make_bounded("attack", [1.0])])) == "not checked"


def test_nothing_attacked_leaves_nothing_to_trust() -> None:
    assert verdict(make_record(evaluation=None, bounds=make_bounds(5)[:3])) is None
    assert verdict(record_of(None, robust=[])) is None


def test_checks_without_anything_to_test_are_no_reason_to_trust() -> None:
    findings = [make_finding("BlackBox", "untested")]
    for none in ([], findings):
        masking = make_masking().model_copy(update={"findings": none, "verdict": "suspicious"})
        assert verdict(record_of(masking)) == "suspicious"


def test_every_word_but_the_unknown_has_a_symbol_of_its_own() -> None:
    assert [labelled(word)[-1] for word in ("trusted", "suspicious", "broken")] == ["✓", "!", "✗"]
    assert (labelled("not checked"), labelled("untested")) == ("not checked", "untested")


def test_findings_come_worst_first() -> None:
    masking = make_masking(Stochastic="untested", BlackBox="broken", MoreSteps="suspicious")
    (one,) = examined(runs_of([record_of(masking)]))
    levels = [finding.level for _, finding in one.findings]
    assert levels == ["broken", "suspicious", *["fine"] * (len(levels) - 3), "untested"]
    assert [finding.name for _, finding in one.doubts] == ["BlackBox", "MoreSteps"]
    assert len({anchor for anchor, _ in one.findings}) == len(levels)


def test_the_matrix_tells_settings_apart_and_leaves_gaps() -> None:
    one = make_masking()
    stricter = make_finding("BlackBox", "suspicious", check="BlackBox(suspicious=0.001)")
    other = one.model_copy(update={"verdict": "suspicious", "findings": [stricter, *one.findings[1:3]]})
    rows = dict(matrix(examined(runs_of([record_of(one), record_of(None), record_of(other)]))))
    assert [found and found[1].level for found in rows["BlackBox"]] == ["fine", None]
    assert [found and found[1].level for found in rows["BlackBox (2)"]] == [None, "suspicious"]
    assert [found and found[1].level for found in rows["OneStep"]] == ["fine", "fine"]
