"""The code blocks of the documents run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def blocks(page):
    """Return the Python blocks of a page; each starts at its own line, so that tracebacks name it."""
    text = (ROOT / page).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text[: block.start(1)].count("\n") + block[1] for block in found]


PAGES = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("docs/**/*.md")))]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)])
def test_python_blocks_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)


def test_the_readme_and_the_guide_show_code():
    assert blocks("README.md")
    assert blocks("CONTRIBUTING.md")


def test_the_example_objective_trains():
    import torch

    block = blocks("CONTRIBUTING.md")[0]
    names = {"__name__": "example"}
    exec(block, names)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    value = names["MarginSlope"]()(model, torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    value.total.backward()
    assert set(value.terms) == {"cross_entropy", "slope"}
    assert model[0].weight.grad.any()


def test_the_page_of_reproductions_shows_what_was_found():
    import importlib.util

    spec = importlib.util.spec_from_file_location("fill_reproduction", ROOT / "docs" / "fill_reproduction.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = tool.PAGE.read_text(encoding="utf-8")
    assert tool.filled(text) == text, "run: python docs/fill_reproduction.py"
    marked = {(mark[2], mark[3]) for mark in tool.MARK.finditer(text)}
    files = tool.RESULTS.glob("*/reproduction.json")
    found = {(file.parent.name, key) for file in files for key in tool.read_reproduced(file).parts}
    assert found <= marked, "a part that was found is not on the page"
