"""Settings that follow a schedule: at a share of training, as a user gives them, and while training."""

from dataclasses import dataclass, replace

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from meseta import Threat
from meseta.attacks import FGSM, PGD
from meseta.configuration import dump, parse, parser, read
from meseta.errors import UserError
from meseta.objectives import (
    AdversarialTraining,
    CrossLipschitz,
    DecisionGradient,
    Erm,
    InputGradient,
    Objective,
    ObjectiveValue,
    Scheduled,
    Sum,
)
from meseta.schedules import Constant, Cosine, LinearWarmup, Steps
from meseta.training import RunConfig, Sgd
from meseta.training.module import ObjectiveModule

RISING = LinearWarmup(until=1.0)
FGSM_TRAINING = AdversarialTraining(attack=FGSM(threat=Threat(eps=0.2)))


def test_one_setting():
    objective = Scheduled(objective=InputGradient(weight=3.0, q=1), schedules={"weight": RISING})
    assert objective.at(0.25) == InputGradient(weight=0.75, q=1)
    assert objective.at(1.0) == InputGradient(weight=3.0, q=1)


def test_nested_settings():
    attack = Scheduled(objective=FGSM_TRAINING, schedules={"attack.threat.eps": RISING, "attack.stride": Constant()})
    assert attack.at(0.5) == AdversarialTraining(attack=FGSM(threat=Threat(eps=0.1)))
    penalties = Sum(parts=(FGSM_TRAINING, InputGradient(weight=2.0), CrossLipschitz()))
    schedules = {"parts.1.weight": RISING, "parts.0.attack.threat.eps": Steps(factors=(0.5, 1.0))}
    weaker = AdversarialTraining(attack=FGSM(threat=Threat(eps=0.1)))
    expected = Sum(parts=(weaker, InputGradient(weight=0.5), CrossLipschitz()))
    assert Scheduled(objective=penalties, schedules=schedules).at(0.25) == expected


def test_inside_other_objectives():
    inner = Scheduled(objective=InputGradient(weight=2.0), schedules={"weight": RISING})
    assert AdversarialTraining(objective=inner).at(0.5) == AdversarialTraining(objective=InputGradient(weight=1.0))
    assert Sum(parts=(inner, DecisionGradient())).at(0.5) == Sum(parts=(InputGradient(weight=1.0), DecisionGradient()))
    both = Scheduled(objective=inner, schedules={"weight": RISING})
    assert both.at(0.5) == InputGradient(weight=0.5)


def test_objectives_without_schedules_stay_themselves():
    for objective in (Erm(), InputGradient(), FGSM_TRAINING, Sum(), CrossLipschitz()):
        assert objective.at(0.3) == objective


def test_used_without_training_all_settings_are_full(batch):
    inner = InputGradient(weight=2.0)
    value = Scheduled(objective=inner)(batch.model, batch.x, batch.y)
    assert torch.equal(value.total, inner(batch.model, batch.x, batch.y).total)


