"""A plain training loop: the objective takes the place of the loss. Needs the extra `data` for the digits."""

import torch

from meseta import Threat, evaluate
from meseta.data import DataConfig, batches
from meseta.models import SiluCnn
from meseta.objectives import InputGradient

data = DataConfig(source="digits", train_limit=960).load()
model = SiluCnn().build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
objective = InputGradient(weight=0.1)
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
generator = torch.Generator().manual_seed(0)  # of whatever the objective draws

for epoch in range(4):
    for x, y in batches(data.train, 64):
        optimizer.zero_grad()
        value = objective(model, x, y, generator=generator)
        value.total.backward()
        optimizer.step()
    print(f"epoch {epoch}:", {name: round(term.mean().item(), 4) for name, term in value.terms.items()})

result = evaluate(model, *data.test[:100], threat=Threat("Linf", 0.03), suite="quick", checked=40)
print(f"accuracy {result.clean_accuracy:.2f}, under attack {result.robust[0].worst_case:.2f}")
