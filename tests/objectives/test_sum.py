"""A sum of penalties against the same written out, and as a user gives it."""

import pytest
import torch
from test_objectives import compare

from meseta.attacks import FGSM
from meseta.configuration import dump, parse, parser, read
from meseta.errors import UserError
from meseta.objectives import (
    AdversarialTraining,
    CrossLipschitz,
    DecisionGradient,
    Erm,
    InputGradient,
    Regularizer,
    Sum,
)
from meseta.registry import methods
from meseta.training import RunConfig

FAST = AdversarialTraining(attack=FGSM())
FIRST = [Erm(), FAST, InputGradient(weight=0.4, q=1)]


@pytest.mark.parametrize("first", FIRST, ids=lambda o: type(o).__name__)
def test_sum_is_the_first_part_and_the_weighted_penalties(batch, first):
    model, x, y = batch.model, batch.x, batch.y
    steep, lipschitz = DecisionGradient(weight=0.3), CrossLipschitz(weight=0.2, estimator="exact")
    value = Sum(parts=(first, steep, lipschitz))(model, x, y)
    loss = Erm()(model, x, y).total
    twin = first(model, x, y).total + sum(part(model, x, y).total - loss for part in (steep, lipschitz))
    compare(value, twin, model)


def test_every_regulariser_can_be_added(smooth_batch):
    model, x, y = smooth_batch.model, smooth_batch.x, smooth_batch.y
    for name, regularizer in methods("objectives").items():
        if not issubclass(regularizer, Regularizer):
            continue
        value = Sum(parts=(Erm(), regularizer()))(model, x, y, generator=torch.Generator().manual_seed(0))
        alone = regularizer().penalize(model, x, y, torch.Generator().manual_seed(0))
        torch.testing.assert_close(
            value.total, Erm()(model, x, y).total + regularizer().weight * alone.value.mean(), msg=name
        )
        assert {"cross_entropy", *alone.terms} <= set(value.terms)


def test_the_same_penalty_twice_counts_twice_under_two_names(batch):
    model, x, y = batch.model, batch.x, batch.y
    euclidean, manhattan = InputGradient(weight=0.1), InputGradient(weight=0.2, q=1, power=1)
    value = Sum(parts=(euclidean, manhattan, euclidean))(model, x, y)
    assert list(value.terms) == ["cross_entropy", "input_gradient", "input_gradient_2", "input_gradient_3"]
    terms = value.terms
    torch.testing.assert_close(terms["input_gradient_3"], terms["input_gradient"])
    by_hand = (
        terms["cross_entropy"]
        + 0.2 * terms["input_gradient"] ** 2
        + 0.2 * manhattan(model, x, y).terms["input_gradient"]
    )
    torch.testing.assert_close(value.total.detach(), by_hand.mean())


def test_one_part_is_that_part(batch):
    compare(Sum(parts=(FAST,))(batch.model, batch.x, batch.y), FAST(batch.model, batch.x, batch.y).total, batch.model)


def test_what_cannot_be_added_is_refused():
    with pytest.raises(UserError, match="`parts` must hold at least one objective"):
        Sum(parts=())
    with pytest.raises(UserError, match="`parts` must be an Objective"):
        Sum(parts=(InputGradient(), "InputGradient"))
    for part in (Erm(), FAST, Sum()):
        with pytest.raises(UserError, match=f"`parts`: {type(part).__name__} has no penalty to add"):
            Sum(parts=(InputGradient(), part))


def parsed(*arguments):
    return parse(parser(RunConfig), RunConfig, arguments)[0].objective


PARTS = "[AdversarialTraining, {class_path: InputGradient, init_args: {weight: 1/4}}, CrossLipschitz]"
EXPECTED = Sum(parts=(AdversarialTraining(), InputGradient(weight=0.25), CrossLipschitz()))


def test_in_a_file_and_back(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(f"objective: {{class_path: Sum, init_args: {{parts: {PARTS}}}}}")
    run = read(RunConfig, file)
    assert run.objective == EXPECTED
    file.write_text(dump(run))
    assert read(RunConfig, file) == run


def test_on_the_command_line():
    assert parsed("--objective", "Sum") == Sum()
    assert parsed("--objective", "Sum", "--objective.parts", PARTS) == EXPECTED
    assert parsed("--objective=Sum", "--objective.parts=[Erm]") == Sum(parts=(Erm(),))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("[]", "`parts` must hold at least one"),
        ("[InputGradient, Erm]", "`parts`: Erm has no penalty"),
        ("[Erm, InputGradiant]", r"parts: unknown name 'InputGradiant'\. Did you mean 'InputGradient'"),
        ("[Erm, {class_path: InputGradient, init_args: {wait: 1}}]", "wait"),
        ("Erm", r"Write a list: \[A, B\]"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(parts, message):
    with pytest.raises(UserError, match=message) as caught:
        parsed("--objective", "Sum", "--objective.parts", parts)
    assert "\n" not in str(caught.value)
    assert "FGSM" not in str(caught.value)  # only objectives are suggested
