"""The examination as a whole, and what every check must keep."""

import math

import pytest
import torch
from torch import nn
from trials import BOUNDS, MASKED, Before, Distances, NoBackward, blobs, case, quick

from meseta import Threat, evaluate
from meseta.attacks import PGD, Attack
from meseta.errors import UserError
from meseta.evaluation.masking import (
    Case,
    FiniteDifferences,
    GradientHealth,
    GradientReach,
    LargeEps,
    MarginLoss,
    RandomPoints,
    StochasticForward,
    Transferred,
    called_for,
    examine,
)
from meseta.evaluation.record import Masking, verdict_of

THREATS = [Threat("Linf", eps, BOUNDS) for eps in (0.05, 0.15, 0.3)]


def net(shape=(6,), classes=3):
    torch.manual_seed(0)
    d = torch.Size(shape).numel()
    return nn.Sequential(
        nn.Flatten(), nn.Linear(d, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, classes)
    )


def own(model, shape=(6,), n=12, dtype=torch.float32):
    """Inputs with the labels that the model gives them in eval mode."""
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.no_grad():
        return x, model.eval()(x).argmax(1)


@pytest.mark.parametrize("kind", MASKED)
def test_masked_models_are_flagged(kind):
    x, y = blobs()
    result = examine(MASKED[kind](Distances()), x, y, threat=THREATS[1], checks=quick())
    assert result.masking.verdict in ("suspicious", "broken")
    assert called_for(quick(), result.masking.findings)


def test_a_model_with_exact_gradients_is_trusted():
    x, y = blobs()
    result = examine(Distances(), x, y, threat=THREATS, checks=quick())
    assert result.masking.verdict == "trusted", [f.evidence for f in result.masking.findings if f.level != "fine"]
    assert called_for(quick(), result.masking.findings) == []
    assert Masking.model_validate_json(result.masking.model_dump_json()) == result.masking


def test_takes_the_threat_that_tells_most():
    x, y = blobs()
    left = {eps: 1 - case(threat=Threat("Linf", eps, BOUNDS)).by_loss.float().mean() for eps in (0.05, 0.15, 0.3)}
    nearest = min(left, key=lambda eps: abs(left[eps] - 0.5))
    assert examine(Distances(), x, y, threat=THREATS, checks=[MarginLoss()]).masking.eps == nearest


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("eps", [1e-6, 100.0])
def test_looks_for_an_eps_that_tells_where_none_of_the_given_ones_does(norm, eps):
    x, y = blobs()
    found = examine(Distances(), x, y, threat=Threat(norm, eps, BOUNDS), checks=[MarginLoss()])
    assert found.masking.eps == found.threat.eps != eps
    broken = found.masking.findings[0].figures["reference"]
    assert 0.1 <= broken <= (0.4 if eps < 1 else 0.9)


def test_looks_between_the_given_ones():
    x, y = blobs()
    threats = [Threat("Linf", 0.01, None), Threat("Linf", 3.0, None)]
    assert 0.01 < examine(Distances(), x, y, threat=threats, checks=[MarginLoss()]).masking.eps < 3.0


def test_stays_at_the_largest_eps_where_nothing_breaks_anywhere():
    x, _ = blobs()
    y = torch.zeros(len(x), dtype=torch.long)
    constant = Before(Distances(), lambda x: 0 * x, lambda z: z + torch.tensor([9.0, 0.0, 0.0]))
    assert examine(constant, x, y, threat=THREATS, checks=[MarginLoss()]).masking.eps == 0.3


def test_what_breaks_at_a_larger_eps_does_not_count_at_the_evaluated_one():
    x, y = blobs()
    result = evaluate(Distances(), x, y, threat=Threat("Linf", 1e-6, BOUNDS), suite="quick", checks=[MarginLoss()])
    assert result.masking.eps > 1e-6
    assert result.robust[0].worst_case == result.clean_accuracy


def test_norms_are_compared_by_what_stands_alone():
    x, y = blobs()
    small, large = Threat("L2", 0.02, BOUNDS), Threat("L2", 9.0, BOUNDS)
    telling = Threat("Linf", 0.15, BOUNDS)
    for threats in ([small, telling, large], [telling, large], [large, small, telling]):
        assert examine(Distances(), x, y, threat=threats, checks=[MarginLoss()]).masking.norm == "Linf"


