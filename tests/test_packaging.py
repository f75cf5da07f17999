"""What is installed with meseta: pinned, within its ranges, without known malware, and its licences listed."""

import importlib.util
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TOOLS = {"pip", "setuptools"}  # of the environment itself


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("fill_licences", ROOT / "docs" / "fill_licences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pins():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    assert all(found), "constraints.txt holds NAME==VERSION and comments alone"
    assert lines == sorted(lines, key=str.lower)
    return {canonicalize_name(line[1]): Version(line[2]) for line in found}


@pytest.fixture(scope="module")
def wanted(tool):
    return [one for lines in tool.requirements().values() for one in lines if one.name != "meseta"]


def test_every_requirement_has_a_pin_within_its_range(wanted, pins):
    assert len(wanted) > 20
    for one in wanted:
        assert pins[canonicalize_name(one.name)] in one.specifier, one


def test_every_installed_distribution_that_an_extra_needs_is_pinned(tool, wanted, pins):
    needed = tool.installed(wanted)
    assert {"torch", "lightning", "pytorch-lightning", "pytest", "sympy"} <= set(needed)
    assert set(needed) - TOOLS <= set(pins)


def test_the_malicious_releases_are_neither_allowed_nor_pinned(tool, pins):
    """GHSA-w37p-236h-pfx3."""
    (lightning,) = [one for one in tool.requirements()["train"] if one.name == "lightning"]
    for bad in ("2.6.2", "2.6.3"):
        assert Version(bad) not in lightning.specifier
        assert Version(bad) not in (pins["lightning"], pins["pytorch-lightning"])
    assert pins["lightning"] == pins["pytorch-lightning"]


def test_meseta_alone_needs_eight_packages(tool):
    assert {one.name for one in tool.requirements()[""]} == {
        *("torch", "numpy", "safetensors", "pydantic", "PyYAML", "jsonargparse", "rich", "filelock")
    }
    assert not {"lightning", "datasets", "matplotlib", "pandas"} & set(tool.installed(tool.requirements()[""]))


def test_nothing_brings_torchvision(tool, wanted):
    """It replaces the build of torch, and breaks lightning where it is another one's."""
    assert "torchvision" not in tool.installed(wanted)


def test_the_page_of_licences_names_what_is_installed(tool, pins):
    def names(text):
        return set(re.findall(r"^\| ([\w.-]+) \|", text, re.MULTILINE)[1:])

    listed = names(tool.PAGE.read_text(encoding="utf-8"))
    assert len(listed) > 50
    assert names(tool.page()) <= listed, "run: python docs/fill_licences.py"
    # What another Python or system needs may be listed and not be here, but it has a pin as well.
    assert {canonicalize_name(name) for name in listed} - TOOLS <= set(pins)


def test_an_extra_of_a_requirement_is_followed(tool):
    plain = tool.installed([Requirement("jsonargparse")])
    assert set(plain) < set(tool.installed([Requirement("jsonargparse[signatures]")]))
