"""Every command that the documents show is one: verbs, options and values go through the parsers; nothing runs."""

import re
import shlex
from pathlib import Path

import pytest

from meseta import cli
from meseta.configuration import parse

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]


PLACEHOLDER = r"\b(VERB|RUN|NAME|FILE|FIGURE|PAPER|PART|RECIPE|OPTIONS)\b|\.\.\.|…"


class Parsed(Exception):
    """Raised in place of what a verb would do."""


def commands(text):
    """Return the commands of a page's blocks without a language and of its quoted code, as written."""
    fenced = re.split(r"^```(.*)\n", text, flags=re.MULTILINE)  # prose, language, block, "", prose, language, ...
    blocks = [block for language, block in zip(fenced[1::4], fenced[2::4], strict=True) if not language]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").split("\n")]
    prose = "".join(fenced[::4])
    quoted = [re.sub(r"\s+", " ", code) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
    for line in [*lines, *quoted]:
        found = re.match(r"\s*(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?meseta (\S.*)", line)
        if found and not re.search(PLACEHOLDER, found[1].partition("#")[0]):
            yield found[1]


def arguments(line):
    """Return the words of a command as a shell would, braces expanded and comments left out."""
    line = re.sub(r"(\S*)\{([\w,-]+)\}(\S*)", lambda m: " ".join(m[1] + w + m[3] for w in m[2].split(",")), line)
    return shlex.split(line, comments=True)


COMMANDS = sorted({(page.name, line.strip()) for page in PAGES for line in commands(page.read_text(encoding="utf-8"))})


def test_the_documents_show_every_verb():
    assert {arguments(line)[0] for _, line in COMMANDS} >= set(cli.VERBS)


@pytest.fixture
def no_work(monkeypatch, tmp_path):
    """Let verbs parse for real, and stop them right after."""

    def stop(*_, **__):
        raise Parsed

    def parse_and_stop(*given):
        parse(*given)
        raise Parsed

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("objective: InputGradient\n")
    monkeypatch.setattr("meseta.configuration.parse", parse_and_stop)
    monkeypatch.setattr("meseta.evaluation.record.find_records", stop)
    monkeypatch.setattr("rich.console.Console", stop)


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:60]}" for page, line in COMMANDS])
@pytest.mark.usefixtures("no_work")
def test_a_documented_command_parses(page, line, capsys):
    verb, *rest = arguments(line)
    if verb in ("--help", "--version"):
        assert cli.main([verb]) == 0
        return
    assert verb in cli.VERBS, page
    rest = [word for word in rest if word != "--print_config"]  # writes and exits
    if not rest and verb not in ("demo", "list"):
        return  # the verb's name alone
    if "--help" in rest:
        with pytest.raises((SystemExit, Parsed)):
            cli.VERBS[verb](rest)
        return
    with pytest.raises(Parsed):
        cli.VERBS[verb](rest)


@pytest.mark.usefixtures("no_work")
def test_a_wrong_option_would_be_found():
    assert cli.main(["train", "--objective.wieght", "1"]) == 2
    assert cli.main(["reproduce", "yu2018", "--scales", "smoke"]) == 2
