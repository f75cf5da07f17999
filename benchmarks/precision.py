"""What bfloat16 and float32 leave of every objective: terms, gradients and penalties against float64.

Each objective is taken on the same batches of a briefly trained network, once in float64, once in float32, and once in
float32 under bfloat16 autocast, with the same draws. Given are medians over the batches: of the relative error of the
mean of each term, of the relative error of the gradient in the parameters, and of its cosine. Of a regulariser the
gradient of the penalty alone is compared as well, since the loss would hide it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from common import SEED, Options, Page, options, table, trained
from torch import Tensor, nn

from meseta.attacks import PGD
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.linalg import Lanczos
from meseta.models import SiluCnn
from meseta.objectives import (
    AdversarialTraining,
    Cure,
    Curvature,
    Erm,
    InputGradient,
    Objective,
    Regularizer,
    Soar,
)
from meseta.registry import methods
from meseta.threat import Threat

COSINE, ERROR = 0.99, 0.05
"""An objective keeps its meaning where the cosine of its gradient, and of its penalty's, is at least the former, and no
term is off by more than the latter."""
VARIANTS: dict[str, Objective] = {
    "Curvature, full Hessian": Curvature(hessian="full"),
    "Soar, lifted": Soar(form="lifted_spectral", start="zero", solver=Lanczos(which="largest")),
    "Soar, as published": Soar(form="as_published"),
}
Gradient = list[Tensor]


@dataclass(frozen=True)
class Seen:
    """One objective on one batch in one precision."""

    terms: dict[str, float]
    gradient: Tensor
    penalty: Tensor | None


@contextmanager
def same_draws() -> Iterator[None]:
    """Draw in float32 whatever is asked for, so that every precision sees the same numbers."""

    def same(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(*shape: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
            return draw(*shape, dtype=torch.float32, **options).to(dtype or torch.float32)

        return drawn

    with patch.object(torch, "rand", same(torch.rand)), patch.object(torch, "randn", same(torch.randn)):
        yield


def objectives() -> dict[str, Objective]:
    """Return every objective with its defaults, and the variants."""
    return {name: method() for name, method in sorted(methods("objectives").items())} | VARIANTS


def seen(objective: Objective, model: nn.Module, x: Tensor, y: Tensor, precision: str) -> Seen:
    """Take an objective in one precision."""
    wide = precision == "float64"
    model, x = (model.double(), x.double()) if wide else (model, x)
    parameters = list(model.parameters())

    def autocast() -> Any:
        return torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext()

    def gradient(total: Tensor) -> Tensor:
        found = torch.autograd.grad(total, parameters, materialize_grads=True)
        return torch.cat([one.flatten() for one in found]).double()

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(SEED)

    with same_draws():
        with autocast():
            value = objective(model, x, y, generator=generator())
        whole = gradient(value.total)
        penalty = None
        if isinstance(objective, Regularizer):
            with autocast():
                total = objective.penalize_share(model, x, y, generator()).value.mean()
            penalty = gradient(total)
    return Seen({name: float(term.double().mean()) for name, term in value.terms.items()}, whole, penalty)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()).clamp_min(1e-300))


def compare(objective: Objective, model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
    """Return the errors of both precisions, as medians over the batches."""
    found: dict[str, list[dict[str, Any]]] = {"bfloat16": [], "float32": []}
    for x, y in batches:
        truth = seen(objective, deepcopy(model), x, y, "float64")
        for precision, of in found.items():
            one = seen(objective, deepcopy(model), x, y, precision)
            errors = {
                name: abs(one.terms[name] - value) / max(abs(value), 1e-12) for name, value in truth.terms.items()
            }
            of.append(
                {
                    **{f"term {name}": error for name, error in errors.items()},
                    "gradient": float((one.gradient - truth.gradient).norm() / truth.gradient.norm().clamp_min(1e-300)),
                    "cosine": cosine(one.gradient, truth.gradient),
                    **({"penalty": cosine(one.penalty, truth.penalty)} if truth.penalty is not None else {}),
                }
            )
    return {precision: {key: median(one[key] for one in of) for key in of[0]} for precision, of in found.items()}


def keeps_meaning(of: dict[str, Any]) -> bool:
    """Return whether an objective keeps its meaning by the rule of this page."""
    terms = max(value for key, value in of.items() if key.startswith("term "))
    return bool(terms <= ERROR and min(of["cosine"], of.get("penalty", 1.0)) >= COSINE)


def networks(quick: bool) -> tuple[dict[str, nn.Module], list[tuple[Tensor, Tensor]], str]:
    """Return a smooth and a piecewise-linear network, trained alike, with batches of test images."""
    smooth = trained(quick)
    data = smooth.data
    torch.manual_seed(SEED)
    channels, height, width = data.input_shape
    layers = [nn.Conv2d(channels, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()]
    relu = nn.Sequential(*layers, nn.Linear(32 * -(-height // 4) * -(-width // 4), data.num_classes))
    fit(Erm(), relu, data.train[: 64 * (40 if quick else 300)], "float32")
    size, n = (16, 1) if quick else (32, 3)
    x, y = data.test[: size * n]
    batches = list(zip(x.split(size), y.split(size), strict=True))
    return {"SiluCnn": smooth.model, "ReLU": relu.eval()}, batches, smooth.about


def fit(objective: Objective, model: nn.Module, data: tuple[Tensor, Tensor], precision: str) -> None:
    """Train for one pass with Adam at B = 64."""
    optimizer, generator = torch.optim.Adam(model.parameters(), 1e-3), torch.Generator().manual_seed(SEED)
    model.train()
    for x, y in zip(data[0].split(64), data[1].split(64), strict=True):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if precision == "bfloat16" else nullcontext():
            total = objective(model, x, y, generator=generator).total
        total.backward()
        optimizer.step()
    model.eval()


TRAININGS: dict[str, Objective] = {
    "Erm": Erm(),
    "InputGradient": InputGradient(weight=0.5),
    "Cure": Cure(),
    "Curvature": Curvature(weight=0.05),
    "AdversarialTraining": AdversarialTraining(attack=PGD(threat=Threat("Linf", 0.1), steps=3, drop_broken=False)),
}


def trainings(quick: bool) -> dict[str, dict[str, tuple[float, float]]]:
    """Return clean and robust accuracy in % after the same training in both precisions."""
    data = trained(quick).data
    images, tests = (256, 64) if quick else (3200, 500)
    (x, y), test = data.train[:images], data.test[:tests]
    attack = PGD(threat=Threat("Linf", 0.1), steps=10)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name, objective in TRAININGS.items():
        found[name] = {}
        for precision in ("float32", "bfloat16"):
            model = SiluCnn().build(data.input_shape, data.num_classes, generator=torch.Generator().manual_seed(SEED))
            fit(objective, model, (x, y), precision)
            adversarial = attack(model, *test, generator=torch.Generator().manual_seed(SEED))
            with torch.no_grad():
                found[name][precision] = tuple(
                    float(100 * (model(points).argmax(1) == test[1]).float().mean())
                    for points in (test[0], adversarial)
                )
    return found


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    nets, batches, about = networks(given.quick)
    text = (
        f"{about} Beside it a ReLU network of two convolutions. {len(batches)} batches of {len(batches[0][1])}, "
        "medians. An objective keeps its meaning where the cosine of its gradient and of its penalty's is at least "
        f"{COSINE} and no term is off by more than {100 * ERROR:g} %."
    )
    measured: dict[str, Any] = {}
    for net, model in nets.items():
        rows, measured[net] = [], {}
        for name, objective in objectives().items():
            try:
                of = measured[net][name] = compare(objective, model, batches)
            except UserError:
                continue  # refuses this network
            for precision in ("bfloat16", "float32"):
                one = of[precision]
                term = max((value, key) for key, value in one.items() if key.startswith("term "))
                penalty = f"{one['penalty']:.5f}" if "penalty" in one else ""
                kept = "yes" if keeps_meaning(one) else "**no**"
                worst = f"{100 * term[0]:.2g} % ({term[1].removeprefix('term ')})"
                rows.append(
                    [f"{name}, {precision}", worst, f"{one['gradient']:.2g}", f"{one['cosine']:.5f}", penalty, kept]
                )
        header = ["", "worst term", "error of the gradient", "its cosine", "the penalty's", "keeps its meaning"]
        text += f"\n\n## {net}\n\n{table(header, rows)}"
    measured["trainings"] = trainings(given.quick)
    rows = [
        [name, *(f"{accuracy:.1f}" for precision in ("float32", "bfloat16") for accuracy in of[precision])]
        for name, of in measured["trainings"].items()
    ]
    header = ["accuracy, %", "float32, clean", "robust", "bfloat16, clean", "robust"]
    about = "One pass of Adam(1e-3) over 3200 images at B = 64; robust: PGD-10, L∞ 0.1, on 500 test images."
    text += f"\n\n## The same training in both\n\n{about}\n\n{table(header, rows)}"
    Page("Precision of the objectives", measured, text).write("precision", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
