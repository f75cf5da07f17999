"""Linear regression with unused weights: closed forms against autograd and sampling."""

import pytest
import torch

from meseta.reproductions import linear_regression
from meseta.reproductions.linear_regression import (
    MEAN,
    SQUARE,
    descend,
    drawn,
    expected_loss,
    loss_under_attack,
    unused,
)


def test_the_loss_under_attack_is_that_of_attacked_data():
    generator = torch.Generator().manual_seed(1)
    x_1 = torch.randn(100, generator=generator, dtype=torch.float64)
    x_1 = MEAN + (x_1 - x_1.mean()) / x_1.std(correction=0) * (SQUARE - MEAN**2) ** 0.5  # just these moments
    w, eps = drawn(5, 4), 0.3
    x = torch.nn.functional.pad(x_1[:, None], (0, 3))
    delta = eps * w.sign()
    delta[:, 0] = 0
    losses = torch.stack([((x + d) @ one - x_1).square().mean() / 2 for one, d in zip(w, delta, strict=True)])
    assert torch.allclose(loss_under_attack(w, eps), losses)


def test_plain_descent_moves_the_first_weight_alone():
    start = drawn(3, 6)
    found = descend(start)
    assert torch.equal(found[:, 1:], start[:, 1:])
    assert torch.allclose(found[:, 0], torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(("ridge", "eps"), [(0.1, 0.0), (0.0, 0.5)])
def test_descent_ends_where_no_weight_nearby_is_better(ridge, eps):
    def total(w):
        return loss_under_attack(w, eps) + ridge / 2 * w.square().sum(-1)

    found = descend(drawn(2, 5), ridge=ridge, eps=eps)
    aside = found + 1e-3 * torch.randn(50, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (total(aside) >= total(found) - 1e-12).all()


def test_descent_ends_where_it_has_come_to_rest(monkeypatch):
    found = []
    monkeypatch.setattr(linear_regression, "unused", lambda w: found.append(1) or unused(w))
    descend(drawn(3, 6))
    assert len(found) < 10
    found.clear()
    descend(drawn(3, 6), eps=0.5, steps=20)
    assert len(found) == 20


def test_descent_leaves_its_start_alone():
    start = drawn(2, 4)
    before = start.clone()
    descend(start, ridge=0.1, eps=0.5)
    assert torch.equal(start, before)


@pytest.mark.parametrize("d", [1, 2, 30])
def test_the_expected_loss_is_the_mean_over_weights(d):
    w = drawn(20000, d + 1, seed=3)
    values = 0.25**2 / 2 * unused(w) ** 2
    assert abs(values.mean() - expected_loss(d, 0.25)) < 4 * values.std() / 20000**0.5
    assert expected_loss(d, 0.25, sigma=2.0) == pytest.approx(4 * expected_loss(d, 0.25))
