"""The command line as a user meets it: one small run through every verb, and every mistake in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meseta.cli import VERBS, main
from meseta.evaluation.record import read_record

pytestmark = pytest.mark.usefixtures("pictures_alone")

SMALL = ["--data.train_limit", "320", "--data.test_limit", "60", "--model", "Mlp", "--epochs", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run to which nobody adds anything."""
    out = tmp_path_factory.mktemp("trained")
    assert main(["train", "--out", str(out), "--name", "a", *SMALL]) == 0
    return out / "a"


@pytest.fixture(scope="module")
def run(trained, tmp_path_factory):
    """A run that all tests evaluate and measure."""
    return Path(shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "a"))


def test_evaluate_and_measure_add_to_the_record(run, capsys):
    options = ["--norm", "L2", "--eps", "1/4", "0.5", "--norm=Linf", "--eps", "8/255", "--n", "40"]
    options += ["--suite", "quick", "--checks", "[OneStep]", "--pictured", "0"]
    assert main(["evaluate", *options, str(run)]) == 0
    assert main(["measure", str(run), "--n", "20"]) == 0
    assert main(["measure", str(run), "--n", "10", "--measures", "[GradientNorm]"]) == 0
    shown = capsys.readouterr().out
    record = read_record(run)
    assert [(r.norm, r.eps) for r in record.evaluation.robust] == [("L2", 0.25), ("L2", 0.5), ("Linf", 8 / 255)]
    assert record.evaluation.n == 40
    assert [(m.name, m.n) for m in record.measures] == [
        ("SpectralCurvature(CrossEntropy)", 20),
        ("GradientNorm(CrossEntropy)", 10),
    ]
    radius = "[{class_path: SpectralCurvature, init_args: {radius: 1/10}}]"
    assert main(["measure", str(run), "--n", "10", "--measures", radius]) == 0
    assert len(read_record(run).measures) == 3  # the same measure with other settings is another measure
    assert f"{100 * record.evaluation.clean_accuracy:.1f}" in shown