def test_broken_covers_all_examples_and_only_those_examined():
    x, y = blobs()
    wrong = y.clone()
    wrong[3] = (y[3] + 1) % 3
    result = examine(Distances(), x, wrong, threat=Threat("Linf", 0.3, BOUNDS), checks=[MarginLoss()], n=20)
    assert result.broken.shape == y.shape
    assert result.masking.n == 19
    assert result.broken.any()
    assert not result.broken[3]
    assert not result.broken[20:].any()


def test_nothing_classified_correctly_is_not_trusted():
    x, y = blobs()
    result = examine(Distances(), x, (y + 1) % 3, checks=quick())
    assert {finding.level for finding in result.masking.findings} == {"untested"}
    assert result.masking.verdict == "suspicious"
    assert result.masking.n == 0
    assert not result.broken.any()


def test_verdicts():
    assert verdict_of(["fine", "untested"]) == "trusted"
    assert verdict_of(["fine", "suspicious"]) == "suspicious"
    assert verdict_of(["suspicious", "broken", "fine"]) == "broken"
    assert verdict_of([]) == verdict_of(["untested"]) == "suspicious"


def test_a_model_without_gradients_is_broken_by_what_needs_none():
    x, y = blobs()
    result = examine(torch.no_grad()(Distances()), x, y, threat=THREATS, checks=quick())
    findings = {finding.name: finding for finding in result.masking.findings}
    assert findings["GradientHealth"].level == findings["BlackBox"].level == "broken"
    assert "cut off" in findings["GradientHealth"].evidence
    assert findings["StochasticForward"].level == "fine"
    assert not all(attack.uses_gradients for attack in called_for(quick(), result.masking.findings))


class Fails(nn.Module):
    """Fails on batches of another size than the first one's."""

    def __init__(self, size):
        super().__init__()
        self.model, self.size = Distances(), size

    def forward(self, x):
        if len(x) != self.size:
            raise RuntimeError("expected another batch size")
        return self.model(x)


def test_a_failing_check_loses_no_other():
    x, y = blobs()
    result = examine(Fails(60), x, y, threat=Threat("Linf", 0.2, BOUNDS), checks=[*quick()])
    levels = {finding.name: finding.level for finding in result.masking.findings}
    assert levels["StochasticForward"] == "fine"
    assert result.masking.verdict != "trusted"
    failed = next(finding for finding in result.masking.findings if finding.name == "MarginLoss")
    assert failed.level == "suspicious"
    assert failed.evidence == "The check failed: expected another batch size"
    assert called_for([MarginLoss()], [failed]) == []


class Raises(StochasticForward):
    """Raises what it is given."""

    error: BaseException

    def examine(self, case):
        raise self.error


def test_whatever_a_check_raises_is_no_reason_to_trust():
    check = Raises()
    object.__setattr__(check, "error", ZeroDivisionError())
    finding = check(case())
    assert (finding.level, finding.evidence) == ("suspicious", "The check failed: ZeroDivisionError")
    object.__setattr__(check, "error", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        check(case())


@pytest.mark.parametrize(
    ("model", "has"),
    [
        (Distances(), True),
        (Before(Distances(), torch.detach), False),  # trainable weights: autograd alone would give zeros
        (Before(Distances(), NoBackward.apply), False),
        (torch.no_grad()(Distances()), False),
        (Before(Distances(), lambda x: 0 * x), True),
    ],
)
def test_has_gradients_where_the_graph_reaches_the_input(model, has):
    trial = case(model, data=(blobs()[0], model(blobs()[0]).argmax(1)))
    assert trial.has_gradients == has
    if not has:
        assert {check(trial).level for check in (GradientHealth(), FiniteDifferences(), GradientReach())} == {"broken"}


class AtMost(nn.Module):
    """Fails on more examples than that at a time."""

    def __init__(self, size):
        super().__init__()
        self.model, self.size = Distances(), size

    def forward(self, x):
        if len(x) > self.size:
            raise RuntimeError("out of memory")
        return self.model(x)


def test_the_model_meets_a_batch_at_a_time():
    x, y = blobs()
    whole, parts = (Case(AtMost(size), x, y, THREATS[0], batch_size=size) for size in (60, 25))
    for check in quick():
        finding, other = check(whole), check(parts)
        assert finding.level == other.level, other.evidence
        assert finding.figures.keys() == other.figures.keys()
    result = evaluate(AtMost(25), x, y, threat=THREATS[1], suite="quick", checks=quick(), batch_size=25)
    assert result.masking.verdict == "trusted"


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_every_check_leaves_model_and_randomness_as_they_were(outer):
    model = net()
    x, y = own(model)
    model.train()[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model[1].weight.grad = torch.ones_like(model[1].weight)
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    trial = Case(model, x, y, Threat("Linf", 0.1, BOUNDS))
    for check in quick():
        with outer():
            check(trial)
        assert torch.equal(torch.get_rng_state(), state), check
        assert [module.training for module in model.modules()] == modes, check
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), check
        assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight)), check
        assert [p.grad is None for p in model.parameters()] == [False, *[True] * 5], check


