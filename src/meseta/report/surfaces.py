"""Figures of surfaces: runs side by side on one plane and one scale of colours."""

from collections import Counter
from collections.abc import Iterable, Sequence

from meseta.evaluation.record import Direction, Record, Surface
from meseta.report.comparison import NORMS, Run, eps_text, runs_of, significant, slug, unique
from meseta.report.figure import PanelFigure, SurfaceFigure

COLUMNS = 3
"""Panels in a row."""
FIELDS = {
    "Decision": "decision function L(x)",
    "CrossEntropy": "cross-entropy loss",
    "Margin": "margin to the runner-up",
    "Logit": "logit of the label",
}
"""Fields in words."""
_ZERO_IN_THE_MIDDLE = ("Decision", "Margin", "DLR")
BOUNDARY = "Decision"


def surface_figures(records: Sequence[Record]) -> list[PanelFigure]:
    """Return a figure for each surface and each field asked for: the runs side by side, on one scale of colours."""
    pairs = [(run, surface) for run in runs_of(records) for surface in run.record.surfaces]
    runs_on = Counter(surface.plane for _, surface in pairs)
    groups: dict[tuple[object, ...], list[tuple[Run, Surface]]] = {}
    for run, surface in pairs:
        # Runs that share a plane stand together; so do those that were looked at alike, each on a plane of its own.
        plane = surface.plane if runs_on[surface.plane] > 1 else surface.of == run.record.name
        groups.setdefault((*_identity(surface), plane), []).append((run, surface))
    found = [(members, name) for members in groups.values() for name in members[0][1].shown]
    keys = unique([_key(members[0][1], name) for members, name in found])
    return [_figure(key, members, name) for key, (members, name) in zip(keys, found, strict=True)]


def _identity(surface: Surface) -> tuple[object, ...]:
    axes = tuple(axis.axis for axis in surface.axes)
    ends = (surface.x[0], surface.x[-1], surface.y[0], surface.y[-1])
    where = (
        surface.space,
        surface.split,
        surface.index,
        surface.example,
        surface.n,
        surface.norm,
        surface.eps,
        surface.clipped,
    )
    return (*where, axes, ends, tuple(surface.shown), surface.settings)


def _key(surface: Surface, name: str) -> str:
    where = "parameters" if surface.index is None else f"{surface.index}"
    return "-".join(["surface", where, *(slug(axis.name) for axis in surface.axes), slug(name)])


def _figure(key: str, members: Sequence[tuple[Run, Surface]], name: str) -> PanelFigure:
    first = members[0][1]
    span = common_span((surface for _, surface in members), name)
    panels = [panel(surface, name, span, key=f"{key}-{run.style}", title=run.short) for run, surface in members]
    rows = [tuple(panels[i : i + COLUMNS]) for i in range(0, len(panels), COLUMNS)]
    return PanelFigure(key, title(first, name), tuple(rows), _notes(members))


def title(surface: Surface, name: str) -> str:
    """Return what is seen: the field and where."""
    what = in_words(name)
    where = "the parameters" if surface.index is None else f"example {surface.index}"
    return f"{what[0].upper()}{what[1:]} around {where}"


def in_words(name: str) -> str:
    """Return a field in words, or as it is written."""
    return FIELDS.get(name, name)


def common_span(surfaces: Iterable[Surface], name: str) -> tuple[float, float]:
    """Return the lowest and the highest finite value of a field on all of the surfaces."""
    values = [v for one in surfaces for row in one.fields[name] for v in row if v is not None]
    return (min(values), max(values)) if values else (0.0, 0.0)


def panel(
    surface: Surface, name: str, span: tuple[float, float], *, key: str, title: str, relief: bool = False
) -> SurfaceFigure:
    """Return one surface of one run; colours tell the values of `span` apart."""
    x_label, y_label = (_axis_label(axis, surface) for axis in surface.axes)
    boundary = _rows(surface.fields[BOUNDARY]) if _has_boundary(surface) else None
    ball = [point for point in surface.ball if max(map(abs, point)) <= max(surface.x[-1], surface.y[-1])]
    return SurfaceFigure(
        key=key,
        title=title,
        x_label=x_label,
        y_label=y_label,
        value_label=in_words(name) if surface.index is not None else f"mean {in_words(name)}",
        x=tuple(surface.x),
        y=tuple(surface.y),
        values=_rows(surface.fields[name]),
        span=span,
        diverging=name.startswith(_ZERO_IN_THE_MIDDLE),
        origin_label="the example itself" if surface.space == "input" else "the trained parameters",
        boundary=boundary,
        ball=tuple(surface.ball) if ball else (),
        ball_label=ball_label(surface),
        path=tuple(surface.path.points) if surface.path else (),
        path_label=f"path of {surface.path.attack}" if surface.path else "",
        crossings=tuple(_crossings(surface.axes)),
        relief=relief,
    )


