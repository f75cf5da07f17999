"""The nearest adversarial example: against the distance that is known, and as an attack under a threat."""

import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import FMN, DeepFool, MinimumNormAttack
from meseta.attacks.base import misclassified
from meseta.attacks.minimum_norm import HALVINGS
from meseta.errors import UserError
from meseta.registry import methods

SEARCHES = {name: m for name, m in methods("attacks").items() if issubclass(m, MinimumNormAttack)}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
every_search_and_norm = pytest.mark.parametrize(
    ("search", "norm"),
    [pytest.param(search, norm, id=f"{name}-{norm}") for name, search in SEARCHES.items() for norm in search.norms],
)


def quick(search, **settings):
    """Return the search, with few descents where it makes several: it is tested at length in a file of its own."""
    few = {"searches": 4, "steps": 40} if "searches" in search.__dataclass_fields__ else {}
    return search(**few | settings)


DUAL = {"Linf": 1, "L2": 2, "L1": torch.inf}


def linear(classes, d=8):
    torch.manual_seed(classes)
    model = nn.Linear(d, classes).double()
    x = torch.randn(40, d, dtype=torch.float64)
    return model, x, model(x).argmax(1)


@every_search_and_norm
@pytest.mark.parametrize("classes", [2, 5])
def test_the_distance_of_a_linear_model_is_met(search, norm, classes):
    """min over rivals of f_j / ||w_y - w_j||_q: to the resolution of the bisection."""
    model, x, y = linear(classes)
    with torch.no_grad():
        margins = model(x).gather(1, y[:, None]) - model(x)
        slopes = (model.weight[y][:, None] - model.weight).norm(DUAL[norm], dim=2)
        exact = (margins / slopes).scatter(1, y[:, None], torch.inf).amin(1)
    attack = quick(search, threat=Threat(norm, 1.0, None))
    found = attack.closest(model, x, y)
    assert misclassified(model(found), y).all()
    distance = attack.threat.distance(found, x)
    assert (distance >= exact * (1 - 1e-9)).all()
    assert (distance <= exact * (1 + 2**-HALVINGS)).all()


@every_norm
def test_fmn_alone_meets_the_distance_of_a_binary_linear_model_within_two_percent(norm):
    model, x, y = linear(2)
    threat = Threat(norm, 1.0, None)
    alone = FMN(threat=threat, start=None).closest(model, x, y)
    exact = DeepFool(threat=threat).closest(model, x, y)
    torch.testing.assert_close(threat.distance(alone, x), threat.distance(exact, x), rtol=0.02, atol=0)


def test_fmn_never_ends_farther_than_its_start(batch):
    y = batch.model(batch.x).argmax(1)
    threat = Threat("L2", 1.0, None)
    start, end = (threat.distance(a(threat=threat).closest(batch.model, batch.x, y), batch.x) for a in (DeepFool, FMN))
    assert (end <= start * (1 + 1e-12)).all()
    assert (end < start).any()


@every_search_and_norm
def test_the_distance_to_a_sphere_is_met(search, norm):
    """f = r^2 - ||x||^2: outwards along x in L2, along sign(x) in Linf, along the largest entry in L1."""

    def ball(points):
        f = 4 - (points**2).sum(1)
        return torch.stack([f, torch.zeros_like(f)], 1)

    torch.manual_seed(0)
    x = torch.randn(10, 6, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True) * torch.linspace(0.3, 1.9, 10, dtype=torch.float64)[:, None]
    size = x.abs()
    rest = 4 - (x**2).sum(1)
    exact = {
        "L2": 2 - x.norm(dim=1),
        "Linf": (-size.sum(1) + (size.sum(1) ** 2 + 6 * rest).sqrt()) / 6,
        "L1": -size.amax(1) + (size.amax(1) ** 2 + rest).sqrt(),
    }[norm]
    attack = quick(search, threat=Threat(norm, 1.0, None))
    distance = attack.threat.distance(attack.closest(ball, x, torch.zeros(10, dtype=torch.long)), x)
    assert (distance >= exact * (1 - 1e-9)).all()
    assert (distance <= exact * 1.05).all()


