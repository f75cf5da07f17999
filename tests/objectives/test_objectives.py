"""Each objective against a slow twin written from its formula, value and parameter gradient, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck

from meseta import Threat
from meseta.attacks import FGSM, PGD
from meseta.autodiff import CrossEntropy, dense_jacobian
from meseta.errors import UserError
from meseta.geometry import GradientNorm
from meseta.objectives import AdversarialTraining, CrossLipschitz, Erm, InputGradient

INF = float("inf")


def compare(value, twin, model):
    torch.testing.assert_close(value.total, twin)
    parameters = list(model.parameters())
    ours, theirs = (torch.autograd.grad(t, parameters, materialize_grads=True) for t in (value.total, twin))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def slow_losses_and_gradients(b):
    """One example at a time, by torch's own loss."""
    losses, gradients = [], []
    for x, y in zip(b.x, b.y, strict=True):
        point = x[None].clone().requires_grad_()
        losses.append(F.cross_entropy(b.model(point), y[None]))
        gradients.append(torch.autograd.grad(losses[-1], point, create_graph=True)[0].flatten())
    return losses, gradients


def test_erm(batch):
    compare(Erm()(batch.model, batch.x, batch.y), F.cross_entropy(batch.model(batch.x), batch.y), batch.model)


@pytest.mark.parametrize("q", [1, 2, INF])
@pytest.mark.parametrize("power", [1, 2])
def test_input_gradient(batch, q, power):
    losses, gradients = slow_losses_and_gradients(batch)
    twin = torch.stack(
        [loss + 0.3 * torch.linalg.vector_norm(g, q) ** power for loss, g in zip(losses, gradients, strict=True)]
    ).mean()
    compare(InputGradient(weight=0.3, q=q, power=power)(batch.model, batch.x, batch.y), twin, batch.model)


def slow_cross_lipschitz(b, q, create_graph=True):
    total = 0
    for x, y in zip(b.x, b.y, strict=True):
        point = x[None].clone().requires_grad_()
        z = b.model(point)[0]
        v = [torch.autograd.grad(z_k, point, create_graph=True)[0].flatten() for z_k in z]
        pairs = sum(torch.linalg.vector_norm(a - c, q) ** 2 for a in v for c in v if a is not c)
        total = total + F.cross_entropy(z[None], y[None]) + 0.3 * pairs / len(z) ** 2
    return total / len(b.x)


@pytest.mark.parametrize("q", [1, 2, INF])
def test_exact_cross_lipschitz(batch, q):
    objective = CrossLipschitz(weight=0.3, q=q, estimator="exact")
    compare(objective(batch.model, batch.x, batch.y), slow_cross_lipschitz(batch, q), batch.model)


@pytest.mark.parametrize("q", [1, 2, INF])
def test_sampled_cross_lipschitz_is_unbiased(q):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 4)).double()
    x, y = torch.rand(1, 3, dtype=torch.float64), torch.tensor([2])
    exact = CrossLipschitz(q=q, estimator="exact")(model, x, y).terms["cross_lipschitz"].item()
    many = x.expand(4000, -1), y.expand(4000)
    samples = CrossLipschitz(q=q)(model, *many, generator=torch.Generator().manual_seed(0)).terms["cross_lipschitz"]
    assert abs(samples.mean() - exact) < 5 * samples.std() / math.sqrt(len(samples))


def test_sampled_cross_lipschitz_is_exact_for_two_classes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 2)).double()
    x, y = torch.rand(9, 3, dtype=torch.float64), torch.arange(9) % 2
    for q in (1, 2, INF):
        exact, sampled = (CrossLipschitz(q=q, estimator=e)(model, x, y).total for e in ("exact", "sampled"))
        torch.testing.assert_close(exact, sampled)


def test_cross_lipschitz_of_a_linear_model_is_its_weights():
    model = nn.Linear(5, 3).double()
    v = model.weight.detach()
    expected = sum((v[a] - v[b]).norm() ** 2 for a in range(3) for b in range(3)) / 9
    x = torch.rand(2, 5, dtype=torch.float64)
    terms = CrossLipschitz(estimator="exact")(model, x, torch.tensor([0, 1])).terms
    torch.testing.assert_close(terms["cross_lipschitz"], expected.expand(2))


