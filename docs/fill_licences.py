"""Write licences.md: the licences of what meseta's run-time extras bring, as the packages state them.

Run where all of it is installed: `python docs/fill_licences.py`.
"""

import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
HEAD = """# Licences

meseta is under Apache-2.0. What `pip install 'meseta[all]'` brings on Linux states these licences; the packages without
an extra are all that `pip install meseta` brings. A build of torch for GPUs brings NVIDIA's libraries and triton too.
Written by `python docs/fill_licences.py`; a test compares the names.

| package | licence | for the extras |
|---|---|---|
"""


HARDWARE = ("cuda-", "nvidia-", "triton")
"""What some builds of torch bring for a GPU: theirs to choose, not ours to pin."""


def requirements() -> dict[str, list[Requirement]]:
    """Return what pyproject.toml asks for: by extra, and without one under the empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in extras.items()}


def installed(wanted: list[Requirement]) -> dict[str, Distribution]:
    """Return the installed distributions that the requirements need, all the way down, by their canonical names."""
    found: dict[str, Distribution] = {}
    pending, seen = list(wanted), set[tuple[str, frozenset[str]]]()
    while pending:
        one = pending.pop()
        name = canonicalize_name(one.name)
        if name == "meseta" or name.startswith(HARDWARE) or (name, frozenset(one.extras)) in seen:
            continue
        seen.add((name, frozenset(one.extras)))
        try:
            found[name] = distribution(one.name)
        except PackageNotFoundError:
            continue
        inner = [Requirement(line) for line in found[name].requires or []]
        pending += [
            each
            for each in inner
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *one.extras))
        ]
    return found


def licence(package: Distribution) -> str:
    """Return what a package states, in one line: its expression, its classifiers, or the start of its text."""
    stated = package.metadata
    classified = [line.split(" :: ")[-1] for line in stated.get_all("Classifier") or [] if line.startswith("License")]
    text = (stated["License"] or "").strip().split("\n")[0]
    return stated["License-Expression"] or ", ".join(classified) or text or "not stated"


def page() -> str:
    """Return licences.md for what is installed."""
    runtime = ("", "data", "train", "report", "sweep", "attacks")
    brought = {extra: installed(lines) for extra, lines in requirements().items() if extra in runtime}
    packages = {name: package for found in brought.values() for name, package in found.items()}
    rows = []
    for name, package in sorted(packages.items()):
        extras = "" if name in brought[""] else ", ".join(extra for extra in runtime if name in brought[extra])
        rows.append(f"| {package.metadata['Name']} | {licence(package)} | {extras} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
