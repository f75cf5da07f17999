"""Your own images, in one folder a class: train, attack, read the verdict. Needs the extras `data` and `train`."""

import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from meseta.data import DataConfig
from meseta.models import Mlp
from meseta.objectives import InputGradient
from meseta.training import Adam, RunConfig, train
from meseta.workflow import EvaluateConfig, evaluate_run, load_run

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):  # yours lie there already
        file = folder / "images" / "train" / f"digit-{label}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype("uint8")).save(file)

    config = RunConfig(
        name="mine",
        out=str(folder / "runs"),
        data=DataConfig(source=str(folder / "images")),  # no test folder, so a fifth of the images is held out
        model=Mlp(activation="silu"),
        objective=InputGradient(weight=0.1),
        optimizer=Adam(lr=2e-3),
        epochs=12,
        accelerator="cpu",
    )
    run = load_run(train(config), device="cpu")
    record = evaluate_run(run, EvaluateConfig(threats={"Linf": (0.03,)}, suite="quick", n=100, checked=40))
    found, robust = record.evaluation, record.evaluation.robust[0]
    print(f"accuracy {found.clean_accuracy:.2f}, under attack {robust.worst_case:.2f}: {found.masking.verdict}")
