import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import FGSM, Square
from meseta.attacks.base import misclassified
from meseta.attacks.square import _Draw, _pile
from meseta.autodiff import Decision
from meseta.errors import UserError

NORMS = ["Linf", "L2", "L1"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(9,), (3, 3), (1, 3, 3)])
def test_it_finds_the_best_corner_of_a_linear_model(shape):
    """The margin is a sum over entries: where single entries are windows, the search is exact, up to the last query."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2).double())
    model[1].bias.data = torch.tensor([50.0, 0.0]).double()  # out of reach, so that no path ends early
    x, y = torch.rand(30, *shape, dtype=torch.float64), torch.zeros(30, dtype=torch.long)
    threat = Threat(eps=0.3)
    best = FGSM(threat=threat)(model, x, y)
    torch.testing.assert_close(Square(threat=threat, queries=250)(model, x, y, generator=seeded()), best)


@pytest.mark.parametrize(("norm", "least"), [("L2", 0.7), ("L1", 0.7)])
def test_it_nears_the_best_point_of_a_linear_model(norm, least):
    """The drop of the margin as a share of eps ||w||_q, on average over examples."""
    torch.manual_seed(0)
    model = nn.Linear(8, 2).double()
    model.bias.data = torch.tensor([50.0, 0.0]).double()
    x, y = torch.randn(4, 8, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    threat = Threat(norm, 0.5, None)
    found = Square(threat=threat, queries=100)(model, x, y, generator=seeded())
    drop = (Decision().of_logits(model(x), y) - Decision().of_logits(model(found), y)).mean()
    slope = torch.linalg.vector_norm(model.weight[0] - model.weight[1], threat.dual)
    assert least * 0.5 * slope <= drop <= 0.5 * slope * (1 + 1e-9)


def test_linf_starts_from_stripes_and_moves_whole_windows():
    """Before the bounds every entry is moved by eps, one sign per column at first, one per channel in a window."""
    x, threat = torch.zeros(2, 3, 8, 8), Threat(eps=0.1, bounds=None)
    attack = Square(threat=threat)
    first = attack.propose(0, x, x, seeded())
    assert torch.equal(first, first[:, :, :1].expand_as(first))
    assert (first.abs() == 0.1).all()
    second = attack.propose(1, first, x, seeded(1))
    assert (second.abs() == 0.1).all()
    window = second[0, 0, :, 3]  # p = 0.8: a window of 7 x 7 crosses the column in the middle
    assert (window == window[1]).sum() >= 7
    assert torch.equal(second[0], second[1])


@pytest.mark.parametrize("shape", [(40,), (12, 12), (3, 9, 9), (2, 2, 7, 11)])
@pytest.mark.parametrize(("norm", "p"), [("L2", 2), ("L1", 1)])
def test_l2_and_l1_spend_the_whole_radius_where_no_bound_binds(shape, norm, p):
    """Mass moves from window to window, and none is lost: ||d||_p = eps after every proposal."""
    x = torch.zeros(3, *shape, dtype=torch.float64)
    attack = Square(threat=Threat(norm, 0.7, None), queries=40)
    points, generator = x, seeded()
    for number in range(40):
        points = attack.propose(number, points, x, generator)
        length = torch.linalg.vector_norm((points - x).flatten(1), p, dim=1)
        torch.testing.assert_close(length, torch.full_like(length, 0.7))


@pytest.mark.parametrize("shape", [(28, 28), (5, 40), (1, 30), (30, 1), (1, 1)])
@pytest.mark.parametrize("share", [1.0, 0.8, 0.3, 0.05, 0.001])
@pytest.mark.parametrize("least", [1, 3])
def test_windows_lie_inside_and_hold_their_share(shape, share, least):
    h, w = shape
    draw = _Draw(torch.zeros(2, *shape), seeded())
    for _ in range(20):
        rows, columns = draw.window(share, least)
        assert 0 <= rows.start < rows.stop <= h
        assert 0 <= columns.start < columns.stop <= w
        height, width = rows.stop - rows.start, columns.stop - columns.start
        assert height >= min(least, h)
        assert width >= min(least, w)
        if share * h * w >= least**2:
            assert abs(height * width - share * h * w) <= 0.5 * max(height, width) + 1


def test_a_pile_is_the_published_sum():
    """Squares of odd sides 2k + 1 around the centre, each worth 1 / (k + 1)^2."""
    expected = torch.zeros(7, 5, dtype=torch.float64)
    for k in range(4):
        rows, columns = torch.arange(7) - 3, torch.arange(5) - 2
        inside = (rows.abs()[:, None] <= k) & (columns.abs() <= k)
        expected += inside / (k + 1) ** 2
    torch.testing.assert_close(_pile(7, 5), expected)


def test_the_share_falls_on_the_published_schedule():
    attack = Square(queries=10_000)
    shares = {1: 1, 10: 1, 11: 2, 51: 4, 201: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256, 8001: 512}
    assert all(attack._share(number) == 0.8 / part for number, part in shares.items())
    assert Square(queries=100)._share(81) == 0.8 / 512


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_break_more_and_broken_examples_leave(batch, norm):
    y = batch.model(batch.x).argmax(1)
    threat = Threat(norm, {"Linf": 0.2, "L2": 0.5, "L1": 1.5}[norm])
    asked = []
    hook = batch.model.register_forward_hook(lambda m, i, o: asked.append(len(o)))
    found = [Square(threat=threat, queries=q)(batch.model, batch.x, y, generator=seeded()) for q in (1, 60)]
    hook.remove()
    few, many = (misclassified(batch.model(points), y) for points in found)
    assert many.sum() >= few.sum()
    assert asked == sorted(asked[:2], reverse=True) + sorted(asked[2:], reverse=True)


def test_a_model_without_a_gradient_is_searched_and_neighbours_do_not_matter(batch):
    """Rounded logits, cut off from autograd."""

    def model(points):
        return (8 * batch.model(points)).detach().round() / 8

    y = model(batch.x).argmax(1)
    attack = Square(threat=Threat(eps=0.1), queries=60)
    together = attack(model, batch.x, y, generator=seeded())
    alone = attack(model, batch.x[1:2], y[1:2], generator=seeded())
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_it_breaks_a_trained_network(trained_cnn, norm):
    model, x, y = trained_cnn
    x, y = x[:40], y[:40]
    threat = Threat(norm, {"Linf": 0.3, "L2": 2.5, "L1": 25.0}[norm])
    found = Square(threat=threat, queries=40)(model, x, y, generator=seeded())
    with torch.no_grad():
        before, after = (misclassified(model(points), y).float().mean() for points in (x, found))
    assert after > before + 0.04  # on upscaled digits, where MNIST is not at hand, two images of 40


@pytest.mark.parametrize("bad", [{"queries": 0}, {"p": 0.0}, {"p": 1.5}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Square(**bad)
