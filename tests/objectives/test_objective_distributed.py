"""Every objective under DistributedDataParallel, two gloo processes against one: started once, for all of them."""

from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from one_module import Step, flat_gradient
from test_objective_contract import DETERMINISTIC, OBJECTIVES, every_objective, seeded
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from meseta.objectives import InputGradient

RANKS = 2


def objectives():
    """The defaults of every objective, and its settings without randomness, by name."""
    for name, objective in OBJECTIVES:
        yield name, objective()
        yield f"{name}, deterministic", DETERMINISTIC.get(name, objective)()


def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(36, 8), nn.SiLU(), nn.Linear(8, 3))
    x, y = torch.rand(6, 1, 5, 5, dtype=torch.float64), torch.arange(6) % 3
    return model.double(), x, y


def whole(objective, seed=0, rows=slice(None)):
    """The gradient of one process, and whether the objective drew random numbers."""
    model, x, y = problem()
    generator = seeded(seed)
    before = generator.get_state()
    Step(model, objective)(x[rows], y[rows], generator).backward()
    return flat_gradient(model), not torch.equal(generator.get_state(), before)


def penalty_outside(model, x, y, **options):
    """DDP around the model alone, the penalty outside its forward; two steps, as a static graph learns in the first."""
    wrapped = DistributedDataParallel(model, **options)
    for _ in range(2):
        model.zero_grad()
        InputGradient(weight=1)(wrapped, x, y).total.backward()
    return flat_gradient(model)


def past_ddp(model, x, y):
    """The module inside DDP called directly."""
    wrapped = DistributedDataParallel(Step(model, InputGradient(weight=1)))
    wrapped.module(x, y, None).backward()
    return flat_gradient(model)


PATTERNS = {
    "penalty outside": penalty_outside,
    "penalty outside, static graph": lambda model, x, y: penalty_outside(model, x, y, static_graph=True),
    "past DDP": past_ddp,
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
        model, x, y = problem()
        gradients[name] = pattern(model, x[rank::RANKS], y[rank::RANKS])
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


@pytest.mark.parametrize(
    ("pattern", "right"), [("penalty outside", True), ("penalty outside, static graph", False), ("past DDP", False)]
)
def test_other_patterns(pattern, right, distributed):
    """Why model and objective are one module: of the other ways all but one are wrong, and say nothing."""
    expected, _ = whole(InputGradient(weight=1))
    first, second = (gradients[pattern] for gradients in distributed)
    if right:
        close(first, expected)
        close(second, expected)
    else:
        assert (first - second).norm() > 0.1 * expected.norm()
        assert (first - expected).norm() > 0.1 * expected.norm()