@pytest.mark.parametrize("clean", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("attack", [FGSM(), PGD(threat=Threat("L2", 0.3), steps=4, random_start=False)])
def test_adversarial_training(batch, attack, clean):
    adversarial = attack(batch.model, batch.x, batch.y)
    hard, easy = (F.cross_entropy(batch.model(x), batch.y) for x in (adversarial, batch.x))
    value = AdversarialTraining(attack=attack, clean=clean)(batch.model, batch.x, batch.y)
    compare(value, (1 - clean) * hard + clean * easy, batch.model)


def test_adversarial_training_attacks_in_eval_mode_and_steps_in_the_models_mode(relu_batch):
    model = relu_batch.model.train()
    modes = []
    model[1].register_forward_pre_hook(lambda m, _: modes.append(m.training))
    AdversarialTraining(attack=PGD(steps=3, drop_broken=False))(model, relu_batch.x, relu_batch.y)
    assert modes == [False] * 3 + [True]


def passes_gradcheck(objective):
    """Check the parameter gradient of a small tanh net by differences."""
    torch.manual_seed(0)
    x, y = torch.rand(3, 4, dtype=torch.float64), torch.tensor([0, 1, 2])
    w1, w2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)

    def total(a, b):
        return objective(lambda inputs: torch.tanh(inputs @ a.T) @ b.T, x, y).total

    return gradcheck(total, (w1.requires_grad_(), w2.requires_grad_()))


@pytest.mark.parametrize("objective", [InputGradient(), InputGradient(q=1, power=1), CrossLipschitz(estimator="exact")])
def test_penalties_pass_gradcheck_in_the_parameters(objective):
    assert passes_gradcheck(objective)


def trained(objective, steps=150):
    torch.manual_seed(0)
    x = torch.rand(256, 8)
    y = ((x[:, 0] > 0.5).long() + (x[:, 1] * x[:, 2] > 0.25)).clamp(0, 2)
    model = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(model, x[:128], y[:128]).total.backward()
        optimizer.step()
    return model, x[128:], y[128:]


def cross_lipschitz_constant(model, x, y):
    v = dense_jacobian(model, x)
    return (v - v.mean(1, keepdim=True)).flatten(1).norm(dim=1).mean()


def adversarial_loss(model, x, y):
    threat = Threat(eps=0.1)
    return CrossEntropy().bind(model, x, y)(PGD(threat=threat, drop_broken=False)(model, x, y)).mean()


@pytest.mark.parametrize(
    ("objective", "measured"),
    [
        (InputGradient(weight=1.0), lambda m, x, y: GradientNorm()(m, x, y).value.mean()),
        (InputGradient(weight=0.2, q=1, power=1), lambda m, x, y: GradientNorm(q=1)(m, x, y).value.mean()),
        (CrossLipschitz(weight=0.1), cross_lipschitz_constant),
        (CrossLipschitz(weight=0.1, estimator="exact"), cross_lipschitz_constant),
        (AdversarialTraining(attack=PGD(threat=Threat(eps=0.1), steps=5, drop_broken=False)), adversarial_loss),
    ],
    ids=lambda o: type(o).__name__,
)
def test_training_lowers_what_is_penalised_on_held_out_data(objective, measured):
    assert measured(*trained(objective)) < 0.7 * measured(*trained(Erm()))


@pytest.mark.parametrize(
    ("objective", "bad"),
    [
        (InputGradient, {"weight": -1}),
        (InputGradient, {"weight": float("nan")}),
        (InputGradient, {"q": 0.5}),
        (InputGradient, {"power": 3}),
        (CrossLipschitz, {"weight": float("inf")}),
        (CrossLipschitz, {"estimator": "guess"}),
        (AdversarialTraining, {"clean": 1.5}),
    ],
)
def test_bad_settings_are_refused(objective, bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        objective(**bad)
