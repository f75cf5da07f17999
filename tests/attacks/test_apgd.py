"""The step rules of APGD against slow twins written from the papers, known optima, and PGD."""

import math

import pytest
import torch
from rings import trained
from torch import nn

from meseta import Threat
from meseta.attacks import APGD, PGD
from meseta.attacks.apgd import _looks
from meseta.attacks.base import misclassified
from meseta.autodiff import DLR, CrossEntropy, Decision
from meseta.errors import UserError

every_norm = pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def broken(model, x, y):
    with torch.no_grad():
        return int(misclassified(model(x), y).sum())


def wavy(x):
    """A loss with hills of several heights, and a label that nothing breaks, so that whole paths can be compared."""
    torch.manual_seed(0)
    w = 9 * torch.randn(x.shape[1], 7, dtype=torch.float64)
    hills = (torch.sin(x @ w) * torch.linspace(0.5, 2, 7, dtype=torch.float64)).sum(1)
    return torch.stack([torch.full_like(hills, 50), hills], 1)


def slope(x):
    x = x.clone().requires_grad_()
    f = wavy(x[None])[0, 1] - 50
    return f.item(), torch.autograd.grad(f, x)[0]


def onto_linf(move, eps):
    return move.clamp(-eps, eps)


def onto_l2(move, eps):
    return move * min(1, eps / move.norm().item())


def onto_l1(move, eps):
    low, high = 0.0, move.abs().max().item()
    if move.abs().sum() <= eps:
        return move
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (move.abs() - middle).clamp_min(0).sum() > eps else (low, middle)
    return move.sign() * (move.abs() - high).clamp_min(0)


def slow_apgd(x, start, eps, steps, norm, rho=0.75):
    """Croce & Hein 2020, Algorithm 1, on one example without bounds; also returns how often eta was halved."""
    p = [0, 0.22]
    while p[-1] < 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    w = [math.ceil(round(share * steps, 9)) for share in p]
    project = {"Linf": onto_linf, "L2": onto_l2}[norm]
    eta, rises, here, before = 2 * eps, 0, start, None
    f, g = slope(here)
    highest, best, best_g = f, here, g
    looks = [(eta, highest)]
    for k in range(1, steps + 1):
        z = x + project(here + eta * (g.sign() if norm == "Linf" else g / g.norm()) - x, eps)
        if before is not None:
            z = here + 0.75 * (z - here) + 0.25 * (here - before)
        before, here = here, x + project(z - x, eps)
        last, (f, g) = f, slope(here)
        rises += f > last
        if f > highest:
            highest, best, best_g = f, here, g
        if k == w[len(looks)]:
            few = rises < rho * (k - w[len(looks) - 1])
            same = looks[-1] == (eta, highest)
            looks.append((eta, highest))
            rises = 0
            if few or same:
                eta, here, f, g = eta / 2, best, highest, best_g
    return best, math.log2(2 * eps / eta)


def slow_sparse_apgd(x, start, eps, steps):
    """Croce & Hein 2021, its inner search, on one example without bounds; also returns the numbers k of its steps."""
    here = best = start
    highest, g = slope(here)
    best_g, eta, support = g, eps, len(x)
    k, used = 0.2 * len(x), set()
    for i in range(1, steps + 1):
        largest = g.abs().argsort(descending=True)[: max(1, int(k))]
        used.add(len(largest))
        step = torch.zeros_like(x)
        step[largest] = g[largest].sign() / len(largest)
        here = x + onto_l1(here + eta * step - x, eps)
        f, g = slope(here)
        if f > highest:
            highest, best, best_g = f, here, g
        if i % math.ceil(0.04 * steps) == 0:
            now = int(((best - x).abs() > 1e-6 * eps).sum())
            if now < 0.95 * support:
                eta, here, g = eps, best, best_g
            else:
                eta = max(eta / 1.5, eps / 10)
            support, k = now, now / 1.5
    return best, used


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_it_is_the_published_rule(norm):
    x = torch.rand(6, 12, generator=seeded(), dtype=torch.float64)
    threat, y = Threat(norm, {"Linf": 0.1, "L2": 0.3}[norm], None), torch.zeros(6, dtype=torch.long)
    starts = threat.sample(x, generator=seeded(1))
    ours = APGD(threat=threat, steps=60, loss=Decision())(wavy, x, y, generator=seeded(1))
    halvings = set()
    for i in range(6):
        expected, halved = slow_apgd(x[i], starts[i], threat.eps, 60, norm)
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-7)
        halvings.add(halved)
    assert len(halvings) > 1  # the step lengths are each example's own


