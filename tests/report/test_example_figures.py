from report_factory import make_pictured, make_record

from meseta.report.examples import RUNS, example_figures
from meseta.report.figure import PictureFigure


def captions(figure: PictureFigure) -> list[list[str | None]]:
    return [[tile and tile.caption for tile in tiles] for _, tiles in figure.rows]


def test_a_row_is_an_example_with_its_input_once_and_two_pictures_for_each_run() -> None:
    records = [
        make_record("erm", pictured=[make_pictured(0), make_pictured(1)]),
        make_record("pgd", pictured=[make_pictured(0, found=8, distance=0.05), make_pictured(1, predicted=4)]),
    ]
    (figure,) = example_figures(records)
    assert figure.columns == (
        "input",
        "erm: perturbation",
        "erm: adversarial",
        "pgd: perturbation",
        "pgd: adversarial",
    )
    assert [label for label, _ in figure.rows] == ["example 0", "example 1"]
    assert captions(figure) == [
        ["label 3", "×20.0, m = 0.0250", "3 → 5, L∞ 0.0250", "×20.0, m = 0.0250", "3 → 8, L∞ 0.0500"],
        ["label 3", "×20.0, m = 0.0250", "3 → 5, L∞ 0.0250", None, "misclassified as 4 already"],
    ]


def test_perturbations_alone_are_signed_and_the_factor_gives_the_largest_entry_full_colour() -> None:
    (figure,) = example_figures([make_record(pictured=[make_pictured()])])
    shown, perturbation, adversarial = (tile for tile in figure.rows[0][1] if tile)
    assert [shown.signed, perturbation.signed, adversarial.signed] == [False, True, False]
    assert perturbation.picture
    factor = float(perturbation.caption.split(",")[0].removeprefix("×"))
    assert factor * (perturbation.picture.high - perturbation.picture.low) == 1


def test_what_was_not_found_is_said() -> None:
    one = make_pictured(found=None, distance=None, pictures={"input": make_pictured().pictures["input"]})
    (figure,) = example_figures([make_record(pictured=[one])])
    assert captions(figure) == [["label 3", None, "3 at every point tried"]]


def test_runs_on_other_data_and_many_runs_have_grids_of_their_own() -> None:
    records = [make_record(str(i), pictured=[make_pictured()]) for i in range(RUNS + 1)]
    other = make_record("other", data="MNIST", pictured=[make_pictured()])
    figures = example_figures([*records, other])
    assert [len(figure.columns) for figure in figures] == [1 + 2 * RUNS, 3, 3]
    assert len({figure.key for figure in figures}) == 3


def test_pictures_of_gradients_are_no_examples() -> None:
    assert example_figures([make_record(pictured=[make_pictured(kind="gradient")]), make_record("none")]) == []
