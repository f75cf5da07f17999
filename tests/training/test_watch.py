import csv
import math

import pytest
import torch
from torch import nn

from meseta.attacks import FGSM, PGD, CarliniWagner
from meseta.autodiff import Decision
from meseta.configuration import dump, parse, parser, read
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation import evaluate
from meseta.evaluation.record import read_record
from meseta.models import Mlp, Network
from meseta.objectives import Curvature, Erm, InputGradient, Scheduled, Soar
from meseta.threat import Threat
from meseta.training import RunConfig, Watch, train

DATA = DataConfig(train_limit=320, test_limit=60)
THREAT = Threat("Linf", 0.1)
ATTACKS = (FGSM(threat=THREAT), FGSM(threat=THREAT, loss=Decision()), PGD(threat=THREAT, steps=3, restarts=2))


def config(tmp_path, **settings):
    defaults = {"out": str(tmp_path), "name": "run", "data": DATA, "model": Mlp(activation="silu"), "epochs": 3}
    return RunConfig(**{**defaults, **settings})


def test_a_watch_changes_no_weight_bitwise(tmp_path):
    objective = Scheduled(objective=Soar(threat=THREAT))  # draws and takes second derivatives itself
    watch = Watch(splits=("train", "val", "test"), n=60, attacks=ATTACKS, objectives=(Soar(directions=2), Curvature()))
    shared = {"model": Mlp(activation="silu", norm="batch"), "objective": objective}
    plain, watched = (
        torch.load(
            train(config(tmp_path, name=name, watch=one, **shared)) / "checkpoints/last.ckpt", weights_only=False
        )
        for name, one in (("plain", None), ("watched", watch))
    )
    assert plain["state_dict"].keys() == watched["state_dict"].keys()
    assert all(torch.equal(plain["state_dict"][name], value) for name, value in watched["state_dict"].items())
    for before, after in zip(*(one["optimizer_states"][0]["state"].values() for one in (plain, watched)), strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)


class Noisy(nn.Module):
    """Draws from the global generator in either mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 10))

    def forward(self, x):
        return self.layers(x + 0.01 * torch.randn_like(x))


def test_looking_leaves_model_and_random_state_alone_and_sees_the_same_twice():
    model, data = Noisy(), DATA.load()
    model.layers[3].eval()
    modes = [module.training for module in model.modules()]
    state, before = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    watch = Watch(n=50, attacks=ATTACKS, objectives=(InputGradient(),))
    first, second = (watch.look(model, data, batch_size=20, seed=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_the_history_holds_what_was_logged_and_what_the_watch_saw(tmp_path):
    watch = Watch(every=2, n=None, splits=("test",), attacks=ATTACKS, objectives=(InputGradient(), Erm()))
    run = config(tmp_path, batch_size=250, objective=InputGradient(weight=0.01), watch=watch)
    folder = train(run)
    history = read_record(folder).training.history
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    rest = len(run.data.load().train) - 250
    for name in ("train/total", "train/cross_entropy", "train/input_gradient"):
        steps = [float(row[name]) for row in rows if row[name]]  # two an epoch
        means = [(250 * a + rest * b) / (250 + rest) for a, b in zip(steps[::2], steps[1::2], strict=True)]
        assert history[name] == pytest.approx(means)
    for name in ("val/accuracy", "watch/test/accuracy"):
        assert [v for v in history[name] if v is not None] == pytest.approx([float(r[name]) for r in rows if r[name]])
    assert {len(values) for values in history.values()} == {3}
    assert all(history[name][0] is None and history[name][2] is not None for name in history if "watch" in name)

    model, (x, y) = Network.from_pretrained(folder), run.data.load().test[:]
    evaluation = evaluate(model, x, y, threat=THREAT, attacks=ATTACKS[:2], checks=())
    last = {name: values[-1] for name, values in history.items()}
    assert last["watch/test/accuracy"] == pytest.approx(evaluation.clean_accuracy)
    names = "accuracy FGSM Linf 0.1", "accuracy FGSM Decision Linf 0.1"
    for name, result in zip(names, evaluation.robust[0].attacks, strict=True):
        assert last[f"watch/test/{name}"] == pytest.approx(result.accuracy)
    worst = last["watch/test/accuracy worst case Linf 0.1"]
    assert worst <= min(last[name] for name in last if name.startswith("watch/test/accuracy "))
    assert worst <= evaluation.robust[0].worst_case + 1e-9
    terms = InputGradient()(model, x, y).terms
    assert last["watch/test/input_gradient InputGradient"] == pytest.approx(float(terms["input_gradient"].mean()))
    assert last["watch/test/cross_entropy Erm"] == pytest.approx(last["watch/test/cross_entropy"])


def test_the_watch_is_configured_as_everything_else(tmp_path):
    watch = Watch(every=5, splits=("train", "test"), attacks=ATTACKS, objectives=(Soar(), Soar(directions=100)))
    run = config(tmp_path, watch=watch)
    (tmp_path / "c.yaml").write_text(dump(run))
    assert read(RunConfig, tmp_path / "c.yaml") == run
    options = parser(RunConfig)
    line = "--watch.every 4|--watch.splits [test]|--watch.attacks [{class_path: PGD, init_args: {steps: 7}}]"
    parsed, _ = parse(options, RunConfig, [word for option in line.split("|") for word in option.split(" ", 1)])
    assert parsed.watch == Watch(every=4, splits=("test",), attacks=(PGD(steps=7),))


def test_attacks_and_objectives_of_one_name_are_told_apart():
    model, data = Mlp().build((1, 8, 8), 10), DATA.load()
    watch = Watch(
        n=4,
        attacks=(PGD(steps=2), PGD(steps=2, alpha=0.01), PGD(threat=THREAT, steps=2)),
        objectives=(Soar(), Soar(directions=3)),
    )
    seen = watch.look(model, data, batch_size=4, seed=0)
    assert set(seen) == {
        "watch/val/accuracy",
        "watch/val/cross_entropy",
        "watch/val/accuracy PGD-2 CrossEntropy Linf 0.03137 alpha=None",
        "watch/val/accuracy PGD-2 CrossEntropy Linf 0.03137 alpha=0.01",
        "watch/val/accuracy PGD-2 CrossEntropy Linf 0.1",
        "watch/val/accuracy worst case Linf 0.03137",
        "watch/val/soar directions=1",
        "watch/val/soar directions=3",
    }
    assert all(math.isfinite(value) for value in seen.values())


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"every": 0}, "every"),
        ({"n": 0}, "n"),
        ({"splits": ()}, "splits"),
        ({"splits": ("val", "val")}, "splits"),
        ({"splits": ("dev",)}, "splits"),
        ({"attacks": (Erm(),)}, "attacks"),
        ({"objectives": (PGD(),)}, "objectives"),
        ({"attacks": (PGD(), PGD())}, "attacks"),
    ],
)
def test_bad_settings_of_a_watch_are_refused(bad, name):
    with pytest.raises(UserError, match=f"`{name}`"):
        Watch(**bad)


def test_what_cannot_be_watched_is_refused_before_training(tmp_path):
    with pytest.raises(UserError, match="searches L2 alone"):
        train(config(tmp_path, watch=Watch(attacks=(CarliniWagner(threat=THREAT),))))
    assert not (tmp_path / "run").exists()
