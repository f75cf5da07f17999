"""The code blocks of the documents run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


PAGES = ["README.md", "CONTRIBUTING.md"] + [
    str(page.relative_to(ROOT)) for page in sorted(ROOT.glob("docs/**/*.md")) if "```python" in page.read_text()
]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {"__name__": page})


def test_the_example_objective_trains():
    import torch

    block = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)[1]
    names = {"__name__": "example"}
    exec(block, names)
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))
    value = names["MarginSlope"]()(model, torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))
    value.total.backward()
    assert set(value.terms) == {"cross_entropy", "slope"}
    assert model[0].weight.grad.any()
