"""What every objective must keep: found through the registry."""

import gc
import weakref

import pytest
import torch
from torch import nn

from meseta import attacks
from meseta.attacks import PGD
from meseta.errors import UserError
from meseta.linalg import Lanczos
from meseta.objectives import (
    AdversarialTraining,
    CrossHolder,
    CrossLipschitz,
    DecisionGradient,
    Haat,
    Jacobian,
    Soar,
    Sum,
)
from meseta.registry import methods

OBJECTIVES = sorted(methods("objectives").items())
every_objective = pytest.mark.parametrize("objective", [o for _, o in OBJECTIVES], ids=[name for name, _ in OBJECTIVES])

# Settings without randomness, or without a common stopping rule, where the defaults have either.
DETERMINISTIC = {
    "AdversarialTraining": lambda: AdversarialTraining(attack=STILL),
    "CrossHolder": lambda: CrossHolder(rivals="all", solver=Lanczos(tol=1e-9)),
    "CrossLipschitz": lambda: CrossLipschitz(estimator="exact"),
    "Haat": lambda: Haat(attack=attacks.Haat(solver=Lanczos(steps=5, tol=1e-12, which="largest"))),
    "Jacobian": lambda: Jacobian(estimator="exact"),
    "Soar": lambda: Soar(form="lifted_spectral", start="zero", solver=Lanczos(which="largest", tol=1e-9)),
    "Sum": lambda: Sum(parts=(AdversarialTraining(attack=STILL), DecisionGradient())),
}
STILL = PGD(steps=3, random_start=False, drop_broken=False)

# They refuse piecewise-linear networks, which is tested with each; here they get a smooth one in place of it.
NEED_SMOOTH = {"CrossHolder", "CurvatureBound"}
# They read the layers one by one and refuse what they do not know, which is tested with each.
NEED_KNOWN_LAYERS = {"CurvatureBound"}


def skip_unknown_layers(objective):
    if objective.__name__ in NEED_KNOWN_LAYERS:
        pytest.skip("refused, see its own test")


def activation(objective, **options):
    return nn.SiLU(**options) if objective.__name__ in NEED_SMOOTH else nn.ReLU(**options)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def parameter_gradients(objective, model, x, y, seed=0):
    value = objective(model, x, y, generator=seeded(seed))
    gradients = torch.autograd.grad(value.total, list(model.parameters()), materialize_grads=True)
    return value, gradients


@every_objective
def test_total_and_terms(objective, batch):
    if objective.__name__ in NEED_SMOOTH and any(isinstance(m, nn.ReLU) for m in batch.model.modules()):
        pytest.skip("refused, see its own test")
    value = objective()(batch.model, batch.x, batch.y)
    assert value.total.shape == ()
    assert value.total.isfinite()
    assert value.terms
    for term in value.terms.values():
        assert term.shape == (len(batch.x),)
        assert not term.requires_grad


@every_objective
def test_every_parameter_of_a_smooth_net_gets_a_finite_gradient(objective, smooth_batch):
    b = smooth_batch
    objective()(b.model, b.x, b.y, generator=seeded()).total.backward()
    for parameter in b.model.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@pytest.fixture
def same_draws_for_every_example(monkeypatch, smooth_batch):
    """Draw one example's numbers and give them to every example, for objectives that cannot do without randomness."""
    for name in ("rand", "randn"):
        draw = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda shape, draw=draw, **options: draw(shape[1:], **options).expand(shape).clone()
        )


@every_objective
@pytest.mark.usefixtures("same_draws_for_every_example")
def test_order_and_size_of_the_batch_do_not_matter(objective, smooth_batch):
    """The objective on a batch is the mean of the objectives on its examples."""
    b = smooth_batch
    o = DETERMINISTIC.get(objective.__name__, objective)()
    total, gradients = parameter_gradients(o, b.model, b.x, b.y)
    singles = [parameter_gradients(o, b.model, b.x[i : i + 1], b.y[i : i + 1]) for i in reversed(range(len(b.x)))]
    torch.testing.assert_close(total.total, torch.stack([s.total for s, _ in singles]).mean())
    for k, gradient in enumerate(gradients):
        torch.testing.assert_close(gradient, torch.stack([g[k] for _, g in singles]).mean(0))


