"""A checkpoint of another program: a state dict in a container, under DataParallel, behind a normalisation."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from meseta import Threat, evaluate
from meseta.data import DataConfig, batches
from meseta.models import Normalize, load_weights


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))


# What somebody else did: trained, and saved as programs do, with names such as `module.1.3.weight`.
torch.manual_seed(0)
data = DataConfig(source="digits", train_limit=960).load()
theirs = nn.DataParallel(nn.Sequential(Normalize(data.input_shape, data.mean, data.std), network()))
optimizer = torch.optim.Adam(theirs.parameters(), 5e-3)
for _ in range(8):
    for x, y in batches(data.train, 64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(theirs(x), y).backward()
        optimizer.step()

with TemporaryDirectory() as folder:
    file = Path(folder, "model.pt")
    torch.save({"epoch": 8, "state_dict": theirs.state_dict(), "optimizer": optimizer.state_dict()}, file)

    # What you do: build the network, load the weights alone, put your normalisation before it, and evaluate.
    ours = network()
    load_weights(ours, file, ignore=["module.0."])

model = nn.Sequential(Normalize(data.input_shape, data.mean, data.std), ours)
result = evaluate(model, *data.test[:100], threat=Threat("Linf", 0.03))
print(f"accuracy {result.clean_accuracy:.2f}, under attack {result.robust[0].worst_case:.2f}")
