"""Model and objective as one module whose forward returns the loss, as DistributedDataParallel needs it."""

import torch
from torch import nn


class Step(nn.Module):
    def __init__(self, model, objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x, y, generator=None, share=1.0):
        return self.objective.at(share)(self.model, x, y, generator=generator).total


def flat_gradient(model):
    """One vector; zeros for parameters that were not reached."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])
