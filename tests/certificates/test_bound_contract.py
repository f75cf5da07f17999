"""What every bound must keep: found through the registry."""

import pytest
import torch
from torch import nn

from meseta.certificates import Certificate, Estimate, Proxy
from meseta.errors import UserError
from meseta.registry import methods

BOUNDS = sorted(methods("bounds").items())
every_bound = pytest.mark.parametrize("bound", [b for _, b in BOUNDS], ids=[name for name, _ in BOUNDS])


@pytest.fixture
def net():
    """A smooth multilayer perceptron that every bound covers, with inputs that it classifies right but for the last."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.rand(5, 6, dtype=torch.float64)
    y = model(x).argmax(1)
    y[-1] = (y[-1] + 1) % 3
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
def test_examples_that_the_model_gets_wrong_have_distance_zero(bound, net):
    model, x, y = net
    assert bound()(model, x, y).value[-1] == 0
    wrong = bound()(model, x, (y + 1) % 3)
    assert (wrong.value[:-1] == 0).all()
    assert not wrong.correct[:-1].any()


@every_bound
def test_says_what_it_may_be_taken_for(bound):
    base = {"sound": Certificate, "estimate": Estimate, "proxy": Proxy}[bound.kind]
    assert issubclass(bound, base)


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
def test_is_exact_or_from_below_on_a_linear_model(bound):
    torch.manual_seed(1)
    model = nn.Linear(4, 2).double()
    x = torch.rand(6, 4, dtype=torch.float64)
    y = model(x).argmax(1)
    found = bound()(model, x, y)
    w = model.weight[0] - model.weight[1]
    logits = model(x)
    q = {"L2": 2, "Linf": 1, "L1": torch.inf}[found.norm]
    distance = (logits[:, 0] - logits[:, 1]).abs() / w.norm(q)
    if bound.kind == "proxy":
        assert (found.value > 0).all()
    else:
        assert (found.value <= distance * (1 + 1e-9)).all()
