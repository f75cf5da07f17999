"""Cost of a training step of every objective, in plain steps, with the published algorithms beside ours.

A step is zero_grad, objective, backward and Adam's update, in train mode, on fixed random images. Ratios are
taken within a round. The floating-point operations of convolutions and matrix products are counted beside.
"""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from common import SEED, Options, Page, Spread, interleaved, options, ratios, table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from meseta import attacks
from meseta.attacks import FGSM
from meseta.autodiff.layers import lean_layers
from meseta.errors import UserError
from meseta.evaluation import provenance
from meseta.linalg import HessianAscent, PowerIteration
from meseta.models import Network, ResNet18, SiluCnn
from meseta.objectives import (
    AdversarialTraining,
    CrossHolder,
    CrossLipschitz,
    Curvature,
    Haat,
    InputGradient,
    Jacobian,
    Objective,
    Soar,
)
from meseta.registry import methods

Step = Callable[[], object]
PLAIN = "plain torch"
PLAIN_LAST = "plain torch, channels last"
TORCH = ", torch's layers"
SLOW = ("CrossHolder(rivals='all')", "CrossHolder, as published" + TORCH)
"""Timed in two rounds of their own, because they take longer than all the others together."""
DEAR = (
    "CrossLipschitz(estimator='exact')",
    "Curvature(estimator='gram')",
    "Curvature(hessian='full')",
    "Jacobian(estimator='exact')",
    "Llr",
    "Scorpio",
    "Soar(form='lifted_spectral')",
)
"""Left out on the large network, with SLOW and the published ones."""
PUBLISHED = CrossHolder(rivals="all", solver=HessianAscent(), start="random")


@dataclass(frozen=True)
class Setting:
    """A network and a batch to time steps on; `slow` times the dear, the slow and the published ones too."""

    name: str
    model: Network
    batch: int
    rounds: int
    budget: float
    slow: bool