@pytest.mark.parametrize(
    ("objective", "path", "message"),
    [
        (
            InputGradient(),
            "wait",
            "wait: InputGradient has no setting 'wait'. It has: weight, share, q, power, radius.",
        ),
        (FGSM_TRAINING, "attack.threat.epsilon", "Threat has no setting 'epsilon'. It has: norm, eps, bounds."),
        (Sum(), "parts.5.weight", "parts.5.weight: tuple has no setting '5'. It has: 0, 1."),
        (InputGradient(), "weight.x", "float has no setting 'x'. It has: none."),
        (CrossLipschitz(), "estimator", "estimator is 'sampled', and only a number can follow a schedule."),
        (FGSM_TRAINING, "attack.random_start", "False, and only a number"),
        (FGSM_TRAINING, "attack", r"FGSM\(.*and only a number"),
        (AdversarialTraining(attack=PGD(steps=7)), "attack.steps", "after 2.5% of training: `steps` must be a whole"),
        (InputGradient(q=2), "q", "of training: `q` must be in"),
    ],
)
def test_what_cannot_be_scheduled_is_refused_at_once(objective, path, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.").replace(r"\.*", ".*")) as caught:
        Scheduled(objective=objective, schedules={path: RISING})
    assert str(caught.value).startswith("`schedules`")


def test_no_schedule_at_all_is_refused():
    with pytest.raises(UserError, match="`schedules` must name at least one setting"):
        Scheduled(schedules={})


@dataclass(frozen=True, kw_only=True)
class Probe(Objective):
    """Logs the weight that it is called with."""

    weight: float = 8.0

    def evaluate(self, model, x, y, generator):
        loss = model(x).square().sum(1)
        return ObjectiveValue(loss.mean(), {"weight": torch.full((len(x),), self.weight)})


class Keep(lightning.Callback):
    """Keeps what each step logs."""

    def __init__(self, name):
        self.name, self.logged = name, []

    def on_train_batch_end(self, trainer, *_):
        self.logged.append(float(trainer.callback_metrics[self.name]))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("wrap", "term"),
    [
        (lambda objective: objective, "train/weight"),
        (lambda objective: AdversarialTraining(attack=FGSM(), objective=objective), "train/adversarial_weight"),
    ],
)
def test_training_applies_the_schedule_at_the_middle_of_every_step(wrap, term):
    objective = wrap(Scheduled(objective=Probe(), schedules={"weight": LinearWarmup(until=0.5)}))
    data = DataLoader(TensorDataset(torch.rand(8, 3), torch.arange(8) % 2), batch_size=4)
    module = ObjectiveModule(nn.Linear(3, 2), objective, Sgd(lr=0.1), Constant())
    keep = Keep(term)
    lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        callbacks=[keep],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data)
    assert keep.logged == pytest.approx([1.0, 3.0, 5.0, 7.0, 8.0, 8.0, 8.0, 8.0])


def parsed(*arguments):
    return parse(parser(RunConfig), RunConfig, arguments)[0].objective


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Scheduled", Scheduled()),
        (
            "{class_path: Scheduled, init_args: {objective: {class_path: InputGradient, init_args: {weight: 3}},"
            " schedules: {weight: {class_path: LinearWarmup, init_args: {until: 1/4}}}}}",
            Scheduled(objective=InputGradient(weight=3.0), schedules={"weight": LinearWarmup(until=0.25)}),
        ),
        (
            "{class_path: Scheduled, init_args: {objective: AdversarialTraining,"
            " schedules: {attack.threat.eps: LinearWarmup, clean: Cosine}}}",
            Scheduled(
                objective=AdversarialTraining(), schedules={"attack.threat.eps": LinearWarmup(), "clean": Cosine()}
            ),
        ),
        (
            "{class_path: Sum, init_args: {parts: [{class_path: Scheduled, init_args: {objective: CrossLipschitz}},"
            " InputGradient]}}",
            Sum(parts=(Scheduled(objective=CrossLipschitz()), InputGradient())),
        ),
        (
            "{class_path: AdversarialTraining, init_args: {objective: Scheduled}}",
            AdversarialTraining(objective=Scheduled()),
        ),
    ],
)
def test_in_a_file_and_back(tmp_path, text, expected):
    file = tmp_path / "run.yaml"
    file.write_text(f"objective: {text}")
    run = read(RunConfig, file)
    assert run.objective == expected
    file.write_text(dump(run))
    assert read(RunConfig, file) == run


def test_on_the_command_line():
    steps = "{weight: {class_path: Steps, init_args: {milestones: [1/4], factors: [0, 1]}}}"
    expected = replace(Scheduled(), schedules={"weight": Steps(milestones=(0.25,), factors=(0.0, 1.0))})
    assert parsed("--objective", "Scheduled", "--objective.schedules", steps) == expected
    assert parsed("--objective", "Scheduled", "--objective.objective", "CrossLipschitz") == Scheduled(
        objective=CrossLipschitz()
    )
    with pytest.raises(UserError, match="schedules: unknown name 'Sine'"):
        parsed("--objective", "Scheduled", "--objective.schedules", "{weight: Sine}")
    with pytest.raises(UserError, match="InputGradient has no setting 'wait'"):
        parsed("--objective", "Scheduled", "--objective.schedules", "{wait: Cosine}")