@every_objective
def test_finite_at_zero_gradient_and_at_saturated_logits(objective):
    model = nn.Sequential(nn.Linear(4, 5), activation(objective), nn.Linear(5, 3))
    x, y = torch.rand(6, 4), torch.arange(6) % 3
    for scale in (0.0, 1e4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0) if scale == 0 else parameter.uniform_(-1, 1).mul_(scale**0.5)
        value, gradients = parameter_gradients(objective(), model, x, y)
        assert value.total.isfinite()
        assert all(g.isfinite().all() for g in gradients)


@every_objective
def test_leaves_mode_inputs_gradients_and_global_randomness_alone(objective):
    skip_unknown_layers(objective)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), activation(objective), nn.Linear(6, 2)
    ).train()
    model[0].eval()
    modes = [m.training for m in model.modules()]
    x, y = torch.rand(5, 2, 4).requires_grad_(), torch.tensor([0, 1, 0, 1, 1])
    state = torch.get_rng_state()
    objective()(model, x, y, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.modules()] == modes
    assert x.grad is None
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@every_objective
def test_works_in_inference_mode_data_and_with_models_that_work_in_place(objective):
    skip_unknown_layers(objective)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 5), activation(objective, inplace=True), nn.Linear(5, 3))
    with torch.inference_mode():
        x, y = torch.rand(6, 4), torch.arange(6) % 3
    before = x.clone()
    objective()(model, x, y, generator=seeded()).total.backward()
    assert torch.equal(x, before)
    assert model[1].weight.grad.isfinite().all()


@every_objective
def test_takes_attention(objective):
    skip_unknown_layers(objective)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.project, self.head = nn.Linear(4, 12), nn.Linear(12, 3)

        def forward(self, x):
            q, k, v = self.project(x).chunk(3, -1)
            return self.head(nn.functional.scaled_dot_product_attention(q, k, v).flatten(1))

    model = Attention()
    objective()(model, torch.rand(5, 3, 4), torch.arange(5) % 3, generator=seeded()).total.backward()
    assert model.project.weight.grad.isfinite().all()


@every_objective
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_seed_same_value(objective, dtype):
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3)).to(dtype)
    x, y = torch.rand(6, 4, dtype=dtype), torch.arange(6) % 3
    first, second = (objective()(model, x, y, generator=seeded(3)).total for _ in range(2))
    assert first.dtype == dtype
    assert torch.equal(first, second)


@every_objective
def test_bad_input_is_refused_before_any_gradient(objective):
    model = nn.Linear(4, 3)
    x, y = torch.rand(2, 4), torch.tensor([0, 2])
    for bad_x, bad_y, message in (
        (x * torch.nan, y, "`x` holds NaN"),
        (x, y + 1, r"`y` must hold class indices 0\.\.2"),
        (x, y[:1], "`y` must have shape"),
        (x.long(), y, "`x` must be floating point"),
    ):
        with pytest.raises(UserError, match=message):
            objective()(model, bad_x, bad_y)
    assert model.weight.grad is None


@every_objective
def test_does_not_keep_graphs_alive(objective):
    """After a step the activations of every forward are gone, and gradients carry no graph."""
    model = nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))
    activations = []
    model[0].register_forward_hook(lambda _, __, output: activations.append(weakref.ref(output)))
    value = objective()(model, torch.rand(6, 4), torch.arange(6) % 3)
    value.total.backward()
    assert activations
    terms = value.terms
    del value
    gc.collect()
    assert all(activation() is None for activation in activations)
    assert all(parameter.grad.grad_fn is None for parameter in model.parameters())
    assert all(term.grad_fn is None for term in terms.values())
