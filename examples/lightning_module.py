"""Lightning: model and objective are one module. Needs the extras `data` and `train`."""

import lightning
import torch

from meseta import Threat, evaluate
from meseta.attacks import FGSM
from meseta.data import DataConfig, loader
from meseta.models import SiluCnn
from meseta.objectives import AdversarialTraining, Scheduled
from meseta.schedules import Cosine, LinearWarmup
from meseta.training import Adam
from meseta.training.module import ObjectiveModule

data = DataConfig(source="digits", train_limit=960).load()
model = SiluCnn().build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(0))
objective = Scheduled(
    objective=AdversarialTraining(attack=FGSM(threat=Threat("Linf", 0.05), random_start=True, stride=1.25)),
    schedules={"attack.threat.eps": LinearWarmup(until=0.5)},
)
module = ObjectiveModule(model, objective, Adam(lr=2e-3), Cosine(warmup=0.1))
trainer = lightning.Trainer(max_epochs=4, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
trainer.fit(module, loader(data.train, 64, shuffle=True, generator=torch.Generator().manual_seed(0)))

result = evaluate(model, *data.test[:100], threat=Threat("Linf", 0.03), suite="quick", checked=40)
print(f"accuracy {result.clean_accuracy:.2f}, under attack {result.robust[0].worst_case:.2f}")
