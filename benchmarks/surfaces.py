"""How long a surface of 101 × 101 points takes, beside its bare forwards.

`surface` finds the axes, evaluates the field, bisects for the distances to the boundary, outlines the ball and follows
an attack of 20 steps. The bare forwards are those of as many inputs as there are points, in batches of the same size.
Networks are untrained: the time does not depend on their weights.
"""

from collections.abc import Callable
from functools import partial

import torch
from common import SEED, Options, Page, Spread, interleaved, options, ratios, table
from torch import Tensor, nn

from meseta.attacks import PGD
from meseta.evaluation import parameter_surface, provenance, surface
from meseta.models import ResNet18, SiluCnn

BATCH = 512
"""Points at a time, the default of `over_plane`."""


def bare(model: nn.Module, points: Tensor) -> None:
    """Forward all the points."""
    with torch.no_grad():
        for batch in points.split(BATCH):
            model(batch)


def calls(model: nn.Module, x: Tensor, y: Tensor, side: int) -> dict[str, Callable[[], object]]:
    """Return the surface and the bare forwards, and the same over parameters with 32 examples a point."""
    points = x[:1].expand(side * side, *x.shape[1:])
    few = max(2, side // 10)
    look = partial(surface, model, x, y, resolution=side, attack=PGD(steps=20, random_start=False))
    over = partial(parameter_surface, model, x, y, resolution=few)
    return {
        "bare forwards": lambda: bare(model, points),
        f"`surface`, {side} × {side}": look,
        "bare forwards of examples": lambda: [bare(model, x) for _ in range(few * few)],
        f"`parameter_surface`, {few} × {few}, 32 examples": over,
    }


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    generator = torch.Generator().manual_seed(SEED)
    side, rounds = (5, 1) if given.quick else (101, 3)
    networks = {"`SiluCnn`, 1×28×28": (SiluCnn(), (1, 28, 28))}
    if not given.quick:
        networks["`ResNet18(width=16)`, 3×32×32"] = (ResNet18(width=16), (3, 32, 32))
    rows, measured = [], {}
    for name, (architecture, shape) in networks.items():
        model = architecture.build(shape, 10, generator=generator).eval()
        x, y = torch.rand(32, *shape, generator=generator), torch.randint(10, (32,), generator=generator)
        times = interleaved(calls(model, x, y, side), rounds)
        bases = list(times)[::2]
        for base, call in zip(bases, list(times)[1::2], strict=True):
            seconds, ratio = Spread.of(times[call]), ratios({base: times[base], call: times[call]}, base)[call]
            rows.append([name, call, f"{seconds.median:.1f}", f"{ratio.median:.2f} ({ratio.min:.2f}–{ratio.max:.2f})"])
            measured[f"{name}: {call}"] = {"seconds": seconds, "ratio": ratio}
    text = f"Medians of {rounds} rounds, {torch.get_num_threads()} threads.\n\n"
    text += table(["network", "call", "seconds", "× bare forwards"], rows)
    Page("Surfaces", measured, text).write("surfaces", given, stop)


if __name__ == "__main__":
    main(options(__doc__))
