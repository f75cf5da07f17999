import csv
import os
import random

import pytest
import torch
import yaml

from meseta.configuration import dump, plain, read
from meseta.data import DataConfig
from meseta.errors import UserError
from meseta.evaluation.record import read_record
from meseta.models import LeNet300100, Mlp, Network, SiluCnn
from meseta.objectives import AdversarialTraining, InputGradient, Objective, ObjectiveValue
from meseta.schedules import Cosine
from meseta.training import RunConfig, Sgd, train

DATA = DataConfig(train_limit=320, test_limit=100)


def config(tmp_path, **settings):
    return RunConfig(**{"out": str(tmp_path), "name": "run", "data": DATA, "model": Mlp(), "epochs": 2, **settings})


def test_a_run_learns_and_leaves_everything_to_use_it_again(tmp_path):
    run = config(tmp_path, objective=InputGradient(weight=0.01), epochs=6, optimizer=Sgd(lr=0.05), schedule=Cosine())
    state = torch.get_rng_state()
    folder = train(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert folder == tmp_path / "run"
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock", "checkpoints", "config.json", "config.yaml", "metrics.csv", "model.safetensors", "record.json",
        "tensorboard",
    ]  # fmt: skip
    assert (folder / "checkpoints" / "last.ckpt").exists()
    assert any((folder / "tensorboard").iterdir())
    assert read(RunConfig, folder / "config.yaml") == run

    record = read_record(folder)
    assert record.training.steps == 6 * 3
    assert record.training.metrics["val/accuracy"] > 0.7
    assert record.config == plain(run) == yaml.safe_load((folder / "config.yaml").read_text())
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    terms = [float(row["train/input_gradient"]) for row in rows if row["train/input_gradient"]]
    assert len(terms) > 5
    assert float(rows[-1]["val/accuracy"]) == pytest.approx(record.training.metrics["val/accuracy"])

    data = run.data.load()
    x, y = data.test[:]
    model = Network.from_pretrained(folder)
    assert (model(x).argmax(1) == y).float().mean() > 0.7
    torch.testing.assert_close(model.normalize.mean.flatten(), torch.tensor(data.mean))


def test_same_seed_same_weights_another_seed_others(tmp_path):
    def weights(name, seed):
        run = config(tmp_path, name=name, seed=seed, epochs=1, model=SiluCnn(), augment="crop_flip")
        return Network.from_pretrained(train(run)).state_dict()

    first, again, other = weights("a", 1), weights("b", 1), weights("c", 2)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["body.0.weight"], other["body.0.weight"])


def test_fine_tuning_starts_from_saved_weights(tmp_path):
    start = train(config(tmp_path, name="start", model=LeNet300100(), epochs=1))
    tuned = train(
        config(tmp_path, name="tuned", model=None, start_from=str(start), optimizer=Sgd(lr=1e-12), epochs=1,
               objective=AdversarialTraining())
    )  # fmt: skip
    before, after = (Network.from_pretrained(f).state_dict() for f in (start, tuned))
    for name in before:
        torch.testing.assert_close(before[name], after[name])
    with pytest.raises(UserError, match="`model` and `start_from` exclude each other"):
        config(tmp_path, start_from=str(start))
    with pytest.raises(UserError, match=r"`start_from`.*classes"):
        train(config(tmp_path, name="two", model=None, start_from=str(start), data=DataConfig(classes=(1, 7))))
    assert not (tmp_path / "two").exists()


def test_a_binary_task_has_two_logits(tmp_path):
    folder = train(config(tmp_path, data=DataConfig(classes=(7, 1)), epochs=8))
    assert Network.from_pretrained(folder).classes == 2
    record = read_record(folder)
    assert "7 against 1" in record.data
    assert record.training.metrics["val/accuracy"] > 0.9


def test_an_existing_run_is_never_touched(tmp_path):
    folder = train(config(tmp_path, epochs=1))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with pytest.raises(UserError, match="already holds a run"):
        train(config(tmp_path, epochs=2))
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_nothing_is_made_where_data_or_weights_are_missing(tmp_path):
    for bad in (
        {"data": DataConfig(source=str(tmp_path / "nowhere"))},
        {"model": None, "start_from": str(tmp_path / "no")},
    ):
        with pytest.raises(UserError, match=r"nowhere|no"):
            train(config(tmp_path, **bad))
        assert not (tmp_path / "run").exists()


class Explodes(Objective):
    def evaluate(self, model, x, y, generator):
        loss = model(x).square().sum(1) * torch.inf
        return ObjectiveValue(loss.mean(), {"boom": loss.detach()})


def test_a_loss_that_is_not_finite_stops_with_step_and_term_and_no_record(tmp_path):
    with pytest.raises(UserError, match=r"diverged at step 0: the loss is not finite .*boom.*No checkpoint was kept"):
        train(config(tmp_path, objective=Explodes()))
    assert not (tmp_path / "run").exists()  # the corrected command starts on clean ground


def test_global_random_state_and_environment_stay(tmp_path):
    before = random.getstate(), dict(os.environ)
    train(config(tmp_path, epochs=1))
    assert (random.getstate(), dict(os.environ)) == before


def test_batchnorm_survives_a_last_batch_of_one(tmp_path):
    small = DataConfig(train_limit=129, test_limit=10)
    assert train(config(tmp_path, model=Mlp(norm="batch"), data=small, epochs=1)).exists()


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}, {"augment": "blur"}, {"name": "../up"}, {"name": ""}]
)
def test_bad_settings_are_refused(tmp_path, bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        config(tmp_path, **bad)


def test_dump_gives_back_the_same_configuration(tmp_path):
    run = config(
        tmp_path, objective=AdversarialTraining(), schedule=Cosine(warmup=0.5), data=DataConfig(classes=(1, 7))
    )
    (tmp_path / "c.yaml").write_text(dump(run))
    assert read(RunConfig, tmp_path / "c.yaml") == run
