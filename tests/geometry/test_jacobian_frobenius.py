import torch
from torch import nn

from meseta.autodiff import dense_jacobian
from meseta.geometry import CrossLipschitz, JacobianFrobenius


def test_equals_the_norm_of_the_dense_jacobian(batch):
    b = batch
    truth = dense_jacobian(b.model, b.x).flatten(1).norm(dim=1)
    torch.testing.assert_close(JacobianFrobenius()(b.model, b.x, b.y).value, truth)


def test_is_the_norm_of_the_weight_of_a_linear_model():
    model = nn.Linear(5, 3).double()
    x, y = torch.rand(4, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(JacobianFrobenius()(model, x, y).value, model.weight.detach().norm().expand(4))


def test_is_what_the_logits_differ_by_and_what_they_share(batch):
    b = batch
    nu = CrossLipschitz()(b.model, b.x, b.y).value
    shared = dense_jacobian(b.model, b.x).mean(1).flatten(1).norm(dim=1)
    mu_squared = b.classes / 2 * nu**2 + b.classes * shared**2
    torch.testing.assert_close(JacobianFrobenius()(b.model, b.x, b.y).value ** 2, mu_squared)


def test_neither_under_nor_overflows():
    x, y = torch.rand(2, 4), torch.tensor([0, 1])
    for scale in (1e-30, 1e30):
        model = nn.Linear(4, 3)
        model.weight.data.fill_(scale)
        value = JacobianFrobenius()(model, x, y).value
        torch.testing.assert_close(value, torch.full((2,), scale * 12**0.5), rtol=1e-5, atol=0)
