"""The adapter to auto_LiRPA: what it asks and what it makes of the answers; the stand-in is exact on linear models."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from meseta.certificates import AutoLirpa, LinearPiece
from meseta.errors import UserError


class StandIn:
    """auto_LiRPA as far as the adapter needs it, for one linear layer."""

    def __init__(self):
        self.calls = 0

    def PerturbationLpNorm(self, *, norm, eps):  # noqa: N802
        return SimpleNamespace(norm=norm, eps=eps)

    def BoundedTensor(self, x, ball):  # noqa: N802
        return SimpleNamespace(x=x, ball=ball)

    def BoundedModule(self, model, x, bound_opts):  # noqa: N802
        if not isinstance(model, nn.Linear):
            raise NotImplementedError("an operator from deep within")

        def compute_bounds(x, C, method, bound_upper):
            self.calls += 1
            (point,) = x
            dual = {2: 2, 1: torch.inf, torch.inf: 1}[point.ball.norm]
            slope = (C @ model.weight).norm(dual, dim=2)
            return (C @ model(point.x)[:, :, None]).squeeze(2) - point.ball.eps * slope, None

        return SimpleNamespace(compute_bounds=compute_bounds)


@pytest.fixture
def lirpa(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "auto_LiRPA", stand_in)
    return stand_in


@pytest.mark.parametrize("norm", ["L2", "Linf", "L1"])
def test_bisects_to_the_exact_distance_of_a_linear_model(lirpa, norm):
    torch.manual_seed(0)
    model, x = nn.Linear(5, 3), torch.rand(6, 5)
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    found = AutoLirpa(norm=norm, steps=14)(model, x, y)
    truth = LinearPiece(norm=norm)(model, x, y).value
    assert found.value[0] == 0
    assert (found.value <= truth).all()
    torch.testing.assert_close(found.value[1:], truth[1:], rtol=1e-3, atol=0)
    assert lirpa.calls == 5 * 14


def test_what_it_cannot_bound_or_import_is_a_clear_error(lirpa, monkeypatch):
    x, y = torch.rand(2, 4), torch.tensor([0, 1])
    with pytest.raises(UserError, match="cannot bound this network: NotImplementedError: an operator from deep"):
        AutoLirpa()(nn.Sequential(nn.Linear(4, 2)), x, y)
    with pytest.raises(UserError, match="unknown name 'crown'"):
        AutoLirpa(method="crown")
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(UserError, match="needs the package auto_LiRPA, which cannot be imported"):
        AutoLirpa()(nn.Linear(4, 2), x, y)


def test_the_package_itself_certifies_less_than_attacks_find():
    pytest.importorskip("auto_LiRPA")
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), torch.rand(6, 5)
    y = model(x).argmax(1)
    found = AutoLirpa()(model, x, y).value
    assert (found > 0).all()
    assert (found <= 1.01 * LinearPiece()(model, x, y).value).any()
