import pytest
import torch
from torch import nn

from meseta import Threat
from meseta.attacks import PGD
from meseta.autodiff import CrossEntropy, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.geometry import LocalLinearity
from meseta.geometry.local_linearity import rising_departure


class QuadraticLoss(nn.Module):
    """Two logits whose cross-entropy for class 0 is 20 + b^T x + x^T diag(a) x / 2."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, x):
        loss = 20 + x @ self.b + (x**2 @ self.a) / 2
        return torch.stack([torch.zeros_like(loss), loss.expm1().log()], 1)


A, B = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64), torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64)
X, Y = torch.full((2, 3), 0.5, dtype=torch.float64), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(("norm", "truth"), [("L2", 3.0), ("L1", 3.0), ("Linf", 3.5)])
def test_of_a_quadratic_loss_it_is_at_most_the_largest_quadratic_term_and_reaches_it_under_linf(norm, truth):
    """max |delta^T A delta|: the largest |a| for L2 and L1; for Linf the larger sum of one sign, here 3 + 0.5."""
    value = LocalLinearity(threat=Threat(norm, 0.1, None), steps=30)(QuadraticLoss(A, B), X, Y).value
    share = value / (0.01 * truth / 2)
    assert (share <= 1 + 1e-9).all()
    assert (share > (0.99 if norm == "Linf" else 0.2)).all()


def test_the_linear_part_is_that_of_the_move_found():
    """In one dimension the move found is one of the ends of the interval."""
    model = QuadraticLoss(A[:1], B[:1])
    measured = LocalLinearity(threat=Threat(eps=0.1), steps=30)(model, X[:, :1], Y)
    torch.testing.assert_close(measured.value, torch.full((2,), 0.01 * 1.5, dtype=torch.float64))
    torch.testing.assert_close(measured.parts["linear"], torch.full((2,), 0.1 * 2.5, dtype=torch.float64))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_a_loss_that_is_linear_in_the_ball_has_none(norm):
    model = QuadraticLoss(torch.zeros(3, dtype=torch.float64), B)
    assert (LocalLinearity(threat=Threat(norm, 0.1))(model, X, Y).value < 1e-12).all()


def test_more_steps_never_find_less(smooth_batch):
    b = smooth_batch
    few, many = (LocalLinearity(threat=Threat(eps=0.1), steps=n)(b.model, b.x, b.y).value for n in (2, 20))
    assert (many >= few).all()


def test_for_a_small_ball_it_is_a_good_part_of_half_the_curvature(smooth_batch):
    b = smooth_batch
    curvature = torch.linalg.eigvalsh(dense_hessian(CrossEntropy().bind(b.model, b.x, b.y), b.x)).abs().amax(1)
    share = LocalLinearity(threat=Threat("L2", 0.01, None))(b.model, b.x, b.y).value / (0.01**2 * curvature / 2)
    assert (share <= 1.02).all()
    assert (share >= 0.3).all()


def test_bounds_what_an_attack_gains_over_the_gradient(smooth_batch):
    """|l(x + delta) - l(x)| <= gamma + |delta^T grad l|, up to what the search has missed."""
    b, threat = smooth_batch, Threat(eps=0.05)
    attacked = PGD(threat=threat)(b.model, b.x, b.y, generator=torch.Generator().manual_seed(0))
    f = CrossEntropy().bind(b.model, b.x, b.y)
    loss, gradient = value_and_gradient(f, b.x)
    gained = f(attacked).detach() - loss
    promised = ((attacked - b.x) * gradient).flatten(1).sum(1).abs()
    gamma = LocalLinearity(threat=threat, steps=50, alpha=0.01)(b.model, b.x, b.y).value
    assert (gained <= 1.01 * gamma + promised).all()


@pytest.mark.parametrize("threat", [Threat(eps=0.1), Threat("L2", 0.3), Threat("L1", 0.5)], ids=lambda t: t.norm)
def test_every_move_stays_inside_ball_and_bounds(smooth_batch, threat):
    b = smooth_batch
    f = CrossEntropy().bind(b.model, b.x, b.y)
    start = threat.sample(b.x, generator=torch.Generator().manual_seed(0)) - b.x
    moves = list(rising_departure(f, b.x, start, threat, 5, 0.1))
    assert len(moves) == 5
    assert all(threat.contains(b.x + move, b.x).all() for move in moves)


def test_a_loss_that_is_not_finite_somewhere_in_the_ball_has_no_measure():
    def model(x):
        bad = (x[:, 0] - 0.5).abs() > 0.02
        return torch.stack([torch.where(bad, torch.nan, x[:, 0] ** 2), x[:, 1] ** 2], 1)

    x, y = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    assert LocalLinearity(threat=Threat(eps=0.1))(model, x, y).value.isnan()
    assert LocalLinearity(threat=Threat(eps=0.01))(model, x, y).value.isfinite()


def test_inputs_outside_the_bounds_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"`x` must lie in the bounds \[0, 1\]") as caught:
        LocalLinearity()(nn.Linear(3, 2), torch.full((2, 3), 1.5), torch.tensor([0, 1]))
    assert "\n" not in str(caught.value)
    LocalLinearity(threat=Threat(bounds=None))(nn.Linear(3, 2), torch.full((2, 3), 1.5), torch.tensor([0, 1]))


@pytest.mark.parametrize("bad", [{"threat": 0.1}, {"steps": 0}, {"alpha": 0.0}, {"seed": -1}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        LocalLinearity(**bad)
