"""Hugging Face Accelerate, on one process or many. Needs the extra `data`, and `pip install accelerate`."""

import torch
from accelerate import Accelerator
from torch import nn

from meseta.data import DataConfig, loader
from meseta.models import SiluCnn
from meseta.objectives import DecisionGradient


class Step(nn.Module):
    """Model and objective in one forward, so that gradients are right and equal on any number of processes."""

    def __init__(self, model, objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x, y, generator):
        return self.objective(self.model, x, y, generator=generator).total


accelerator = Accelerator(cpu=True)
data = DataConfig(source="digits", train_limit=960).load()
model = SiluCnn().build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
step, optimizer, train = accelerator.prepare(
    Step(model, DecisionGradient(weight=0.1)), torch.optim.Adam(model.parameters(), 2e-3), loader(data.train, 64)
)
generator = torch.Generator().manual_seed(accelerator.process_index)  # every process draws its own
for _ in range(4):
    for x, y in train:
        optimizer.zero_grad()
        accelerator.backward(step(x, y, generator))
        optimizer.step()

x, y = data.test[:]
print(f"accuracy {(model(x).argmax(1) == y).float().mean():.2f}")