def _has_boundary(surface: Surface) -> bool:
    """Return whether the decision changes on the plane."""
    values = [v for row in surface.fields.get(BOUNDARY, []) for v in row if v is not None]
    return surface.space == "input" and bool(values) and min(values) <= 0 <= max(values)


def ball_label(surface: Surface) -> str:
    """Return what the outline is: the ball of the threat."""
    return (
        f"{NORMS[surface.norm]} ball, eps = {eps_text(surface.norm, surface.eps)}"
        if surface.norm and surface.eps
        else ""
    )


def _rows(values: Sequence[Sequence[float | None]]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(tuple(row) for row in values)


def _axis_name(axis: Direction) -> str:
    return f"{axis.name}, orthogonal part" if axis.orthogonal_part else axis.name


def _axis_label(axis: Direction, surface: Surface) -> str:
    name = _axis_name(axis)
    return f"{name} ({NORMS[surface.norm]})" if surface.norm else f"{name} (relative length)"


def _crossings(axes: tuple[Direction, Direction]) -> Iterable[tuple[float, float]]:
    for sign, along, across in ((1, "forwards", 0), (-1, "backwards", 0), (1, "forwards", 1), (-1, "backwards", 1)):
        distance = getattr(axes[across], along)
        if distance is not None:
            yield (sign * distance, 0.0) if across == 0 else (0.0, sign * distance)


def _notes(members: Sequence[tuple[Run, Surface]]) -> tuple[str, ...]:
    first = members[0][1]
    same = len({surface.plane for _, surface in members}) == 1
    plane = f"All on the plane of {first.of}." if same else "Each on a plane of its own."
    shown = [f"Label {first.label}, from {first.split}."] if first.space == "input" else []
    shown += [plane] if first.space == "input" and len(members) > 1 else []
    return (" ".join([*shown, *caveats([first])]), *(_distances(*one) for one in members if first.space == "input"))


def caveats(surfaces: Sequence[Surface]) -> list[str]:
    """Return what a reader of maps of these surfaces must know, in sentences."""
    inputs = [one for one in surfaces if one.space == "input"]
    means = dict.fromkeys((one.n, one.split) for one in surfaces if one.space == "parameters")
    sentences = [f"Over parameters: mean over {n} examples of {split}." for n, split in means]
    if any(one.clipped for one in inputs):
        sentences.append("Points outside the valid inputs are brought back to them.")
    if not all(one.clipped for one in inputs):
        sentences.append("The planes are flat: some of their points leave the valid inputs.")
    return [*sentences, *dict.fromkeys(lean for one in surfaces for lean in _of_oblique(one))]


def at_the_example(surface: Surface) -> str:
    """Return what a model does wrong at the example itself; empty where it is right."""
    if surface.space == "parameters" or surface.predicted == surface.label:
        return ""
    if surface.predicted is None:
        return "has logits that are not finite at the example itself"
    return f"is wrong at the example itself, predicts {surface.predicted}"


def _of_oblique(surface: Surface) -> list[str]:
    name = surface.axes[1].name
    lean = f"{name} has the cosine {significant(surface.cosine)} with the other axis; shown is its orthogonal part."
    return [lean] if surface.axes[1].orthogonal_part else []


def _distances(run: Run, surface: Surface) -> str:
    wrong = at_the_example(surface)
    found = "; ".join(f"{_axis_name(axis)} {_either_way(axis, surface)}" for axis in surface.axes)
    path = ""
    if surface.path:
        outcome = "succeeds" if surface.path.succeeded else "does not succeed"
        path = f" The attack {outcome} in the ball; {100 * surface.path.off:.0f} % of its way is off the plane."
    changes = "becomes right" if wrong else "changes"
    return f"{run.short}: {wrong + '; ' if wrong else ''}the decision {changes} along {found}.{path}"


def _either_way(axis: Direction, surface: Surface) -> str:
    ends = max(surface.x[-1], surface.y[-1])
    ahead, back = (
        f"beyond {significant(ends)}" if d is None else f"at {significant(d)}" for d in (axis.forwards, axis.backwards)
    )
    return f"{ahead}, against it {back}"
