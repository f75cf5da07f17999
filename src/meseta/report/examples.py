"""Adversarial examples as pictures: the same examples for every run, each with its perturbation, amplified."""

from collections.abc import Sequence

from meseta.evaluation.record import Pictured, Record
from meseta.report.comparison import NORMS, Run, runs_of, significant
from meseta.report.figure import PictureFigure, Tile

RUNS = 3
"""Runs in one figure; with more a reader would lose the input from sight."""

_Found = dict[tuple[int, int], Pictured]
"""By index and label of the example."""


def example_figures(records: Sequence[Record]) -> list[PictureFigure]:
    """Return grids of adversarial examples: a row for each, with its input once, and two columns for each run.

    Runs share a grid where their inputs are the same examples, three at most.
    """
    groups: dict[tuple[str, str], list[tuple[Run, _Found]]] = {}
    for run in runs_of(records):
        for split in dict.fromkeys(one.split for one in run.record.pictured if one.kind == "adversarial"):
            found = {(one.index, one.label): one for one in run.record.pictured if _shown(one, split)}
            groups.setdefault((run.record.data, split), []).append((run, found))
    chunks = [
        (split, members[start : start + RUNS])
        for (_, split), members in groups.items()
        for start in range(0, len(members), RUNS)
    ]
    return [_figure(f"examples-{number}", split, members) for number, (split, members) in enumerate(chunks, 1)]


def _shown(one: Pictured, split: str) -> bool:
    return one.kind == "adversarial" and one.split == split and "input" in one.pictures


def _figure(key: str, split: str, members: Sequence[tuple[Run, _Found]]) -> PictureFigure:
    examples = sorted({example for _, found in members for example in found})
    columns = [column for run, _ in members for column in (f"{run.short}: perturbation", f"{run.short}: adversarial")]
    names = dict.fromkeys(one.name for _, found in members for one in found.values())
    return PictureFigure(
        key=key,
        title=f"Smallest adversarial examples, {split} data, {', '.join(run.short for run, _ in members)}",
        columns=("input", *columns),
        rows=tuple((f"example {index}", _row(members, (index, label))) for index, label in examples),
        notes=(
            f"Found by {', '.join(names)}. Perturbations are amplified until their largest entry m has full colour: "
            f"{_colours(members)}.",
        ),
    )


def _colours(members: Sequence[tuple[Run, _Found]]) -> str:
    grey = all(one.pictures["input"].shape[0] == 1 for _, found in members for one in found.values())
    return "negative ones are red, positive ones blue" if grey else "in each channel 0 is its middle, so grey is none"


def _row(members: Sequence[tuple[Run, _Found]], example: tuple[int, int]) -> tuple[Tile | None, ...]:
    known = next(found[example] for _, found in members if example in found)
    tiles: list[Tile | None] = [Tile(known.pictures["input"], f"label {known.label}")]
    for _, found in members:
        tiles += _pair(found[example]) if example in found else (None, None)
    return tuple(tiles)


def _pair(one: Pictured) -> tuple[Tile | None, Tile]:
    """Return the perturbation and the adversarial example of one run, with what it predicts."""
    perturbation, adversarial = one.pictures.get("perturbation"), one.pictures.get("adversarial")
    if one.predicted != one.label:
        return None, Tile(None, f"misclassified as {one.predicted} already")
    if perturbation is None or adversarial is None:
        return None, Tile(None, f"{one.predicted} at every point tried")
    largest = perturbation.high
    factor = f"×{significant(1 / (2 * largest))}, " if largest > 0 else ""
    distance = "" if one.distance is None or one.norm is None else f", {NORMS[one.norm]} {significant(one.distance)}"
    return (
        Tile(perturbation, f"{factor}m = {significant(largest)}", signed=True),
        Tile(adversarial, f"{one.predicted} → {one.found}{distance}"),
    )