@pytest.mark.parametrize("kind", ["plain", "noisy"])
def test_every_check_repeats_and_speaks(kind):
    model = MASKED["noisy"](Distances()) if kind == "noisy" else Distances()
    first, second = case(model), case(model)
    for check in quick():
        finding, again = check(first), check(second)
        assert finding.model_copy(update={"seconds": 0}) == again.model_copy(update={"seconds": 0})
        assert finding.evidence[0].isupper(), check
        assert finding.evidence.endswith("."), check
        assert "suspicious" in finding.rule or "broken" in finding.rule, check
        assert finding.check == repr(check)
        assert all(value is None or math.isfinite(value) for value in finding.figures.values()), check
        assert all(isinstance(attack, Attack) for attack in check.calls_for())


@pytest.mark.parametrize(
    ("shape", "classes", "dtype", "threat"),
    [
        ((6,), 2, torch.float32, Threat("Linf", 0.1, None)),
        ((6,), 3, torch.float64, Threat("L2", 0.3, BOUNDS)),
        ((1, 4, 4), 2, torch.float32, Threat("L1", 1.0, BOUNDS)),
        ((2, 3, 4), 4, torch.float64, Threat("Linf", 0.1, (-1.0, 1.0))),
    ],
)
def test_every_check_takes_any_shape_dtype_classes_and_threat(shape, classes, dtype, threat):
    model = net(shape, classes).to(dtype)
    trial = Case(model, *own(model, shape, dtype=dtype), threat)
    for check in quick():
        finding = check(trial)
        assert finding.level in ("fine", "suspicious") or check.name in ("LargeEps", "Transferred"), finding


def test_every_check_takes_a_function_for_a_model():
    model = Distances()
    trial = case(lambda x: model(x))
    for check in quick():
        finding = check(trial)
        assert finding.level == ("untested" if check == Transferred() else "fine"), finding.evidence


def test_searches_run_once_and_are_remembered():
    asked = []
    model = Distances()

    def counting(x):
        asked.append(len(x))
        return model(x)

    trial = case(counting)
    first = trial.broken_by(PGD(steps=3))
    calls = len(asked)
    assert torch.equal(trial.broken_by(PGD(steps=3)), first)
    assert len(asked) == calls
    assert torch.equal(trial.broken, first)
    chosen = torch.zeros_like(first)
    chosen[:5] = True
    assert not trial.broken_by(PGD(steps=5), among=chosen)[5:].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threat": []}, "`threat` and `checks`"),
        ({"checks": []}, "`threat` and `checks`"),
        ({"threat": [1]}, "`threat` must be a Threat"),
        ({"checks": [PGD()]}, "`checks` must be a MaskingCheck"),
        ({"n": 0}, "`n`"),
        ({"seed": -1}, "`seed`"),
        ({"threat": [Threat(), Threat(bounds=None)]}, "share their bounds"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    x, y = blobs()
    with pytest.raises(UserError, match=message):
        examine(Distances(), x, y, **settings)


def test_checks_run_on_the_given_split_and_seed():
    x, y = blobs()
    result = examine(Distances(), x, y, checks=[RandomPoints(draws=1), LargeEps(), StochasticForward()], split="test")
    assert result.masking.split == "test"
    assert result.masking.provenance.seed == 0
