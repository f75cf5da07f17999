"""Figures of surfaces: the values of the record, runs side by side, one scale."""

from dataclasses import replace
from io import BytesIO

import matplotlib
import matplotlib.image
import pytest
from report_factory import PROVENANCE, make_record

from meseta.evaluation.record import AttackPath, Direction, Surface
from meseta.report.figure import PanelFigure, SurfaceFigure
from meseta.report.interactive import to_plotly
from meseta.report.printed import _canvas, _print_style, save
from meseta.report.surfaces import surface_figures

SIDE = [-0.2, -0.1, 0.0, 0.1, 0.2]


def make_surface(scale=1.0, plane="p", fields=("Decision",), index=7, **changes):
    rows = [[scale * (1 - 8 * (x * x + y)) for x in SIDE] for y in SIDE]
    values = {"Decision": rows} | {name: [[abs(v) for v in row] for row in rows] for name in fields}
    values |= {"Decision": rows}
    axes = (
        Direction(name="Random", axis="Random(seed=0)", forwards=None, backwards=None),
        Direction(name="Adversarial(<b>)", axis="Adversarial()", forwards=0.125, backwards=None),
    )
    defaults = {
        **{"provenance": PROVENANCE, "settings": "s", "space": "input", "plane": plane, "of": "erm", "split": "test"},
        **{
            "index": index,
            "n": 1,
            "example": "e",
            "label": 3,
            "predicted": 3,
            "norm": "Linf",
            "eps": 0.1,
            "clipped": False,
        },
        **{"axes": axes, "cosine": 0.01, "x": SIDE, "y": SIDE, "fields": values, "shown": list(fields)},
        "ball": [(0.1, 0), (0, 0.1), (-0.1, 0), (0, -0.1), (0.1, 0)],
        "path": AttackPath(attack="PGD-2", points=[(0, 0), (0, 0.1)], off=0.25, succeeded=False),
    }
    return Surface(**(defaults | changes))


def make_runs(**changes):
    return [
        make_record("erm", surfaces=[make_surface()]),
        make_record("robust $x_1$", surfaces=[make_surface(0.5, **changes)]),
    ]


def test_runs_stand_side_by_side_on_one_scale():
    (figure,) = surface_figures(make_runs())
    (panels,) = figure.rows
    assert [panel.title for panel in panels] == ["erm", "robust $x_1$"]
    assert panels[0].values == tuple(map(tuple, make_surface().fields["Decision"]))
    assert panels[0].span == panels[1].span == pytest.approx((-0.92, 2.6))
    assert panels[0].crossings == ((0.0, 0.125),)
    assert "All on the plane of erm." in figure.notes[0]
    assert "along Random beyond 0.200, against it beyond 0.200; Adversarial(<b>) at 0.125" in figure.notes[1]
    assert "does not succeed in the ball; 25 % of its way is off the plane" in figure.notes[1]


def test_planes_that_are_not_shared_stand_together_where_each_is_its_run_s_own():
    apart = make_runs(plane="q")
    assert len(surface_figures(apart)) == 2  # the second run was looked at on the plane of a run that is not here
    own = [make_record(name, surfaces=[make_surface(plane=name, of=name)]) for name in ("natural", "robust")]
    (figure,) = surface_figures(own)
    assert "Each on a plane of its own." in figure.notes[0]
    both = [own[0], make_record("robust", surfaces=[make_surface(plane="natural", of="natural"), *own[1].surfaces])]
    together, alone = surface_figures(both)
    assert [len(row) for row in (*together.rows, *alone.rows)] == [2, 1]


def test_other_examples_fields_and_settings_are_other_figures():
    records = [
        make_record(
            "a", surfaces=[make_surface(), make_surface(index=8), make_surface(fields=("CrossEntropy", "Decision"))]
        )
    ]
    figures = surface_figures(records)
    assert [figure.title for figure in figures] == [
        "Decision function L(x) around example 7",
        "Decision function L(x) around example 8",
        "Cross-entropy loss around example 7",
        "Decision function L(x) around example 7",
    ]
    assert len({figure.key for figure in figures}) == 4
    assert [panel.diverging for figure in figures for row in figure.rows for panel in row] == [True, True, False, True]
    assert all(row[0].boundary is not None for figure in figures for row in figure.rows)