def test_it_is_the_published_rule_in_l1():
    x = torch.rand(6, 40, generator=seeded(), dtype=torch.float64)
    threat, y = Threat("L1", 2.0, None), torch.zeros(6, dtype=torch.long)
    starts = threat.sample(x, generator=seeded(1))
    ours = APGD(threat=threat, steps=60, loss=Decision())(wavy, x, y, generator=seeded(1))
    for i in range(6):
        expected, numbers = slow_sparse_apgd(x[i], starts[i], 2.0, 60)
        torch.testing.assert_close(ours[i], expected, rtol=0, atol=1e-7)
        assert len(numbers) > 2


def test_it_looks_back_where_the_paper_does():
    assert list(_looks(100)) == [0, 22, 41, 57, 70, 80, 87, 93, 99, 100]
    for steps in range(1, 30):
        assert sum(_looks(steps).values()) == max(_looks(steps)) == steps


@every_norm
@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
def test_the_optimum_of_a_linear_model_is_met_within_one_percent(norm, bounds):
    """The point of ball and bounds that is farthest along w_1 - w_0; the label is safe, so that all paths are whole."""
    torch.manual_seed(0)
    model = nn.Linear(30, 2).double()
    model.bias.data = torch.tensor([20.0, 0.0], dtype=torch.float64)
    x, y = torch.rand(20, 30, dtype=torch.float64), torch.zeros(20, dtype=torch.long)
    threat = Threat(norm, {"Linf": 0.3, "L2": 0.8, "L1": 2.0}[norm], bounds)
    w = (model.weight[1] - model.weight[0]).detach().expand_as(x)
    optimum = ((threat.farthest(w, x) - x) * w).sum(1)
    for loss in (CrossEntropy(), Decision(), DLR()):
        found = APGD(threat=threat, steps=30, loss=loss)(model, x, y, generator=seeded())
        gain = ((found - x) * w).sum(1)
        assert threat.contains(found, x).all()
        assert (gain >= 0.99 * optimum).all(), type(loss)


@every_norm
def test_with_targets_a_linear_model_falls_exactly_where_some_margin_does(norm):
    torch.manual_seed(0)
    model = nn.Linear(10, 5).double()
    x = torch.randn(100, 10, dtype=torch.float64)
    y = model(x).argmax(1)
    with torch.no_grad():
        margins = model(x).gather(1, y[:, None]) - model(x)
        slopes = (model.weight[y][:, None] - model.weight).norm({"Linf": 1, "L2": 2, "L1": torch.inf}[norm], dim=2)
        distance = (margins / slopes).scatter(1, y[:, None], torch.inf).amin(1)
    eps = float(distance.median())
    attack = APGD(threat=Threat(norm, eps, None), steps=40, targets=9, loss=Decision())
    fell = misclassified(model(attack(model, x, y, generator=seeded())), y)
    assert not fell[distance > eps].any()
    assert fell[distance < 0.99 * eps].all()


@every_norm
@pytest.mark.parametrize("eps", [0.5, 1.0, 1.5])
def test_never_worse_than_pgd_at_equal_steps(norm, eps):
    model, x, y = trained()
    threat = Threat(norm, eps * {"Linf": 0.06, "L2": 0.08, "L1": 0.1}[norm])
    steps = 20
    pgd = PGD(threat=threat, steps=steps)(model, x, y, generator=seeded())
    ours = APGD(threat=threat, steps=steps)(model, x, y, generator=seeded())
    assert broken(model, ours, y) >= broken(model, pgd, y)


def two_ways_out(x):
    """Class 1 comes close along the slope that is felt everywhere, and never wins; class 2 wins at the far end."""
    s = x[:, 0]
    return torch.stack([0 * s, -1 + 0.9 * torch.tanh(4 * s), -12 - 13.5 * s], 1)


