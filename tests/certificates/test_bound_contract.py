"""What every bound must keep: found through the registry."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from meseta.certificates import Certificate, Estimate, Proxy
from meseta.errors import UserError
from meseta.registry import methods

BOUNDS = sorted(methods("bounds").items())


def importable(package):
    return package is None or find_spec(package) is not None


every_bound = pytest.mark.parametrize(
    "bound",
    [
        pytest.param(
            bound, id=name, marks=[pytest.mark.skipif(not importable(bound.requires), reason=f"needs {bound.requires}")]
        )
        for name, bound in BOUNDS
    ],
)


@pytest.fixture
def classes(bound):
    """As many classes as the bound is about."""
    return bound.classes or 3


@pytest.fixture
def net(classes):
    """A smooth multilayer perceptron that every bound covers, with inputs that it classifies right but for the last.

    Right with p_y > 1/2: bounds on the loss say nothing about less confident examples.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, classes)).double()
    model[2].weight.data *= 10
    x = torch.rand(40, 6, dtype=torch.float64)
    confidence, y = model(x).softmax(1).max(1)
    x, y = x[confidence > 0.6][:5], y[confidence > 0.6][:5]
    y[-1] = (y[-1] + 1) % classes
    return model, x, y


@every_bound
def test_gives_one_distance_per_example_whatever_its_batch(bound, net):
    model, x, y = net
    whole = bound()(model, x, y)
    assert whole.value.shape == (5,)
    assert (whole.value >= 0).all()
    assert (whole.value[:-1] > 0).all()
    assert whole.kind == bound.kind
    assert whole.norm == bound().norm
    for i in range(len(x)):
        single = bound()(model, x[i : i + 1], y[i : i + 1])
        torch.testing.assert_close(single.value[0], whole.value[i], rtol=2e-2, atol=1e-12)
    for part in whole.parts.values():
        assert part.shape == (5,)


@every_bound
def test_examples_that_the_model_gets_wrong_have_distance_zero(bound, classes, net):
    model, x, y = net
    assert bound()(model, x, y).value[-1] == 0
    wrong = bound()(model, x, (y + 1) % classes)
    assert (wrong.value[:-1] == 0).all()
    assert not wrong.correct[:-1].any()


@every_bound
def test_says_what_it_may_be_taken_for(bound):
    base = {"sound": Certificate, "estimate": Estimate, "proxy": Proxy}[bound.kind]
    assert issubclass(bound, base)


@pytest.mark.parametrize("bound", [b for _, b in BOUNDS if b.kind != "sound"], ids=lambda b: b.__name__)
def test_one_bad_example_does_not_spoil_its_neighbours(bound, net):
    """Bounds that take any function as a model; sound ones read the layers."""
    inner, x, y = net

    def model(points):  # its logits are finite at -1, their derivatives are not
        return inner(points) + (points[:, :1] + 1).clamp_min(0).sqrt()

    x[1, 0] = -1
    y = model(x).argmax(1)
    found, without = bound()(model, x, y), bound()(model, x[[0, 2, 3]], y[[0, 2, 3]])
    assert found.value[1] == 0
    torch.testing.assert_close(found.value[[0, 2, 3]], without.value, rtol=2e-2, atol=1e-12)


@every_bound
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_leaves_the_model_as_it_was(bound, outer, net):
    model, x, y = net
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with outer():
        result = bound()(model, x.clone(), y)
    assert not result.value.requires_grad
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@every_bound
def test_bad_input_is_refused(bound, net):
    model, x, y = net
    with pytest.raises(UserError, match="`x` holds NaN"):
        bound()(model, x * torch.nan, y)
    with pytest.raises(UserError, match="`y` must hold class indices"):
        bound()(model, x, y + 99)


@every_bound
def test_is_exact_or_from_below_on_a_linear_model_or_says_what_is(bound):
    torch.manual_seed(1)
    model = nn.Linear(4, 2).double()
    x = torch.rand(6, 4, dtype=torch.float64)
    y = model(x).argmax(1)
    try:
        found, refusal = bound()(model, x, y), None
    except UserError as error:  # a bound made of curvature, where there is none
        found, refusal = None, str(error)
    if refusal:
        assert "LinearPiece" in refusal
        return
    w = model.weight[0] - model.weight[1]
    logits = model(x)
    q = {"L2": 2, "Linf": 1, "L1": torch.inf}[found.norm]
    distance = (logits[:, 0] - logits[:, 1]).abs() / w.norm(q)
    if bound.kind == "proxy":
        assert (found.value > 0).all()
    else:
        assert (found.value <= distance * (1 + 1e-9)).all()
