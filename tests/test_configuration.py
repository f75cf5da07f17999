import pytest

from meseta.attacks import FGSM, PGD
from meseta.configuration import load_yaml, parse, parser, read
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.objectives import AdversarialTraining, CrossLipschitz, Erm, InputGradient
from meseta.threat import Threat
from meseta.training import AdamW, RunConfig


def parsed(*arguments):
    return parse(parser(RunConfig), RunConfig, arguments)[0]


def test_numbers_in_yaml():
    assert load_yaml("[8/255, 1e-3, 2E5, -1/4, 3, 0.5, 1/2/3, a/b, 'x 8/255']") == [
        8 / 255, 1e-3, 2e5, -0.25, 3, 0.5, "1/2/3", "a/b", "x 8/255",
    ]  # fmt: skip


def test_options_override_the_file_and_keep_the_rest(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "epochs: 3\nobjective:\n  class_path: AdversarialTraining\n  init_args:\n"
        "    attack: {class_path: PGD, init_args: {threat: {norm: L2, eps: 1/2}, steps: 5}}\n"
    )
    run = parsed("--config", str(file), "--objective.attack.steps", "9", "--data.classes", "[1, 7]")
    # Settings that the file leaves out keep the default attack's values: drop_broken=False, not PGD's own True.
    expected = AdversarialTraining(attack=PGD(threat=Threat("L2", 0.5), steps=9, drop_broken=False))
    assert run == RunConfig(epochs=3, objective=expected, data=DataConfig(classes=(1, 7)))


def test_methods_by_short_name_with_fractions_anywhere():
    assert parsed("--objective", "InputGradient", "--objective.weight=1/4").objective == InputGradient(weight=0.25)
    assert parsed("--objective", "{class_path: InputGradient, init_args: {weight: 1/8}}").objective.weight == 0.125
    assert parsed("--objective", "Erm").objective == Erm()
    assert parsed("--data.val_fraction", "1/10").data.val_fraction == 0.1


def test_a_method_named_on_the_command_line_starts_from_its_own_defaults(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("objective: {class_path: InputGradient, init_args: {weight: 1/5}}\n")
    assert parsed("--config", str(file), "--objective.q", "1").objective == InputGradient(weight=0.2, q=1)
    assert parsed("--config", str(file), "--objective", "CrossLipschitz").objective == CrossLipschitz()


def test_folders_that_look_like_fractions_stay_folders():
    run = parsed("--out", "2024/10", "--data.source=1/2")
    assert (run.out, run.data.source) == ("2024/10", "1/2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "InputGradiant"], "objective: unknown name 'InputGradiant'. Did you mean 'InputGradient'"),
        (["--model", "LeNet6"], "model: unknown name 'LeNet6'. Did you mean 'LeNet5'"),
        (["--optimizer", "Lion"], "optimizer: unknown name 'Lion'.*Known: Adam, AdamW, Sgd"),
        (["--schedule", "Sine"], "schedule: unknown name 'Sine'.*Cosine"),
        (["--objective", "InputGradient", "--objective.wait", "1"], "wait"),
        (["--epochs", "many"], "epochs.*many"),
        (["--seed", "99999999999999999999999"], "`seed`"),
        (["--data.classes", "1,7"], r"Write a list: \[A, B\]"),
        (["--epochs", "1/0"], "divides by zero"),
        (["--objective", "InputGradient", "--objective.weight", "-1"], "`weight`"),
        (["--objective.class_path", "os.system"], "not allowed|denied"),
        (["--objective", "subprocess.Popen"], "not allowed|denied"),
    ],
)
def test_bad_options_are_refused_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        parsed(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epchs: 3", "epchs"),
        ("objective: {class_path: InputGradient, init_args: {weigth: 1}}", "weigth"),
        ("epochs: [1", "config"),
        ("out:", "`out` must have a value, got null"),
        ("data: {val_fraction: null}", "`val_fraction` must have a value"),
        ("schedule: {class_path: Cosine, init_args: {warmup: null}}", "`warmup` must have a value"),
        (
            "objective: {class_path: Sum, init_args: {parts: [{class_path: InputGradient, init_args: {q: }}]}}",
            "`q` must",
        ),
        ("- a\n- b", "config"),
        ("objective: !!python/object/apply:os.system ['echo no']", "config"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read(RunConfig, tmp_path / "c.yaml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read(RunConfig, tmp_path / "none.yaml")


def test_a_method_in_a_file_starts_from_its_own_defaults_where_it_replaces_another(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "optimizer: AdamW\n"
        "objective:\n  class_path: AdversarialTraining\n"
        "  init_args: {attack: {class_path: FGSM, init_args: {stride: 0.5}}}\n"
    )
    run = read(RunConfig, file)
    assert run.optimizer == AdamW()  # not the weight decay of Adam, the default
    assert run.objective.attack == FGSM(stride=0.5)  # not the random start of PGD
