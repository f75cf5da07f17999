"""Which models change with their mode, and terms computed in eval mode."""

import pytest
import torch
from torch import nn

from meseta import models
from meseta.checks import eval_term, mode_matters
from meseta.registry import methods


class Square(nn.Module):
    def forward(self, x):
        return x**2


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    "module", [nn.BatchNorm1d(3), nn.Dropout(), nn.InstanceNorm1d(3), nn.RReLU(), nn.MultiheadAttention(4, 2), Square()]
)
def test_a_layer_with_modes_matters_in_train_mode_alone(module):
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(module))
    assert mode_matters(model.train())
    assert not mode_matters(model.eval())
    model.train()
    module.eval()
    for part in module.modules():
        part.eval()
    assert not mode_matters(model)


@pytest.mark.parametrize("module", [nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten()])
def test_a_layer_without_modes_does_not(module):
    assert not mode_matters(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(module)).train())


def test_a_module_of_the_users_may_look_at_its_mode_whatever_it_holds():
    """As with dropout called as a function: F.dropout(h, 0.3, self.training)."""
    assert mode_matters(Wrapped(nn.Linear(3, 3)).train())
    assert not mode_matters(Wrapped(nn.Linear(3, 3)).eval())


def test_a_function_has_no_mode():
    assert not mode_matters(lambda x: x)


@pytest.mark.parametrize("name", sorted(methods("models")))
@pytest.mark.parametrize("norm", ["none", "group", "batch"])
def test_of_our_networks_only_those_with_batch_norm_have_modes(name, norm):
    model = getattr(models, name)(norm=norm).build((1, 32, 32), 3)
    assert mode_matters(model) == (norm == "batch")


def test_eval_term_leaves_models_without_modes_alone():
    model = nn.Sequential(nn.Linear(3, 3)).train()
    with eval_term(model) as same:
        assert same
        assert model[0].training


def test_a_forward_in_train_mode_does_not_change_the_gradient_of_an_eval_term():
    """BatchNorm's backward in eval mode reads running statistics that a later training forward changes in place."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.SiLU(), nn.Linear(5, 2)).double()
    x = 5 * torch.rand(6, 4, dtype=torch.float64)
    expected = torch.autograd.grad(model.eval()(x).square().sum(), list(model.parameters()))
    model.train()
    before = model[1].running_mean.clone()
    with eval_term(model) as same:
        assert not same
        term = model(x).square().sum()
    assert all(module.training for module in model.modules())
    assert torch.equal(model[1].running_mean, before)
    model(x)
    assert not torch.equal(model[1].running_mean, before)
    for a, b in zip(torch.autograd.grad(term, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b)
