"""A Hugging Face `Trainer` whose loss is an objective. Needs the extra `data`, transformers and accelerate."""

import tempfile

import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from meseta import Threat, evaluate
from meseta.data import DataConfig
from meseta.objectives import InputGradient


class Classifier(ViTForImageClassification):
    def forward(self, pixel_values):
        return super().forward(pixel_values).logits  # what objectives, attacks and measures ask of a model


class RobustTrainer(Trainer):
    loss_is_scaled_for_ga = False  # a mean over the batch, whatever the gradient accumulation

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return InputGradient(weight=0.02)(model, inputs["pixel_values"], inputs["labels"]).total


data = DataConfig(source="digits", train_limit=960).load()
size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
size |= {"image_size": 8, "patch_size": 2, "num_channels": 1, "num_labels": 10, "initializer_range": 0.1}
torch.manual_seed(0)
config = ViTConfig(**size, attn_implementation="eager")  # a kernel that can be differentiated twice
vit = Classifier(config)
examples = [{"pixel_values": image, "labels": label} for image, label in zip(*data.train[:], strict=True)]
with tempfile.TemporaryDirectory() as folder:
    options = {"use_cpu": True, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    options |= {"remove_unused_columns": False}  # the labels go to the objective, not to `forward`
    options |= {"num_train_epochs": 9, "per_device_train_batch_size": 64, "learning_rate": 4e-3}
    settings = TrainingArguments(folder, lr_scheduler_type="cosine", warmup_steps=30, **options)
    RobustTrainer(vit, settings, train_dataset=examples).train()
result = evaluate(vit, *data.test[:100], threat=Threat("Linf", 0.03), suite="quick", checked=40)
print(f"accuracy {result.clean_accuracy:.2f}, under attack {result.robust[0].worst_case:.2f}")
