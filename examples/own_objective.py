"""An objective of one's own, in 20 lines. As a file `my_objectives.py` it trains from the command line as well:

meseta train --allow my_objectives --objective MarginSlope
"""

from dataclasses import dataclass

import torch

from meseta.autodiff import Decision, value_and_gradient
from meseta.data import DataConfig, batches
from meseta.linalg import norm
from meseta.models import SiluCnn
from meseta.objectives import Erm, Objective, ObjectiveValue


@dataclass(frozen=True, kw_only=True)
class MarginSlope(Objective):
    """Penalise the slope of the decision function: mean_i l(x_i) + weight ||grad L(x_i)||_2."""

    weight: float = 0.1

    def evaluate(self, model, x, y, generator):
        loss = Erm()(model, x, y)
        _, gradient = value_and_gradient(Decision().bind(model, x, y), x, create_graph=True)
        slope = norm(gradient)
        return ObjectiveValue(loss.total + self.weight * slope.mean(), {**loss.terms, "slope": slope.detach()})


data = DataConfig(source="digits", train_limit=960).load()
model = SiluCnn().build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
for _ in range(4):
    for x, y in batches(data.train, 64):
        optimizer.zero_grad()
        MarginSlope(weight=0.05)(model, x, y).total.backward()
        optimizer.step()

x, y = data.test[:]
print(f"accuracy {(model(x).argmax(1) == y).float().mean():.2f}")