def test_evaluate_leads_with_the_verdict_and_takes_suites_sources_and_nearest(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    options = ["--suite", "quick", "--eps", "8/255", "--n", "30", "--checked", "10", "--sources", f"[{run}]"]
    options += ["--pictured", "0"]
    more = ["--transformations", "[GaussianNoise]", "--nearest", "[DeepFool]"]
    assert main(["evaluate", str(copy), *options, *more]) == 0
    evaluation = read_record(copy).evaluation
    assert evaluation.suite == "quick"
    assert [a.name for a in evaluation.robust[0].attacks][2].startswith("Transfer from a")
    assert [t.name for t in evaluation.transformed] == ["GaussianNoise 0.1"]
    assert [(b.kind, b.norm, b.n) for b in read_record(copy).bounds] == [("attack", "Linf", 30)]
    assert f"masking: {evaluation.masking.verdict} (" in capsys.readouterr().out
    assert main(["evaluate", str(copy), *options, "--checks", "[OneStep]"]) == 0
    assert [f.name for f in read_record(copy).evaluation.masking.findings] == ["OneStep"]
    assert main(["evaluate", str(copy), *options, "--checks", "[]"]) == 0
    assert read_record(copy).evaluation.masking is None
    assert "masking: not checked" in capsys.readouterr().out


def killed(arguments, when):
    """Run the command line in a process of its own, and kill it as soon as `when()` holds."""
    process = subprocess.Popen([sys.executable, "-m", "meseta", *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None and not when():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    return process.wait()


def test_an_evaluation_that_was_killed_goes_on_to_the_same_record(run, tmp_path):
    whole, dead = tmp_path / "whole", tmp_path / "dead"
    for folder in (whole, dead):
        shutil.copytree(run, folder)
    options = ["--eps", "0.05", "0.1", "--n", "40", "--batch_size", "20", "--checks", "[OneStep]", "--pictured", "0"]
    assert main(["evaluate", str(whole), *options]) == 0
    unfinished = dead / "unfinished"
    code = killed(["evaluate", str(dead), *options], lambda: len(list(unfinished.glob("*/[!.]*.json"))) > 1)
    assert code == -signal.SIGKILL
    assert read_record(dead) == read_record(run)
    kept = {file: file.stat().st_mtime_ns for file in unfinished.glob("*/[!.]*.json")}
    assert main(["evaluate", str(dead), *options]) == 0
    assert kept
    assert not unfinished.exists()
    assert figures(dead) == figures(whole)


def figures(folder):
    """Return everything that an evaluation found, without its times."""
    evaluation = read_record(folder).evaluation.model_dump(exclude={"provenance": True})

    def timeless(part):
        if isinstance(part, dict):
            return {key: timeless(value) for key, value in part.items() if key not in ("seconds", "provenance")}
        return [timeless(value) for value in part] if isinstance(part, list) else part

    return timeless(evaluation)


def test_measure_and_certify_write_the_figures_of_the_run(trained, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    assert main(["measure", str(copy), "--n", "10", "--measures", "[GradientNorm]"]) == 0
    measured = {file.name for file in (copy / "figures").iterdir()}
    assert {file.rsplit(".")[-1] for file in measured} == {"pdf", "png"}
    attacks = "[{class_path: DeepFool, init_args: {threat: {norm: L2}}}, {class_path: DeepFool, init_args: {steps: 9}}]"
    assert main(["certify", str(copy), "--n", "10", "--attacks", attacks]) == 0
    assert {file.name for file in (copy / "figures").iterdir()} > measured
    out = capsys.readouterr().out
    assert "figures" in out
    assert "left out: `model`: CurvatureCertificate cannot cover" in out  # a ReLU network
    assert "left out: HolderEstimate" in out
    bounds = read_record(copy).bounds
    assert [(b.kind, b.norm, b.n) for b in bounds] == [
        ("sound", "L2", 10),
        ("proxy", "L2", 10),
        ("attack", "L2", 10),
        ("attack", "Linf", 10),
    ]
    assert main(["certify", str(copy), "--n", "8", "--bounds", "[]"]) == 0
    assert [b.name for b in read_record(copy).bounds][-1] == "FMN-100 from DeepFool"
    assert main(["certify", str(copy), "--n", "8", "--attacks", "[FGSM]"]) == 2
    assert main(["certify", str(copy), "--bounds", "[]", "--attacks", "[]"]) == 2
    assert "both empty" in capsys.readouterr().err


def test_attacks_can_be_chosen_with_their_settings(run):
    attacks = "[FGSM, {class_path: PGD, init_args: {steps: 3, restarts: 2, loss: Decision}}]"
    assert main(["evaluate", str(run), "--eps", "0.1", "--n", "20", "--attacks", attacks, "--checks", "[]"]) == 0
    names = [a.name for a in read_record(run).evaluation.robust[0].attacks]
    assert names == ["FGSM", "PGD-3 Decision x2"]


def test_evaluate_pictures_the_first_examples_which_changes_no_figure(run, tmp_path, capsys):
    copies = [tmp_path / name for name in ("none", "two")]
    options = ["--norm", "L2", "--eps", "0.5", "--n", "20", "--attacks", "[FGSM]", "--checks", "[]"]
    for copy, n in zip(copies, ("0", "2"), strict=True):
        shutil.copytree(run, copy)
        assert main(["evaluate", str(copy), *options, "--pictured", n]) == 0
    none, two = (figures(copy) | {"settings": None} for copy in copies)
    assert none == two
    assert read_record(copies[0]).pictured == []
    found = read_record(copies[1]).pictured
    assert [(one.index, one.split, one.norm) for one in found if one.found is not None]
    assert [(one.index, one.split) for one in found] == [(0, "test"), (1, "test")]
    assert main(["evaluate", str(copies[1]), *options, "--pictured", "1"]) == 0
    assert len(read_record(copies[1]).pictured) == 1  # those of the earlier evaluation go with it
    assert main(["evaluate", str(copies[1]), *options, "--pictured", "-1"]) == 2
    assert "`pictured`" in capsys.readouterr().err


def test_surface_looks_at_runs_side_by_side_and_keeps_what_it_saw(run, tmp_path, capsys):
    copy = tmp_path / "b"
    shutil.copytree(run, copy)
    small = ["--resolution", "3", "--out", str(tmp_path / "out")]
    assert main(["surface", str(run), str(copy), "--index", "7", "--axes", "random", "adversarial", *small]) == 0
    first, second = (read_record(folder).surfaces[-1] for folder in (run, copy))
    assert first.plane == second.plane
    assert (first.index, first.shown, [axis.name for axis in first.axes]) == (
        7,
        ["Decision"],
        ["Random", "Adversarial(CrossEntropy)"],
    )
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".pdf", ".png", ".html"}
    assert "the decision " in capsys.readouterr().out
    more = ["--axes", "random", "gradient", "--field", "loss", "decision", "--clipped", "true", "--norm", "L2"]
    assert main(["surface", str(copy), *more, *small]) == 0
    assert main(["surface", str(copy), *more, *small]) == 0  # in place of what it saw before
    assert [one.shown for one in read_record(copy).surfaces] == [["Decision"], ["CrossEntropy", "Decision"]]
    assert main(["surface", str(copy), "--space", "parameters", "--n", "8", *small]) == 0
    assert read_record(copy).surfaces[-1].space == "parameters"


def test_figure_draws_and_measures_once(run, tmp_path, capsys):
    copy = tmp_path / "b"
    shutil.copytree(run, copy)
    call = ["figure", "haat-5", str(copy), "--n", "4", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    assert (tmp_path / "out" / "haat-5.html").exists()
    assert "taking PowerConvergence" in capsys.readouterr().out
    assert main(call) == 0
    assert "taking" not in capsys.readouterr().out
    assert main(["figure", "Guo3", "--out", str(tmp_path / "out")]) == 0
    assert main(["figure"]) == 0
    assert "  Yu4 " in capsys.readouterr().out


def test_show_takes_runs_and_says_how_to_run_one_again(run, capsys):
    assert main(["show", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "Training, s per epoch" in shown
    assert "batch_size" in shown
    assert "command" in shown
    assert main(["show", str(run), str(run / "record.json")]) == 0
    shown = capsys.readouterr().out
    assert "a (2)" in shown
    assert "batch_size" not in shown


def test_report_from_runs(run, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(page)]) == 0
    assert page.stat().st_size > 1_000_000
    assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["r.md", "r.csv", "r.tex", "v1.2"])
def test_a_report_is_an_html_page(run, tmp_path, capsys, name):
    assert main(["report", str(run), "--out", str(tmp_path / name)]) == 2
    assert "`out` must be a page, NAME.html" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def names_in(folder):
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize(
    "call",
    [
        ["report", "RUN", "--out", "FOLDER/report.html"],
        ["surface", "RUN", "--resolution", "3", "--out", "FOLDER/figures"],
        ["figure", "haat-5", "RUN", "--n", "4", "--out", "FOLDER/figures/below"],
    ],
)
def test_a_file_in_the_way_is_named_before_the_work(run, tmp_path, capsys, call):
    (tmp_path / "figures").write_text("mine")
    before = (run / "record.json").read_bytes()
    assert main([word.replace("RUN", str(run)).replace("FOLDER", str(tmp_path)) for word in call]) == 2
    err = capsys.readouterr().err
    assert f"{tmp_path / 'figures'} is a file" in err
    assert err.count("\n") == 1
    assert (run / "record.json").read_bytes() == before
    assert names_in(tmp_path) == {"figures"}


def test_a_folder_where_a_table_should_be_is_named_before_anything_is_written(run, tmp_path, capsys):
    (tmp_path / "a.tex").mkdir()
    assert main(["report", str(run), "--out", str(tmp_path / "a.html")]) == 2
    assert f"{tmp_path / 'a.tex'} is a folder" in capsys.readouterr().err
    assert names_in(tmp_path) == {"a.tex"}


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in ("InputGradient", "PGD", "SpectralCurvature", "ResNet31", "ylecun/mnist", "mnist-first-look", "Cosine"):
        assert name in shown


RECIPE = """
name: tiny
run:
  data: {train_limit: 320, test_limit: 60}
  model: {class_path: Mlp}
  epochs: 1
objectives: {erm: Erm, gradient: {class_path: InputGradient, init_args: {weight: 0.1}}}
evaluate: {threats: {Linf: [8/255]}, n: 30, attacks: [FGSM], checks: [OneStep], pictured: 0}
measure: {n: 10, measures: [GradientNorm]}
certify: {n: 10, attacks: [DeepFool]}
"""


def test_demo_goes_on_where_it_stopped_and_touches_no_other_run(tmp_path, capsys):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    command = ["demo", "--config", str(recipe), "--out", str(tmp_path)]
    assert main(command) == 0
    folder = tmp_path / "tiny"
    assert (folder / "report.html").exists()
    assert len(list((folder / "figures").glob("*.png"))) == len(list((folder / "figures").glob("*.pdf"))) > 0
    trained = (folder / "erm" / "model.safetensors").stat().st_mtime_ns
    (folder / "gradient" / "record.json").unlink()  # as if it had been killed while training
    capsys.readouterr()
    assert main(command) == 0
    assert "gradient: training" in (out := capsys.readouterr().out)
    assert "erm: training" not in out
    assert (folder / "erm" / "model.safetensors").stat().st_mtime_ns == trained
    assert main([*command, "--evaluate.n", "20"]) == 0  # other settings: evaluated again, not trained, not stale
    assert "erm: attacking" in (out := capsys.readouterr().out)
    assert "measuring" not in out
    assert "certifying" not in out
    assert read_record(folder / "erm").evaluation.n == 20
    assert main([*command, "--run.epochs", "2"]) == 2
    assert "already holds a run with another configuration" in capsys.readouterr().err
    assert (folder / "erm" / "model.safetensors").stat().st_mtime_ns == trained


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "verb: unknown name 'trian'. Did you mean 'train'?"),
        (["train", "--objective", "Nope"], "objective: unknown name 'Nope'. Known: AdversarialTraining"),
        (["train", "--epoch", "3x"], "epoch"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml does not exist"),
        (["train", "--data.source", "./nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "run: nowhere does not exist"),
        (["evaluate", "RUN", "--eps", "0"], "`eps` must be positive and finite, got 0"),
        (["evaluate", "RUN", "--eps", "nan"], "`eps` must be positive and finite, got nan"),
        (["evaluate", "RUN", "--norm", "L7", "--eps", "0.1"], "L7"),
        (["evaluate", "RUN", "--n", "0"], "`n`"),
        (["evaluate", "RUN", "--norm", "L2"], "`--norm L2` needs radii"),
        (["evaluate", "RUN", "--eps"], "needs radii"),
        (["evaluate", "RUN", "--eps", "0.1", "--threats", "{L2: [1]}"], "Give one of them"),
        (["evaluate", "RUN", "--attacks", "[]"], "`attacks`"),
        (["measure", "RUN", "--measures", "[]"], "`measures`"),
        (["train", "--config", "RUN/model.safetensors"], "cannot be read as text in UTF-8"),
        (["evaluate", "RUN", "--device", "tpu9"], "`device`"),
        (["train", "--accelerator", "abacus"], "accelerator"),
        (["evaluate", "RUN", "--attacks", "[PDG]"], "unknown name 'PDG'. Did you mean 'PGD'?"),
        (["measure", "RUN", "--measures", "[{class_path: SpectralCurvature, init_args: {field: Margins}}]"], "Margin"),
        (["report", "nowhere"], "no record.json in nowhere"),
        (["show", "nowhere"], "no record.json in nowhere"),
        (["surface", "RUN", "--axes", "random"], "`axes` must be two axes"),
        (["surface", "RUN", "--axes", "randm", "random"], "unknown name 'randm'"),
        (["surface", "RUN", "--field"], "`--field` needs names"),
        (["surface", "RUN", "--index", "99999"], "`index` must be below the"),
        (["surface", "RUN", "--space", "parameters", "--eps", "0.1"], "`eps` says nothing in the space of parameters"),
        (["figure", "Yu5"], "unknown name 'Yu5'"),
        (["figure", "Guo1", "RUN"], "drawn from a formula"),
        (["figure", "Yu6", "RUN"], "drawn from 2 runs or more"),
        (["demo", "--config", "nothing"], "nothing does not exist"),
        (["demo", "--objectives", "{}"], "objectives"),
    ],
)
def test_mistakes_are_one_line_exit_two_and_change_nothing(run, capsys, arguments, message):
    before = (run / "record.json").read_bytes()
    code = main([a.replace("RUN", str(run)) for a in arguments])
    err = capsys.readouterr().err
    assert code == 2
    assert err.startswith("meseta: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert (run / "record.json").read_bytes() == before


def test_a_margin_hessian_on_a_relu_network_is_refused(run, capsys):
    measure = "[{class_path: SpectralCurvature, init_args: {field: Margin}}]"
    before = (run / "record.json").read_bytes()
    assert main(["measure", str(run), "--n", "5", "--measures", measure]) == 2
    assert "piecewise-linear" in capsys.readouterr().err
    assert (run / "record.json").read_bytes() == before


def broken(run, tmp_path, name, content):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / name).write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"", "model.safetensors"),
        ("model.safetensors", b"\x80\x04K\x01.", "model.safetensors"),
        ("config.json", b"{}", "config.json"),
        ("config.json", b"not json", "config.json"),
        ("config.yaml", b"epochs: [", "config"),
        ("config.yaml", b"epochs: -1", "epochs"),
        ("record.json", b"{}", "schema version"),
    ],
)
def test_corrupt_runs_are_named(run, tmp_path, capsys, name, content, message):
    copy = broken(run, tmp_path, name, content)
    before = (copy / "record.json").read_bytes()
    assert main(["evaluate", str(copy), "--eps", "0.1"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert (copy / "record.json").read_bytes() == before


def test_a_foreign_model_is_refused(run, tmp_path, capsys):
    from meseta.models import LeNet300100

    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    LeNet300100().build((1, 28, 28), 10).save_pretrained(copy)
    assert main(["evaluate", str(copy), "--eps", "0.1"]) == 2
    assert "its data now has" in capsys.readouterr().err


def test_print_config_is_a_file_that_trains(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--objective", "InputGradient", "--objective.weight", "1/2", "--print_config"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "weight: 0.5" in printed
    (tmp_path / "c.yaml").write_text(printed)
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path), "--name", "b", *SMALL]) == 0
    objective = json.loads((tmp_path / "b" / "record.json").read_text())["training"]["objective"]
    assert objective == "InputGradient(weight=0.5, share=1.0, q=2.0, power=2, radius=None)"


@pytest.mark.parametrize(
    "verb", ["demo", "train", "evaluate", "measure", "certify", "surface", "sweep", "report", "show", "list"]
)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"meseta {verb}" in capsys.readouterr().out


def test_help_and_version(capsys):
    assert main([]) == main(["--help"]) == main(["--version"]) == 0
    assert "demo" in capsys.readouterr().out


def in_a_process(verb, **options):
    """Run a verb, given as Python, in a process of its own."""
    code = f"import sys, meseta.cli as cli\ncli.VERBS['x'] = lambda _: {verb}\nsys.exit(cli.main(['x']))"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, **options)


def test_a_reader_that_has_read_enough_is_no_error():
    process = in_a_process("[print('line') for _ in range(100_000)]")
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(), process.stderr.read()) == (141, b"")


def test_what_the_terminal_cannot_show_is_a_question_mark():
    out, err = in_a_process(r"print('8×8 \ud800')", env={**os.environ, "PYTHONIOENCODING": "ascii"}).communicate()
    assert (out, err) == (b"8?8 ?\n", b"")


def test_memory_that_runs_out_is_said_and_bugs_are_not_hidden(monkeypatch, capsys):
    def fail(error):
        def verb(_):
            raise error

        monkeypatch.setitem(VERBS, "list", verb)
        return main(["list"])

    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")):
        assert fail(error) == 2
        assert "out of memory. Take smaller batches" in capsys.readouterr().err
    for error in (RuntimeError("a bug"), ValueError("a bug"), RecursionError("a bug")):
        with pytest.raises(type(error), match="a bug"):
            fail(error)


def test_arguments_that_no_record_could_hold(capsys):
    assert main(["train", "--name", "a\udcff"]) == 2
    assert "is not in UTF-8" in capsys.readouterr().err
