import math

import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import UniformSearch
from meseta.attacks.base import misclassified
from meseta.autodiff import Decision
from meseta.errors import UserError
from meseta.linalg import norm


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unbreakable(d):
    """A linear model whose label is out of reach, so that no search ends early."""
    torch.manual_seed(0)
    model = nn.Linear(d, 2).double()
    model.bias.data = torch.tensor([1e3, 0.0]).double()
    return model


def drops(attack, model, x, seed=0):
    y = torch.zeros(len(x), dtype=torch.long)
    found = attack(model, x, y, generator=seeded(seed))
    return (Decision().of_logits(model(x), y) - Decision().of_logits(model(found), y)).detach()


def test_one_draw_is_random_noise():
    """It is returned whatever it does to the margin: the mean drop of a linear model's margin is zero."""
    d, n = 20, 4000
    model, x = unbreakable(d), torch.zeros(4000, 20, dtype=torch.float64)
    for where in ("ball", "surface"):
        drop = drops(UniformSearch(threat=Threat("L2", 1.0, None), draws=1, where=where), model, x)
        assert abs(drop.mean()) < 5 * drop.std() / n**0.5
        assert (drop < 0).any()


@pytest.mark.parametrize(("name", "p"), [("Linf", math.inf), ("L2", 2), ("L1", 1)])
def test_the_surface_is_where_the_radius_is_spent(name, p):
    model, x = unbreakable(6), torch.zeros(50, 6, dtype=torch.float64)
    y = torch.zeros(50, dtype=torch.long)
    found = UniformSearch(threat=Threat(name, 0.3, None), draws=3)(model, x, y, generator=seeded())
    torch.testing.assert_close(norm(found, p), torch.full((50,), 0.3).double())
    if name == "Linf":
        assert torch.equal(found.abs(), torch.full_like(found, 0.3))
    inside = UniformSearch(threat=Threat(name, 0.3, None), draws=3, where="ball")(model, x, y, generator=seeded())
    assert (norm(inside, p) < 0.3).all()


def test_the_best_of_n_corners_is_as_good_as_chance_says():
    """With weights 1 the drop along a corner is eps (2 Binomial(d, 1/2) - d); the best of n has a known mean."""
    d, n, draws = 8, 2000, 5
    model = unbreakable(d)
    model.weight.data = torch.tensor([[-0.5], [0.5]]).double().expand(2, d).clone()
    drop = drops(UniformSearch(threat=Threat("Linf", 1.0, None), draws=draws), model, torch.zeros(n, d).double())
    below = torch.tensor([sum(math.comb(d, j) for j in range(k + 1)) / 2**d for k in range(d + 1)]).double()
    best = (below**draws).diff(prepend=torch.zeros(1).double())
    mean = (best * (2 * torch.arange(d + 1) - d)).sum()
    assert abs(drop.mean() - mean) < 5 * drop.std() / n**0.5


def test_more_draws_never_find_less_and_broken_examples_leave(batch):
    y = batch.model(batch.x).argmax(1)
    threat = Threat("Linf", 0.2)
    asked = []
    hook = batch.model.register_forward_hook(lambda m, i, o: asked.append(len(o)))
    found = [UniformSearch(threat=threat, draws=n)(batch.model, batch.x, y, generator=seeded()) for n in (1, 40)]
    hook.remove()
    few, many = (misclassified(batch.model(points), y) for points in found)
    assert (many >= few).all()
    assert asked[2:] == sorted(asked[2:], reverse=True)


def test_where_the_model_errs_already_nothing_is_searched(batch):
    y = (batch.model(batch.x).argmax(1) + 1) % batch.classes
    asked = []
    hook = batch.model.register_forward_hook(lambda m, i, o: asked.append(len(o)))
    found = UniformSearch()(batch.model, batch.x, y)
    hook.remove()
    assert torch.equal(found, batch.x)
    assert asked == [len(y)]


def test_a_model_cut_off_from_autograd_will_do(batch):
    y = batch.model(batch.x).argmax(1)
    found = UniformSearch(draws=5)(lambda points: batch.model(points).detach(), batch.x, y)
    assert Threat().contains(found, batch.x).all()


@pytest.mark.parametrize("bad", [{"draws": 0}, {"where": "corner"}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        UniformSearch(**bad)
