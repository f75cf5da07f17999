"""Every objective under DistributedDataParallel, two gloo processes against one: started once, for all of them."""

from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from one_module import Step, flat_gradient
from test_objective_contract import DETERMINISTIC, OBJECTIVES, every_objective, seeded
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from meseta.objectives import InputGradient

RANKS = 2
ROWS = 6
"""Examples of the full batch."""


def objectives():
    """The defaults of every objective, and its settings without randomness, by name."""
    for name, objective in OBJECTIVES:
        yield name, objective()
        yield f"{name}, deterministic", DETERMINISTIC.get(name, objective)()


def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(36, 8), nn.SiLU(), nn.Linear(8, 3))
    x, y = torch.rand(ROWS, 1, 5, 5, dtype=torch.float64), torch.arange(ROWS) % 3
    return model.double(), x, y


def whole(objective, seed=0, rows=slice(None)):
    """The gradient of one process, and whether the objective drew random numbers."""
    model, x, y = problem()
    generator = seeded(seed)
    before = generator.get_state()
    Step(model, objective)(x[rows], y[rows], generator).backward()
    return flat_gradient(model), not torch.equal(generator.get_state(), before)


def problem_with_batchnorm(training):
    model, x, y = problem()
    model = nn.Sequential(model[0], nn.BatchNorm2d(4).double(), *model[1:])
    return model.train(training), x, y


def penalty_outside(x, y, **options):
    """DDP around the model alone, the penalty outside its forward; two steps, as a static graph learns in the first."""
    model, _, _ = problem()
    wrapped = DistributedDataParallel(model, **options)
    for _ in range(2):
        model.zero_grad()
        InputGradient(weight=1)(wrapped, x, y).total.backward()
    return flat_gradient(model)


def past_ddp(x, y):
    """The module inside DDP called directly."""
    model, _, _ = problem()
    wrapped = DistributedDataParallel(Step(model, InputGradient(weight=1)))
    wrapped.module(x, y, None).backward()
    return flat_gradient(model)


def func_gradient(x, y):
    """The input gradient by torch.func, of DDP around the model alone."""
    model, _, _ = problem()
    wrapped = DistributedDataParallel(model) if len(x) < ROWS else model
    gradient = torch.func.grad(lambda points: nn.functional.cross_entropy(wrapped(points), y, reduction="sum"))(x)
    (gradient.flatten(1).square().sum(1).mean() + nn.functional.cross_entropy(wrapped(x), y)).backward()
    return flat_gradient(model)


class PenaltyAlone(nn.Module):
    """The slope of a logit, which the last bias has no part in."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.model(x)[:, 0].sum(), x, create_graph=True)
        return gradient.flatten(1).square().sum(1).mean()


def penalty_alone(x, y, **options):
    """In one module, but with a parameter that the penalty does not reach."""
    model, _, _ = problem()
    step = PenaltyAlone(model)
    if len(x) < ROWS:
        step = DistributedDataParallel(step, **options)
    step(x).backward()
    return flat_gradient(model)


def batchnorm(x, y, training):
    """BatchNorm in the model: statistics of the batch, or of the past."""
    model, _, _ = problem_with_batchnorm(training)
    step = Step(model, InputGradient(weight=1))
    if len(x) < ROWS:
        step = DistributedDataParallel(step)
    step(x, y, None).backward()
    return flat_gradient(model)


def sharded(x, y, inner):
    """FSDP2 around the step; `inner` shards the model's layers on their own too."""
    model, _, _ = problem()
    step = Step(model, InputGradient(weight=1))
    mesh = init_device_mesh("cpu", (RANKS,))
    if inner:
        fully_shard(model[0], mesh=mesh)
        fully_shard(model[3], mesh=mesh)
    fully_shard(step, mesh=mesh)
    step(x, y, None).backward()
    return torch.cat([parameter.grad.full_tensor().flatten() for parameter in model.parameters()])


PATTERNS = {
    "penalty outside": penalty_outside,
    "penalty outside, static graph": partial(penalty_outside, static_graph=True),
    "past DDP": past_ddp,
    "torch.func around DDP": func_gradient,
    "penalty alone": penalty_alone,
    "penalty alone, unused parameters looked for": partial(penalty_alone, find_unused_parameters=True),
    "BatchNorm in train mode": partial(batchnorm, training=True),
    "BatchNorm in eval mode": partial(batchnorm, training=False),
    "FSDP2, the root alone": partial(sharded, inner=False),
    "FSDP2, layers too": partial(sharded, inner=True),
}


def process(rank, folder):
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=RANKS, timeout=timedelta(seconds=60))
    gradients = {}
    for name, objective in objectives():
        model, x, y = problem()
        step = DistributedDataParallel(Step(model, objective))
        step(x[rank::RANKS], y[rank::RANKS], seeded(rank)).backward()
        gradients[name] = flat_gradient(model)
    for name, pattern in PATTERNS.items():
        _, x, y = problem()
        try:
            gradients[name] = pattern(x[rank::RANKS], y[rank::RANKS])
        except RuntimeError as error:
            gradients[name] = str(error)
    torch.save(gradients, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """The gradients of each process, by name."""
    folder = tmp_path_factory.mktemp("ddp")
    mp.spawn(process, (folder,), RANKS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12 * float(b.abs().max()))


@every_objective
def test_gradients_are_the_mean_of_the_shards_gradients(objective, distributed):
    """Process r draws from seed r."""
    shards = [whole(objective(), rank, slice(rank, None, RANKS))[0] for rank in range(RANKS)]
    for gradients in distributed:
        close(gradients[objective.__name__], torch.stack(shards).mean(0))


@every_objective
def test_gradients_are_those_of_the_full_batch_where_nothing_is_random(objective, distributed):
    settings = DETERMINISTIC.get(objective.__name__, objective)()
    full_batch, random = whole(settings)
    if random:
        pytest.skip("no settings without randomness")
    for gradients in distributed:
        close(gradients[f"{objective.__name__}, deterministic"], full_batch)


def of_one_process(pattern):
    """The gradient of the full batch."""
    _, x, y = problem()
    same = ("penalty alone", "BatchNorm", "torch.func")  # without DDP the same function is that of one process
    return PATTERNS[pattern](x, y) if pattern.startswith(same) else whole(InputGradient(weight=1))[0]


@pytest.mark.parametrize(
    ("pattern", "outcome"),
    [
        ("penalty outside", "right"),
        ("penalty outside, static graph", "wrong"),
        ("past DDP", "wrong"),
        ("torch.func around DDP", "right"),
        ("penalty alone", "wrong"),
        ("penalty alone, unused parameters looked for", "right"),
        ("BatchNorm in train mode", "another batch"),
        ("BatchNorm in eval mode", "right"),
        ("FSDP2, the root alone", "right"),
        ("FSDP2, layers too", "raises"),
    ],
)
def test_other_patterns(pattern, outcome, distributed):
    """Why model and objective are one module: many other ways are wrong, and say nothing."""
    first, second = (gradients[pattern] for gradients in distributed)
    if outcome == "raises":
        assert isinstance(first, str)
        return
    expected = of_one_process(pattern)
    if outcome == "right":
        close(first, expected)
        close(second, expected)
    else:
        assert (first - expected).norm() > 0.01 * expected.norm()
        assert ((first - second).norm() > 0.01 * expected.norm()) == (outcome == "wrong")
