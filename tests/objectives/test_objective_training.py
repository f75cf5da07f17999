"""What every objective must keep where it trains: precision, modes, frozen parameters, and three training loops."""

import copy

import lightning
import pytest
import torch
from accelerate import Accelerator
from one_module import Step, flat_gradient
from test_objective_contract import every_objective, seeded, skip_unknown_layers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from meseta.schedules import Constant
from meseta.training import Sgd
from meseta.training.module import ObjectiveModule, step_seed


def smooth_cnn(channels=1, classes=4, seed=0):
    """A network with smooth activations for images of 7×7, steep enough for derivatives to matter."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 3),
        nn.SiLU(),
        nn.Conv2d(6, 8, 3, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(32, classes),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def relative(a, b):
    return float((a - b).norm() / b.norm())


@every_objective
def test_bfloat16_autocast_is_float32_but_for_rounding(objective):
    """Total to 1 %, gradient and every term to 10 %: one bfloat16 rounding is 0.4 %, and a sign step may flip by it."""
    model, x, y = smooth_cnn(), torch.rand(24, 1, 7, 7), torch.arange(24) % 4
    results = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value = objective()(model, x, y, generator=seeded())
        value.total.backward()
        results.append((value, flat_gradient(model)))
    (exact, exact_gradient), (half, half_gradient) = results
    assert half.total.dtype == torch.float32
    torch.testing.assert_close(half.total, exact.total, rtol=0.01, atol=0)
    assert half_gradient.isfinite().all()
    assert relative(half_gradient, exact_gradient) < 0.1
    for name, term in exact.terms.items():
        assert relative(half.terms[name].float(), term) < 0.1, name


def with_batchnorm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.SiLU(), nn.Flatten(), nn.Linear(80, 3))


@every_objective
def test_batchnorm_in_train_mode_learns_statistics_from_every_forward_but_those_of_attacks(objective):
    skip_unknown_layers(objective)
    model, x, y = with_batchnorm().train(), torch.rand(6, 2, 6, 6), torch.arange(6) % 3
    modes = []
    model[1].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    objective()(model, x, y, generator=seeded()).total.backward()
    assert model[1].num_batches_tracked == sum(modes) > 0
    assert model[1].running_mean.any()
    assert all(buffer.isfinite().all() for buffer in model.buffers())
    assert flat_gradient(model).isfinite().all()


@every_objective
def test_batchnorm_in_eval_mode_stays_as_it_is(objective):
    model, x, y = with_batchnorm().train(), torch.rand(6, 2, 6, 6), torch.arange(6) % 3
    model[1].eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    objective()(model, x, y, generator=seeded()).total.backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert model.training


@every_objective
@pytest.mark.parametrize("shape", [(6,), (1, 7, 7), (3, 7, 7)], ids=str)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_any_shape_number_of_classes_and_dtype(objective, shape, classes, dtype):
    torch.manual_seed(0)
    model = (
        smooth_cnn(shape[0], classes)
        if len(shape) > 1
        else nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, classes))
    )
    model, x, y = model.to(dtype), torch.rand(3, *shape, dtype=dtype), torch.tensor([0, 1, classes - 1])
    value = objective()(model, x, y, generator=seeded())
    value.total.backward()
    assert value.total.dtype == dtype
    assert all(term.shape == (3,) and term.isfinite().all() for term in value.terms.values())
    assert flat_gradient(model).isfinite().all()


@every_objective
def test_leaves_no_trace(objective):
    """Frozen parameters stay frozen and get no gradient; no gradient, hook or draw of the global generator is left."""
    model, x, y = smooth_cnn(), torch.rand(5, 1, 7, 7), torch.arange(5) % 4
    frozen = [model[0].weight, model[0].bias, model[5].bias]
    for parameter in frozen:
        parameter.requires_grad_(False)
    model[2].bias.grad = torch.ones_like(model[2].bias)
    model[1].register_forward_hook(lambda *_: None)

    def traces():
        hooks = [
            len(value) for m in model.modules() for key, value in vars(m).items() if key.endswith("_hooks") and value
        ]
        flags = [
            (p.requires_grad, p.grad is None, None if p.grad is None else p.grad.tolist()) for p in model.parameters()
        ]
        return hooks, flags, torch.get_rng_state().tolist()

    before = traces()
    value = objective()(model, x, y, generator=seeded())
    assert traces() == before
    value.total.backward()
    for name, parameter in model.named_parameters():
        trained = all(parameter is not f for f in frozen)
        assert parameter.requires_grad == trained, name
        assert (parameter.grad is not None) == trained, name


@every_objective
@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_value_without_gradients_is_the_same(objective, outer):
    model, x, y = smooth_cnn(), torch.rand(5, 1, 7, 7), torch.arange(5) % 4
    expected = objective()(model, x, y, generator=seeded())
    with outer():
        value = objective()(model, x, y, generator=seeded())
    torch.testing.assert_close(value.total.detach(), expected.total.detach())


@every_objective
def test_a_model_without_trainable_parameters_has_a_value(objective):
    model, x, y = smooth_cnn().requires_grad_(False), torch.rand(5, 1, 7, 7), torch.arange(5) % 4
    assert objective()(model, x, y, generator=seeded()).total.isfinite()


STEPS, LR = 3, 0.1


def data():
    x, y = torch.rand(STEPS * 4, 6, generator=seeded(1)), torch.arange(STEPS * 4) % 3
    return DataLoader(TensorDataset(x.double(), y), batch_size=4)


def small_mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 3)).double()


def plain_loop(objective, model):
    optimizer = torch.optim.SGD(model.parameters(), LR)
    for step, (x, y) in enumerate(data()):
        optimizer.zero_grad()
        objective.at((step + 0.5) / STEPS)(model, x, y, generator=seeded(step_seed(0, step))).total.backward()
        optimizer.step()


def lightning_trainer(objective, model):
    module = ObjectiveModule(model, objective, Sgd(lr=LR, momentum=0.0, weight_decay=0.0), Constant())
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, data())


def accelerate_loop(objective, model):
    accelerator = Accelerator(cpu=True)
    step, optimizer, batches = accelerator.prepare(
        Step(model, objective), torch.optim.SGD(model.parameters(), LR), data()
    )
    for index, (x, y) in enumerate(batches):
        optimizer.zero_grad()
        accelerator.backward(step(x, y, seeded(step_seed(0, index)), (index + 0.5) / STEPS))
        optimizer.step()
    accelerator.free_memory()


@every_objective
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_plain_loop_lightning_and_accelerate_give_the_same_weights(objective):
    start, weights = small_mlp(), []
    for train in (plain_loop, lightning_trainer, accelerate_loop):
        model = copy.deepcopy(start)
        train(objective(), model)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert not torch.allclose(weights[0], torch.cat([p.detach().flatten() for p in start.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-12, atol=1e-14)


def test_every_step_and_process_draws_its_own_randomness():
    seeds = {step_seed(seed, step, process, 4) for seed in (0, 1) for step in range(100) for process in range(4)}
    assert len(seeds) == 2 * 100 * 4