def test_plotly_gets_the_values_the_boundary_and_what_lies_on_the_plane():
    (figure,) = surface_figures(make_runs())
    panel = figure.rows[0][0]
    drawing = to_plotly(panel)
    field, boundary, ball, path, crossings, origin = drawing["data"]
    assert field["z"] == panel.values
    assert (field["zmin"], field["zmax"]) == pytest.approx((-2.6, 2.6))
    assert boundary["meta"]["z_of"] == 0
    assert "z" not in boundary
    assert (ball["x"][0], ball["y"][1]) == (0.1, 0.1)
    assert (path["x"], path["y"]) == ([0, 0], [0, 0.1])
    assert (crossings["x"], crossings["y"]) == ([0.0], [0.125])
    assert origin["name"] == "the example itself"
    assert drawing["layout"]["yaxis"]["title"]["text"] == "Adversarial(&lt;b&gt;) (L∞)"
    loss = to_plotly(
        surface_figures([make_record("a", surfaces=[make_surface(fields=("CrossEntropy",))])])[0].rows[0][0]
    )
    assert loss["data"][1]["z"] == panel.values


@pytest.mark.parametrize("relief", [False, True])
def test_maps_and_reliefs_are_printed(tmp_path, relief):
    holes = [[None, *row[1:]] for row in make_surface().fields["Decision"]]
    (figure,) = surface_figures([make_record("a", surfaces=[make_surface()])])
    (panel,) = figure.rows[0]
    changed = SurfaceFigure(**(vars(panel) | {"values": tuple(map(tuple, holes)), "relief": relief, "key": "k"}))
    pdf, png = save(changed, tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF")
    assert matplotlib.image.imread(png).std() > 0.05


def test_a_model_that_errs_at_the_example_is_said_to(tmp_path):
    def note(**changes):
        (figure,) = surface_figures([make_record("a", surfaces=[make_surface(**changes)])])
        return figure.notes[1]

    assert note(predicted=8).startswith(
        "a: is wrong at the example itself, predicts 8; the decision becomes right along"
    )
    assert note(predicted=None).startswith("a: has logits that are not finite at the example itself; ")
    nothing = {"Decision": [[None] * 5] * 5}
    (figure,) = surface_figures([make_record("a", surfaces=[make_surface(fields=("Decision",))])])
    (blank,) = surface_figures([make_record("a", surfaces=[make_surface().model_copy(update={"fields": nothing})])])
    assert figure.rows[0][0].boundary is not None
    assert blank.rows[0][0].boundary is None
    assert all(file.exists() for file in save(blank, tmp_path))


def test_other_data_stand_apart():
    records = [make_record("erm", surfaces=[make_surface()]), make_record("b", surfaces=[make_surface(example="f")])]
    assert len(surface_figures(records)) == 2


def test_an_orthogonal_part_is_called_so():
    first, second = make_surface().axes
    leaning = make_surface(axes=(first, second.model_copy(update={"orthogonal_part": True})), cosine=0.9)
    (figure,) = surface_figures([make_record("a", surfaces=[leaning])])
    assert figure.rows[0][0].y_label == "Adversarial(<b>), orthogonal part (L∞)"
    assert "Adversarial(<b>) has the cosine 0.900 with the other axis; shown is its orthogonal part." in figure.notes[0]


def test_a_surface_over_parameters_has_no_boundary():
    changes = {
        "space": "parameters",
        "index": None,
        "example": None,
        "label": None,
        "predicted": None,
        "norm": None,
        "eps": None,
    }
    one = make_surface(**changes, n=64, ball=[], path=None, fields=("CrossEntropy",))
    (figure,) = surface_figures([make_record("a", surfaces=[one])])
    panel = figure.rows[0][0]
    assert panel.boundary is None
    assert panel.value_label == "mean cross-entropy loss"
    assert figure.title == "Cross-entropy loss around the parameters"
    assert figure.notes == ("Over parameters: mean over 64 examples of test.",)


def test_labels_beside_reliefs_stay_on_the_canvas():
    side = tuple(-1 + 0.2 * i for i in range(11))
    bowl = tuple(tuple(20 * (abs(a) ** 3 + b * b) for a in side) for b in side)
    options = {
        "values": bowl,
        "span": (0.0, 40.0),
        "diverging": False,
        "origin_label": "here",
        "value_label": "mean loss",
    }
    labels = {"x_label": "Random (relative length)", "y_label": "Random (relative length)"}
    relief = SurfaceFigure(key="a", title="natural", x=side, y=side, relief=True, **labels, **options)
    flat = replace(relief, relief=False)
    with matplotlib.rc_context(_print_style()):
        canvas = _canvas(PanelFigure(key="p", title="Loss", rows=((relief, relief), (flat, flat))))
        canvas.savefig(BytesIO(), format="pdf")
        canvas.savefig(BytesIO(), format="png")  # each lays it out anew
    for axes in canvas.axes:
        box = axes.get_tightbbox()
        assert 0 <= box.x0 < box.x1 <= canvas.bbox.width
        assert 0 <= box.y0 < box.y1 <= canvas.bbox.height
