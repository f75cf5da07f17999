"""Methods of the user's own: found where the user allows their module, and nothing is imported otherwise."""

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from meseta.allowed import _imported, allow, allowed_names
from meseta.cli import main
from meseta.configuration import dump
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.models import Network
from meseta.registry import methods

OWN = """
from dataclasses import dataclass

from torch import nn

from meseta.attacks import FGSM
from meseta.models import Architecture
from meseta.objectives import Erm, Objective


@dataclass(frozen=True, kw_only=True)
class Doubled(Objective):
    '''Twice the loss.'''

    factor: float = 2.0

    def evaluate(self, model, x, y, generator):
        value = Erm()(model, x, y)
        return type(value)(self.factor * value.total, value.terms)


@dataclass(frozen=True, kw_only=True)
class Linear(Architecture):
    '''A linear classifier.'''

    def layers(self, input_shape, classes):
        size = 1
        for axis in input_shape:
            size *= axis
        return nn.Sequential(nn.Flatten(), nn.Linear(size, classes))


class _Private(FGSM):
    pass
"""
SMALL = ["--data.train_limit", "64", "--data.test_limit", "16", "--epochs", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with modules of a user's own, and a run with an own objective and an own architecture."""
    here = tmp_path_factory.mktemp("own")
    (here / "own_methods.py").write_text(OWN)
    (here / "own_clash.py").write_text(OWN.replace("class Doubled", "class Erm2").replace("class Linear", "class Mlp"))
    (here / "own_canary.py").write_text("open('imported', 'w').close()")
    (here / "own_broken.py").write_text("import not_there_either")
    before = list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        train = ["train", "--allow", "own_methods", "--objective", "Doubled", "--objective.factor", "3", "--name", "a"]
        assert main([*train, "--model", "Linear", *SMALL]) == 0
    yield here
    sys.path[:] = before
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
    _imported.cache_clear()
    gc.collect()  # a class that is gone is no subclass of anything: the parser of later tests finds one Mlp


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_run_with_own_methods_names_their_modules(folder):
    config = yaml.safe_load((folder / "runs/a/config.yaml").read_text())
    assert config["objective"] == {"class_path": "own_methods.Doubled", "init_args": {"factor": 3.0}}
    assert config["model"]["class_path"] == "own_methods.Linear"
    assert read_record(folder / "runs/a").training.objective == "Doubled(factor=3.0)"


def test_other_verbs_need_the_module_again_and_records_do_not(folder, tmp_path, capsys):
    run = str(shutil.copytree(folder / "runs/a", tmp_path / "a"))
    take = ["--n", "4", "--measures", "[GradientNorm]"]
    assert main(["measure", run, *take]) == 2
    assert "own_methods is not allowed. If you trust its code, add --allow own_methods" in capsys.readouterr().err
    assert main(["measure", run, *take, "--allow", "own_methods"]) == 0
    attack = ["--eps", "0.1", "--n", "4", "--attacks", "[FGSM]", "--checks", "[]"]
    assert main(["evaluate", run, *attack, "--allow=own_methods"]) == 0
    assert main(["show", run]) == 0


def test_child_processes_know_the_modules(folder, tmp_path):
    run = str(shutil.copytree(folder / "runs/a", tmp_path / "a"))
    options = ["--allow", "own_methods", "--eps", "0.1", "--n", "4", "--attacks", "[FGSM]", "--checks", "[]"]
    call = [sys.executable, "-P", "-m", "meseta", "evaluate", run, *options, "--devices", "2", "--device", "cpu"]
    subprocess.run(call, check=True, capture_output=True)
    assert read_record(Path(run)).evaluation.n == 4


def test_the_environment_allows_as_well(folder, monkeypatch):
    assert "Doubled" not in methods("objectives")
    monkeypatch.setenv("MESETA_ALLOW", " own_methods, ")
    assert allowed_names() == ("own_methods",)
    assert list(methods("objectives"))[-1] == "Doubled"
    assert list(methods("models"))[-1] == "Linear"
    assert "_Private" not in methods("attacks")
    assert dump(methods("objectives")["Doubled"]()).startswith("class_path: own_methods.Doubled")


def test_nothing_is_allowed_after_the_block():
    with allow(["own_methods"]):
        assert "Doubled" in methods("objectives")
    assert allowed_names() == ()
    assert "Doubled" not in methods("objectives")


def test_checkpoints_with_an_own_architecture(folder):
    with pytest.raises(UserError, match=r"own_methods\.Linear .* --allow own_methods"):
        Network.from_pretrained(folder / "runs/a")
    with allow(["own_methods"]):
        assert type(Network.from_pretrained(folder / "runs/a").architecture).__name__ == "Linear"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["not_there"], "there is no module not_there in"),
        (["own_methods.deeper"], "there is no module own_methods.deeper"),
        (["a b"], "must be the name of a module of your own"),
        (["../own_methods"], "must be the name of a module of your own"),
        (["meseta.cli"], "must be the name of a module of your own"),
        (["__main__"], "must be the name of a module of your own"),
        ([""], "needs the name of a module"),
    ],
)
def test_what_is_no_module_is_named(capsys, names, message):
    assert main(["list", *(word for name in names for word in ("--allow", name))]) == 2
    assert message in capsys.readouterr().err


def test_names_of_mesetas_own_stay_its_own(capsys):
    assert main(["list", "--allow", "own_clash"]) == 2
    assert "own_clash.Mlp has the name of meseta.models.mlp.Mlp. Rename it." in capsys.readouterr().err
    assert "Doubled" not in capsys.readouterr().out


def test_own_methods_are_listed(capsys):
    assert main(["list", "--allow", "own_methods"]) == 0
    assert "Twice the loss." in capsys.readouterr().out


def test_what_an_own_module_lacks_is_its_own_error():
    with pytest.raises(ModuleNotFoundError, match="not_there_either"), allow(["own_broken"]):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "objective: own_canary.X",
        "objective: {class_path: own_canary.X}",
        "model: {class_path: own_canary.X, init_args: {hidden: [3]}}",
        "optimizer: own_canary.X",
        "objective: {class_path: AdversarialTraining, init_args: {attack: own_canary.X}}",
        "objective: {class_path: Sum, init_args: {parts: [Erm, own_canary.X]}}",
        "data: {class_path: own_canary.X}",
        "allow: own_canary",
    ],
)
def test_no_file_imports_a_module(folder, monkeypatch, capsys, text):
    monkeypatch.syspath_prepend(str(folder))  # as `python -m meseta` has it
    Path("c.yaml").write_text(text)
    assert main(["train", "--config", "c.yaml"]) == 2
    assert not Path("imported").exists()
    assert "own_canary" in (err := capsys.readouterr().err) or "allow" in err


def test_the_canary_sings(folder):
    with allow(["own_canary"]):
        assert Path("imported").exists()
    Path("imported").unlink()


def test_a_class_of_a_script_is_told_apart(capsys):
    assert main(["train", "--objective", "__main__.X"]) == 2
    assert "Put a class of your own into a module of its own" in capsys.readouterr().err


def test_an_allowed_module_offers_its_methods_alone(capsys):
    assert main(["train", "--allow", "own_methods", "--objective", "own_methods.nn"]) == 2
    assert main(["train", "--allow", "own_methods", "--objective", "own_methods._Private"]) == 2
    assert "has no public class _Private of this kind" in capsys.readouterr().err