def objectives() -> dict[str, Objective]:
    """Return every objective that its defaults make, and the variants whose cost differs much, by name.

    Haat makes one of its ten moves here, so that a round does not take minutes.
    """
    found = {name: method() for name, method in methods("objectives").items() if has_defaults(method)}
    del found["Scheduled"]  # costs what it schedules
    one_move = attacks.Haat(steps=1)
    published_move = attacks.Haat(steps=1, solver=PowerIteration(steps=6), radius=1e-6, guarded=False)
    return found | {
        "AdversarialTraining(attack=FGSM())": AdversarialTraining(attack=FGSM()),
        "CrossHolder(share=0.4)": CrossHolder(share=0.4),
        "CrossHolder(rivals='all')": CrossHolder(rivals="all"),
        "CrossHolder, as published" + TORCH: PUBLISHED,
        "CrossLipschitz(estimator='exact')": CrossLipschitz(estimator="exact"),
        "CrossLipschitz, as published" + TORCH: CrossLipschitz(estimator="exact"),
        "Curvature(norm='trace')": Curvature(norm="trace"),
        "Curvature(estimator='gram')": Curvature(estimator="gram"),
        "Curvature(hessian='full')": Curvature(hessian="full"),
        "Haat": Haat(attack=one_move),
        "Haat, as published" + TORCH: Haat(attack=published_move),
        "InputGradient" + TORCH: InputGradient(),
        "InputGradient(radius=0.01)": InputGradient(radius=0.01),
        "Jacobian(estimator='exact')": Jacobian(estimator="exact"),
        "Soar(form='lifted_spectral')": Soar(form="lifted_spectral"),
        "Soar, as published" + TORCH: Soar(form="as_published"),
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


def steps(setting: Setting) -> tuple[dict[str, Step], dict[str, int], dict[str, str]]:
    """Return the steps to time, their operations, and the objectives that refuse this network with their reason."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.rand(setting.batch, *setting.model.input_shape, generator=generator)
    y = torch.randint(setting.model.classes, (setting.batch,), generator=generator)

    def plain(model: Network) -> Tensor:
        return F.cross_entropy(model.body(model.normalize(x)), y)  # in torch's default layout

    def plain_last(model: Network) -> Tensor:
        return F.cross_entropy(model.body(model.normalize(x).to(memory_format=torch.channels_last)), y)

    def of(objective: Objective, lean: bool) -> Callable[[Network], Tensor]:
        def loss(model: Network) -> Tensor:
            with nullcontext() if lean else lean_layers(False):
                return objective(model, x, y, generator=generator).total

        return loss

    taken: dict[str, Step] = {PLAIN: step(plain, setting.model), PLAIN_LAST: step(plain_last, setting.model)}
    counted = {name: operations(take) for name, take in taken.items()}
    refused: dict[str, str] = {}
    for name, objective in objectives().items():
        if not setting.slow and (TORCH in name or name in (*SLOW, *DEAR)):
            continue
        take = step(of(objective, lean=TORCH not in name), setting.model)
        try:
            counted[name] = operations(take)
        except UserError as error:
            refused[name] = str(error)
        else:
            taken[name] = take
    return taken, counted, refused


def operations(take: Step) -> int:
    """Return the floating-point operations of one step's convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        take()
    return int(counter.get_total_flops())


def settings(quick: bool) -> list[Setting]:
    """Return what is timed; the budgets keep the whole below about eight minutes on two cores."""
    generator = torch.Generator().manual_seed(SEED)
    small = SiluCnn().build((1, 28, 28), 10, generator=generator)
    if quick:
        return [Setting("SiluCnn, 1×28×28, B = 16", small, 16, 2, 1, True)]
    large = ResNet18().build((3, 32, 32), 10, generator=generator)
    return [
        Setting("SiluCnn, 1×28×28, B = 128", small, 128, 15, 70, True),
        Setting("ResNet18, 3×32×32, B = 16", large, 16, 2, 60, False),
    ]


def measure(setting: Setting) -> tuple[dict[str, Any], str]:
    """Time every objective on one setting; return the record and the table."""
    taken, counted, refused = steps(setting)  # which warms up
    fast = {name: take for name, take in taken.items() if name not in SLOW}
    slow = {name: take for name, take in taken.items() if name in {PLAIN, PLAIN_LAST, *SLOW}}
    record: dict[str, Any] = {}
    for group, rounds in ((slow, 2), (fast, setting.rounds)):
        times = interleaved(group, rounds, warm_up=0, budget=setting.budget) if len(group) > 2 else {}
        ratio, ratio_last = (ratios(times, base) if times else {} for base in (PLAIN, PLAIN_LAST))
        for name, of in times.items():
            record[name] = {
                "ratio": ratio[name],
                "ratio_to_channels_last": ratio_last[name],
                "operations": counted[name] / counted[PLAIN],
                "seconds": Spread.of(of),
                "all_seconds": of,
            }
    rows = [
        [
            name,
            *(f"{value:.2f}" for value in (of["ratio"].median, of["ratio"].min, of["ratio"].max)),
            f"{of['ratio_to_channels_last'].median:.2f}",
            f"{of['operations']:.2f}",
            f"{of['seconds'].median * 1e3:.1f}",
            str(of["seconds"].n),
        ]
        for name, of in sorted(record.items(), key=lambda item: item[1]["ratio"].median)
    ]
    header = ["objective", "× plain, median", "min", "max", "× channels last", "× operations", "ms a step", "n"]
    text = f"## {setting.name}\n\n" + table(header, rows)
    text += "".join(f"\n\n{name} refuses this network: {reason}" for name, reason in refused.items())
    return {"setting": setting.name, "steps": record, "refused": refused}, text


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    measured, texts = zip(*(measure(setting) for setting in settings(given.quick)), strict=True)
    note = (
        "A ratio compares steps of the same round. `plain torch` is cross-entropy without meseta in torch's default "
        "layout; `channels last` is the one that meseta's networks without normalisation turn to. Operations are those "
        "of convolutions and matrix products. `torch's layers` runs without meseta's convolutions and SiLU, as "
        "published algorithms do; "
        "CrossHolder as published takes all rivals and 21 products each. Haat is timed with one of its ten moves."
    )
    page = Page("Cost of a training step, in plain steps", {"settings": measured}, "\n\n".join([note, *texts]))
    page.write("training_step", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
