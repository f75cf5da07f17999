"""The Frobenius norm of the Jacobian: exact, sampled, and beside the cross-Lipschitz functional."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_objectives import compare, trained
from torch import nn
from torch.autograd import gradcheck

from meseta.autodiff import dense_jacobian
from meseta.errors import UserError
from meseta.objectives import CrossLipschitz, Erm, Jacobian


def test_exact_jacobian(batch):
    total = 0
    for x, y in zip(batch.x, batch.y, strict=True):
        point = x[None].clone().requires_grad_()
        z = batch.model(point)[0]
        rows = [torch.autograd.grad(z_k, point, create_graph=True)[0] for z_k in z]
        total = total + F.cross_entropy(z[None], y[None]) + 0.3 * sum((row**2).sum() for row in rows)
    objective = Jacobian(weight=0.3, estimator="exact")
    compare(objective(batch.model, batch.x, batch.y), total / len(batch.x), batch.model)


def test_of_a_linear_model_it_is_the_norm_of_its_weights():
    model = nn.Linear(5, 3).double()
    terms = Jacobian(estimator="exact")(model, torch.rand(2, 5).double(), torch.tensor([0, 1])).terms
    torch.testing.assert_close(terms["jacobian"], (model.weight.detach() ** 2).sum().expand(2))


def test_the_sample_is_unbiased_in_value_and_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 4)).double()
    x, y = torch.rand(1, 3, dtype=torch.float64), torch.tensor([2])
    exact = Jacobian(estimator="exact").penalize(model, x, y, None).value
    generator = torch.Generator().manual_seed(0)
    samples = Jacobian().penalize(model, x.expand(500, -1), y.expand(500), generator).value
    assert abs(samples.mean() - exact) < 5 * samples.std() / math.sqrt(len(samples))
    weight = model[0].weight
    (truth,) = torch.autograd.grad(exact, weight)
    drawn = torch.stack([torch.autograd.grad(s, weight, retain_graph=True)[0] for s in samples])
    assert ((drawn.mean(0) - truth).abs() < 5 * drawn.std(0) / math.sqrt(len(drawn))).all()


def test_it_is_the_cross_lipschitz_functional_and_the_mean_row(batch):
    """||V||_F^2 = (K/2) Omega + K ||mean_k v_k||_2^2."""
    omega, square = (
        o.penalize(batch.model, batch.x, batch.y, None).value
        for o in (CrossLipschitz(estimator="exact"), Jacobian(estimator="exact"))
    )
    mean = dense_jacobian(batch.model, batch.x).flatten(2).mean(1)
    torch.testing.assert_close(square, batch.classes / 2 * omega + batch.classes * (mean**2).sum(1))


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_passes_gradcheck_in_the_parameters(estimator):
    torch.manual_seed(0)
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)

    def total(a, b):
        generator = torch.Generator().manual_seed(0)
        model = lambda inputs: torch.tanh(inputs @ a.T) @ b.T  # noqa: E731
        return Jacobian(estimator=estimator)(model, x, y, generator=generator).total

    assert gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


@pytest.mark.parametrize("estimator", ["exact", "sampled"])
def test_training_lowers_it_on_held_out_data(estimator):
    def square(objective):
        model, x, _ = trained(objective)
        return dense_jacobian(model, x).flatten(1).norm(dim=1).square().mean()

    torch.manual_seed(0)
    assert square(Jacobian(weight=0.02, estimator=estimator)) < 0.5 * square(Erm())


@pytest.mark.parametrize("bad", [{"weight": float("nan")}, {"estimator": "guess"}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        Jacobian(**bad)
