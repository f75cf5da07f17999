"""Cost of a training step of every objective, in plain steps.

A step is zero_grad, objective, backward and Adam's update, in train mode, on fixed random images. Ratios are
taken within a round.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from common import SEED, Options, Page, Spread, interleaved, options, ratios, table
from torch import Tensor

from meseta.attacks import FGSM
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.models import Network, ResNet18, SiluCnn
from meseta.objectives import AdversarialTraining, CrossLipschitz, Erm, InputGradient, Objective, Soar
from meseta.registry import methods

Step = Callable[[], object]
PLAIN = "plain torch"


@dataclass(frozen=True)
class Setting:
    """A network and a batch to time steps on."""

    name: str
    model: Network
    batch: int
    rounds: int
    budget: float


def objectives() -> dict[str, Objective]:
    """Return every objective that its defaults make, and the variants whose cost differs much, by name."""
    found = {name: method() for name, method in methods("objectives").items() if has_defaults(method)}
    return found | {
        "CrossLipschitz(estimator='exact')": CrossLipschitz(estimator="exact"),
        "InputGradient(q=1, power=1)": InputGradient(q=1, power=1),
        "InputGradient(radius=0.01)": InputGradient(radius=0.01),
        "Soar(form='lifted_spectral')": Soar(form="lifted_spectral"),
        "AdversarialTraining(attack=FGSM())": AdversarialTraining(attack=FGSM()),
    }


def has_defaults(method: type[Any]) -> bool:
    """Return whether every field of the dataclass has a default."""
    return all(f.default is not MISSING or f.default_factory is not MISSING for f in fields(method))


def step(loss: Callable[[Network], Tensor], model: Network) -> Step:
    """Return one training step on a copy of the model.

    The learning rate is tiny, so that the network and with it the cost of iterative objectives stays what it is.
    """
    model = deepcopy(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def take() -> None:
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()

    return take


def steps(setting: Setting) -> tuple[dict[str, Step], dict[str, str]]:
    """Return the steps to time, and the objectives that refuse this network with their reason."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(setting.batch, *setting.model.input_shape, generator=generator)
    y = torch.randint(setting.model.classes, (setting.batch,), generator=generator)
    taken: dict[str, Step] = {PLAIN: step(lambda model: F.cross_entropy(model(x), y), setting.model)}
    refused: dict[str, str] = {}
    for name, objective in objectives().items():
        take = step(lambda model, o=objective: o(model, x, y, generator=generator).total, setting.model)
        try:
            take()
        except UserError as error:
            refused[name] = str(error)
        else:
            taken[name] = take
    return taken, refused


def settings(quick: bool) -> list[Setting]:
    """Return what is timed; the budgets keep the whole below about four minutes on two cores."""
    generator = torch.Generator().manual_seed(SEED)
    small = SiluCnn().build((1, 28, 28), 10, generator=generator)
    if quick:
        return [Setting("SiluCnn, 1×28×28, B = 16", small, 16, 3, 20)]
    large = ResNet18().build((3, 32, 32), 10, generator=generator)
    return [
        Setting("SiluCnn, 1×28×28, B = 128", small, 128, 30, 60),
        Setting("ResNet18, 3×32×32, B = 32", large, 32, 7, 90),
    ]


def measure(setting: Setting) -> tuple[dict[str, Any], str]:
    """Time every objective on one setting; return the record and the table."""
    taken, refused = steps(setting)
    times = interleaved(taken, setting.rounds, warm_up=0, budget=setting.budget)  # `steps` has warmed up
    ratio = ratios(times, Erm.__name__)
    rows = [
        [name, *(f"{value:.2f}" for value in (of.median, of.min, of.max)), f"{Spread.of(times[name]).median * 1e3:.1f}"]
        for name, of in sorted(ratio.items(), key=lambda item: item[1].median)
    ]
    n = ratio[PLAIN].n
    text = f"## {setting.name} ({n} rounds)\n\n" + table(
        ["objective", "× Erm, median", "min", "max", "ms a step"], rows
    )
    text += "".join(f"\n\n{name} refuses this network: {reason}" for name, reason in refused.items())
    record = {
        name: {"ratio": ratio[name], "seconds": Spread.of(times[name]), "all_seconds": times[name]} for name in taken
    }
    return {"setting": setting.name, "rounds": n, "steps": record, "refused": refused}, text


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    measured, texts = zip(*(measure(setting) for setting in settings(given.quick)), strict=True)
    note = "A ratio compares steps of the same round. `plain torch` is `F.cross_entropy(model(x), y)` without meseta."
    page = Page("Cost of a training step, in plain steps", {"settings": measured}, "\n\n".join([note, *texts]))
    page.write("training_step", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