@pytest.mark.parametrize("attack", [PGD, APGD])
@pytest.mark.parametrize("loss", [CrossEntropy(), Decision(), DLR()])
def test_targets_find_what_no_untargeted_run_does(attack, loss):
    x, y = torch.zeros(20, 50), torch.zeros(20, dtype=torch.long)
    threat = Threat("L2", 1.0, None)
    found = {
        targets: attack(threat=threat, steps=20, loss=loss, targets=targets)(two_ways_out, x, y, generator=seeded())
        for targets in (0, 1, 2)
    }
    assert [broken(two_ways_out, points, y) for points in found.values()] == [0, 0, 20]
    assert threat.contains(found[2], x).all()


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_dlr_works_with_few_classes(classes):
    torch.manual_seed(classes)
    model = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, classes)).double()
    x = torch.rand(60, 6, dtype=torch.float64)
    model[2].bias.data -= model(x).mean(0).detach()
    y = model(x).argmax(1)

    def count(loss, targets=0):
        attack = APGD(threat=Threat("L2", 0.15), steps=15, loss=loss, targets=targets)
        return broken(model, attack(model, x, y, generator=seeded()), y)

    margin = count(Decision())
    assert 5 < margin < 55
    assert count(DLR()) >= 0.9 * margin
    assert count(DLR(), 9) >= margin - 1
    if classes == 2:  # nothing to divide by
        assert count(DLR()) == margin


def test_the_scale_of_the_logits_does_not_move_dlr():
    """Times 1e4 the cross-entropy has no gradient left in float32."""
    model, x, y = trained()
    wide = nn.Linear(2, 3)
    with torch.no_grad():
        wide.weight.copy_(torch.eye(3)[:, :2])
        wide.bias.copy_(torch.tensor([0.0, 0.0, -20.0]))  # a third class, which is never likely
    right = ~misclassified(model(x), y)
    x, y = x[right], y[right]
    counts = {
        loss: [
            broken(net, APGD(threat=Threat("L2", 0.08), steps=20, loss=loss)(net, x, y, generator=seeded()), y)
            for net in (lambda points: wide(model(points)), lambda points: 1e4 * wide(model(points)))
        ]
        for loss in (DLR(), CrossEntropy())
    }
    assert counts[DLR()][0] > 0.2 * len(x)
    assert abs(counts[DLR()][1] - counts[DLR()][0]) <= 1
    assert counts[CrossEntropy()][1] < 0.7 * counts[CrossEntropy()][0]


def test_what_is_broken_leaves_the_batch_at_its_first_wrong_iterate():
    model, x, y = trained()
    seen = []
    model.register_forward_hook(lambda m, i, o: seen.append((i[0], misclassified(o, y[: len(o)]))))
    attack = APGD(threat=Threat(eps=0.1), steps=20)
    adversarial = attack(model, x, y, generator=seeded())
    sizes = [len(points) for points, _ in seen]
    assert len(sizes) == 21
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.5 * sizes[0]
    first, wrong = seen[0]
    assert torch.equal(adversarial[wrong], first[wrong])


class Fixed(Threat):
    """A threat whose random points do not depend on the batch."""

    def sample(self, x, *, generator=None):
        return self.project(x + 0.3 * self.eps, x)


def test_each_example_has_the_path_it_has_alone():
    """Also beside neighbours that break, or whose logits are NaN."""
    model, x, y = trained()

    def poisoned(points):
        return torch.where(points[:, :1] > 0.8, torch.nan, model(points))

    for norm, eps in (("Linf", 0.05), ("L2", 0.06), ("L1", 0.07)):
        attack = APGD(threat=Fixed(norm, eps), steps=15)
        together = attack(poisoned, x[:40], y[:40])
        for n in (1, 7):
            torch.testing.assert_close(attack(poisoned, x[:n], y[:n]), together[:n])


def test_names():
    assert APGD().name == "APGD-100 CrossEntropy"
    assert APGD(loss=DLR(), targets=9).name == "APGD-100 DLR 9 targets"
    assert APGD(steps=50, restarts=5, draws=20).name == "APGD-50 CrossEntropy 20 draws x5"


@pytest.mark.parametrize("bad", [{"steps": 0}, {"rho": 0.0}, {"rho": 1.0}, {"restarts": 0}, {"targets": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        APGD(**bad)
