"""Measures give back all they take: a call leaves no tensor and no graph behind, and resident memory stays flat."""

import resource
from pathlib import Path

import pytest
import torch
from leaks import collected, live_tensors
from torch import Tensor, nn

from meseta.geometry import GradientNorm, SpectralCurvature
from meseta.linalg import Lanczos
from meseta.registry import methods

MEASURES = sorted(methods("measures").items())


def tiny() -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return model, torch.rand(2, 4, generator=generator, dtype=torch.float64), torch.tensor([0, 2])


@pytest.mark.parametrize("measure", [m for _, m in MEASURES], ids=[name for name, _ in MEASURES])
def test_no_tensor_outlives_a_call(measure):
    model, x, y = tiny()
    chosen = measure()
    chosen(model, x, y)  # what is made once and kept
    with collected():
        before = live_tensors()
        for _ in range(3):
            chosen(model, x, y)
        assert live_tensors() == before


def resident() -> int:
    """Return this process's resident memory in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell the resident memory")
@pytest.mark.parametrize(
    ("measure", "calls"), [(GradientNorm(), 200), (SpectralCurvature(solver=Lanczos(steps=2)), 60)]
)
def test_resident_memory_does_not_grow_with_the_calls(measure, calls):
    """The activations of one call take 0.5 MB: graphs that were kept would be 30 MB at least."""
    model = nn.Sequential(nn.Linear(64, 1024), nn.Tanh(), nn.Linear(1024, 2))
    x, y = torch.rand(64, 64), torch.zeros(64, dtype=torch.long)
    for _ in range(10):
        measure(model, x, y)
    before = resident()
    for _ in range(calls):
        measure(model, x, y)
    assert resident() - before < 8 * 2**20