@every_search_and_norm
def test_bounds_that_bind_are_kept(search, norm):
    """The nearest way out is beyond the bounds for most examples; what is found lies inside, and nothing is lost."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 20), nn.SiLU(), nn.Linear(20, 4))
    x = torch.rand(40, 12).round()  # in the corners of the bounds, like most pixels of a digit
    y = model(x).argmax(1)
    attack = quick(search, threat=Threat(norm, 0.1))
    found = attack.closest(model, x, y)
    got = found.isfinite().all(1)
    assert got.float().mean() >= 0.9
    assert ((found[got] >= 0) & (found[got] <= 1)).all()
    assert misclassified(model(found[got]), y[got]).all()
    free = quick(search, threat=Threat(norm, 0.1, None))
    assert (
        attack.threat.distance(found, x)[got] >= 0.98 * free.threat.distance(free.closest(model, x, y), x)[got]
    ).all()


@every_search
def test_the_model_errs_already_or_never(search):
    """x itself in the first case, NaN in the second, and x again where it is called as an attack."""
    model, x, y = linear(3)
    attack = quick(search, threat=Threat("L2", 0.5, None))
    assert torch.equal(attack.closest(model, x, (y + 1) % 3), x)

    def firm(points):
        return torch.stack([0 * points[:, 0] + 1, 0 * points[:, 0]], 1)

    never = torch.zeros(40, dtype=torch.long)
    assert attack.closest(firm, x, never).isnan().all()
    assert torch.equal(attack(firm, x, never), x)


@every_search
def test_a_nonfinite_example_leaves_its_neighbours_alone(search):
    def poisoned(points):
        z = points[:, :3]
        return torch.where(points[:, 3:] > 0.5, torch.nan, z)

    x = torch.tensor([[0.6, 0.5, 0.1, 0.0], [0.6, 0.5, 0.1, 0.9], [0.2, 0.9, 0.7, 0.0]])
    attack = quick(search, threat=Threat("L2", 0.1))
    found = attack.closest(poisoned, x, torch.tensor([0, 0, 1]))
    assert torch.equal(found[1], x[1])
    assert found.isfinite().all()
    assert (attack.threat.distance(found, x)[[0, 2]] < 0.15).all()


@every_search
def test_examples_do_not_see_their_batch(search, batch):
    y = batch.model(batch.x).argmax(1)
    attack = quick(search, threat=Threat("L2", 1.0, None), steps=20)
    whole = attack.threat.distance(attack.closest(batch.model, batch.x, y), batch.x)
    for i in range(3):
        one = slice(i, i + 1)
        single = attack.threat.distance(attack.closest(batch.model, batch.x[one], y[one]), batch.x[one])
        torch.testing.assert_close(single, whole[one], rtol=1e-6, atol=0)


@every_search_and_norm
def test_as_an_attack_it_returns_what_it_found_inside_the_ball_and_the_projection_outside(search, norm):
    model, x, y = linear(4)
    attack = quick(search, threat=Threat(norm, 1.0, None))
    found = attack.closest(model, x, y)
    distance = attack.threat.distance(found, x)
    threat = Threat(norm, float(distance.median()), None)
    returned = attack.against(threat)(model, x, y)
    inside = distance <= threat.eps
    assert torch.equal(returned[inside], found[inside])
    torch.testing.assert_close(returned[~inside], threat.project(found, x)[~inside])
    assert threat.contains(returned, x).all()


class Stretched(DeepFool):
    """Finds adversarial examples ten times as far as need be."""

    def search(self, model, x, y, generator):
        return x + 10 * (super().search(model, x, y, generator) - x)


def test_what_was_found_is_pulled_back_to_the_boundary():
    model, x, y = linear(2)
    threat = Threat("L2", 1.0, None)
    near, far = (threat.distance(a(threat=threat).closest(model, x, y), x) for a in (DeepFool, Stretched))
    torch.testing.assert_close(far, near, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FMN(steps=0), "`steps`"),
        (lambda: FMN(alpha=0.0), "`alpha`"),
        (lambda: FMN(gamma=1.0), "`gamma` must be below 1"),
        (lambda: DeepFool(steps=0), "`steps`"),
        (lambda: DeepFool(overshoot=0.0), "`overshoot`"),
        (lambda: DeepFool(candidates=0), "`candidates`"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_few_candidates_are_the_likeliest_rivals():
    """With one candidate DeepFool goes to the runner-up, which need not be the nearest class."""
    model, x, y = linear(5)
    threat = Threat("L2", 1.0, None)
    one, every = (threat.distance(DeepFool(threat=threat, candidates=c).closest(model, x, y), x) for c in (1, None))
    assert (one >= every * (1 - 2**-HALVINGS)).all()
    assert (one > 1.05 * every).any()
