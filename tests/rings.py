"""A small net with a curved boundary, which is what attacks are tried on."""

import torch
from torch import nn


def trained(seed=0):
    """A small net fitted to two noisy rings, so that attacks have a curved boundary to cross."""
    torch.manual_seed(seed)
    angle = 6.28 * torch.rand(400)
    y = torch.arange(400) % 2
    radius = 0.15 + 0.2 * y + 0.03 * torch.randn(400)
    x = 0.5 + torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), x.clamp(0, 1), y
