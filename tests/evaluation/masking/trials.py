"""Small models for the masking checks: one that every check should find fine, and ways to mask its gradients."""

import torch
from torch import Tensor, nn

from meseta import Threat
from meseta.evaluation.masking import Case
from meseta.registry import methods

BOUNDS = (0.0, 1.0)


def blobs(n=60, d=6, classes=3, seed=0):
    """Points around `classes` corners of the unit cube, with their labels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = 0.3 + 0.4 * (torch.arange(classes)[:, None] == torch.arange(d) % classes)
    return (centres[y] + 0.1 * torch.randn(n, d, generator=generator)).clamp(*BOUNDS), y


class Distances(nn.Module):
    """Logits -t ||x - c_j||^2: linear in x but for a term that all share, so that every gradient attack is exact."""

    def __init__(self, d=6, classes=3, scale=10.0):
        super().__init__()
        self.centres = nn.Parameter(0.3 + 0.4 * (torch.arange(classes)[:, None] == torch.arange(d) % classes))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return -self.scale * ((x.flatten(1)[:, None] - self.centres) ** 2).sum(2)


class Before(nn.Module):
    """A model behind a change of its input, or in front of one of its logits."""

    def __init__(self, model, change=lambda x: x, of_logits=lambda z: z):
        super().__init__()
        self.model, self.change, self.of_logits = model, change, of_logits

    def forward(self, x: Tensor) -> Tensor:
        return self.of_logits(self.model(self.change(x)))


def rounded(x: Tensor, levels: int = 8) -> Tensor:
    return (x * levels).round() / levels


def straight_through(x: Tensor) -> Tensor:
    return x + (rounded(x) - x).detach()


def noisy(x: Tensor) -> Tensor:
    return x + 0.2 * torch.randn_like(x)


class Waves(nn.Module):
    """A model whose logits, less their mean, are multiplied by a positive factor that oscillates: it predicts the same,
    its gradients are right, and they say nothing about what is beside."""

    def __init__(self, model, d=6, height=3.0, frequency=500.0):
        super().__init__()
        self.model, self.height = model, height
        self.register_buffer("w", frequency * torch.randn(d, 4, generator=torch.Generator().manual_seed(0)) / d**0.5)

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x)
        waves = torch.sin(x.flatten(1) @ self.w).sum(1, keepdim=True)
        return (z - z.mean(1, keepdim=True)) * (self.height * waves / 2 - self.height).exp()


class NoBackward(torch.autograd.Function):
    """The identity without a backward."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.clone()


MASKED = {
    "scaled": lambda model: Before(model, of_logits=lambda z: 1e4 * z),
    "rounded": lambda model: Before(model, rounded),
    "straight-through": lambda model: Before(model, straight_through),
    "noisy": lambda model: Before(model, noisy),
    "dropout": lambda model: Before(model, lambda x: nn.functional.dropout(x, 0.2, training=True)),
    "detached": lambda model: Before(model, Tensor.detach),
    "no backward": lambda model: Before(model, NoBackward.apply),
    "waves": Waves,
}


class Hidden(nn.Module):
    """A model that answers as it should, and whose gradient is that of another one."""

    def __init__(self, model, lure):
        super().__init__()
        self.model, self.lure = model, lure

    def forward(self, x: Tensor) -> Tensor:
        lured = self.lure(x)
        return lured + (self.model(x) - lured).detach()


class SometimesFlat(nn.Module):
    """A model that has a gradient in some stripes of the last entry alone, which nothing else depends on."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        z = self.model(x[:, :-1])
        return torch.where((50 * x[:, -1:]) % 1 < 0.15, z, z.detach())


def quick() -> list:
    """Every check, with little effort where it can be set."""
    little = {"queries": 10, "draws": 5, "steps": 5, "restarts": 1}
    return [
        check(**{name: value for name, value in little.items() if name in check.__dataclass_fields__})
        for check in methods("checks").values()
    ]


def case(model=None, *, threat=Threat("Linf", 0.1, BOUNDS), data=None, seed=0, batch_size=100) -> Case:
    """The examples that the model classifies correctly, under the threat."""
    model = model or Distances()
    x, y = data or blobs()
    torch.manual_seed(seed)
    right = model(x).argmax(1) == y
    return Case(model, x[right], y[right], threat, seed, batch_size=batch_size)
