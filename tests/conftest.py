"""Shared fixtures, and shape annotations enforced: under pytest every annotated function checks its arrays."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from jaxtyping import install_import_hook
from shapecheck import annotated, begin

with install_import_hook(annotated("autodiff", "linalg", "geometry", "surfaces"), "shapecheck.check"):
    import meseta.autodiff
    import meseta.geometry
    import meseta.linalg
    import meseta.surfaces
    import meseta.threat  # noqa: F401

import pytest
import torch
from torch import Tensor, nn

torch.set_num_threads(1)


class Batch:
    """A double-precision model with a batch it can take."""

    def __init__(self, model: nn.Module, x: Tensor, classes: int, seed: int = 1):
        generator = torch.Generator().manual_seed(seed)
        self.model = model.double().eval()
        self.x = x.double()
        self.y = torch.randint(classes, (len(x),), generator=generator)
        self.classes = classes


def smooth_cnn() -> Batch:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Conv2d(4, 6, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(24, 4)
    )
    return Batch(model, torch.rand(5, 1, 7, 7), 4)


def relu_net() -> Batch:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(20, 3)
    )
    model[1].running_var.uniform_(0.5, 2)
    return Batch(model, torch.rand(6, 2, 6, 6), 3)


def mlp() -> Batch:
    torch.manual_seed(2)
    return Batch(nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 2)), torch.rand(7, 6), 2)


@pytest.fixture(autouse=True)
def _shapes_are_checked():
    begin()


@pytest.fixture(params=[smooth_cnn, relu_net, mlp], ids=lambda make: make.__name__)
def batch(request):
    return request.param()


@pytest.fixture(params=[smooth_cnn, mlp], ids=lambda make: make.__name__)
def smooth_batch(request):
    return request.param()


@pytest.fixture
def relu_batch():
    return relu_net()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def pictures_alone(monkeypatch):
    """Leave the PDF of every figure empty: its fonts take longer than all else, and the report's own tests print it."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def saved(self, file, *, format, **options):
        return file.write_bytes(b"%PDF-") if format == "pdf" else save(self, file, format=format, **options)

    monkeypatch.setattr(Figure, "savefig", saved)


@pytest.fixture(scope="session")
def trained_cnn():
    """A SiLU CNN trained on real images until it classifies most of them, with 500 test images."""
    from real_images import mnist_like

    from meseta.models import SiluCnn
    from meseta.objectives import Erm

    (x, y), test = mnist_like(6400, 500)
    model = SiluCnn().build((1, 28, 28), 10, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    order = torch.Generator().manual_seed(0)
    for _ in range(10):
        for index in torch.randperm(len(x), generator=order).split(128):
            optimizer.zero_grad()
            Erm()(model, x[index], y[index]).total.backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(test[0]).argmax(1) == test[1]).float().mean()
        if accuracy > 0.9:
            break
    assert accuracy > 0.9
    return model.eval(), *test
