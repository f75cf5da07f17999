"""Figures of functions of one variable at single examples, from the profiles of records."""

from collections.abc import Sequence
from dataclasses import replace

from meseta.evaluation.record import Profile, Record
from meseta.report.comparison import NORMS, Run, runs_of, significant, slug, unique
from meseta.report.curves import COLUMNS, in_rows
from meseta.report.figure import Figure, LineFigure, PanelFigure, Series


def profile_figures(records: Sequence[Record]) -> list[Figure]:
    """Return a figure for each profile that is finite anywhere, runs with its settings and example side by side."""
    runs = runs_of(records)
    groups: dict[tuple[str, str, str, int], list[tuple[Run, Profile]]] = {}
    for run in runs:
        for one in run.record.profiles:
            groups.setdefault((one.name, one.settings, one.split, one.index), []).append((run, one))
    keys = unique([f"profile-{slug(name)}-{split}-{index}" for name, _, split, index in groups])
    found = [_side_by_side(key, members) for key, members in zip(keys, groups.values(), strict=True)]
    return [figure for figure in found if figure]


def _side_by_side(key: str, members: Sequence[tuple[Run, Profile]]) -> Figure | None:
    panels = [profile_panel(run, one, f"{key}-{slug(run.label)}") for run, one in members]
    drawn = [panel for panel in panels if panel.series]
    notes = tuple(note for panel in panels if not panel.series for note in panel.notes)
    if len(drawn) < 2:
        return replace(drawn[0], notes=drawn[0].notes + notes) if drawn else None
    (_, first), *_ = members
    return PanelFigure(key, f"{first.name}, {first.split} example {first.index}", in_rows(drawn, COLUMNS), notes)


def _axis(one: Profile) -> str:
    """Return what is along x, with the length of the whole step."""
    lengths = ", ".join(f"{NORMS[norm]} length {significant(length)}" for norm, length in one.lengths.items())
    return f"{one.x_label}, of a step of {lengths}" if lengths else one.x_label


def profile_panel(run: Run, one: Profile, key: str) -> LineFigure:
    """Return the curves of one profile of a run; where one is not finite it has no point, and a note says so."""
    curves = {
        name: [(x, y) for x, y in zip(one.x, values, strict=True) if y is not None]
        for name, values in one.curves.items()
    }
    gaps = {name: len(one.x) - len(points) for name, points in curves.items()}
    series = []
    for style, (name, points) in enumerate(curves.items()):
        y = tuple(y for _, y in points)
        if points:
            series.append(Series(name, style, tuple(x for x, _ in points), y, y, y))
    return LineFigure(
        key=key,
        title=f"{run.short}: {one.name}, {one.split} example {one.index}",
        x_label=_axis(one),
        y_label=one.y_label,
        series=tuple(series),
        notes=tuple(
            f"{run.short}: {name} is not finite at {gap} of {len(one.x)} points." for name, gap in gaps.items() if gap
        ),
        band=True,
        percent=False,
        of_attacks=True,
    )
