"""Throughput of the input Hessian's largest |eigenvalue| at 1 % accuracy, beside curvlinops and hessian-eigenthings.

Both packages are made for the Hessian in the weights. The straightforward way to the input is a module whose only free
parameter is one image: their operator is then the input Hessian of that image, and their own solvers run on it, image
by image (`Image` below): curvlinops' operator handed to scipy's eigsh, as its README does, and the Lanczos and power
iteration of hessian-eigenthings. They get frozen weights, our cross-entropy (the textbook one loses the curvature of
confident images in float32) and the cheapest of the settings below with which every image is within 1 % of the truth,
the dense eigenvalue in float64. `SpectralCurvature` runs as it comes, in the batches of `meseta measure`.

torch's SiLU has no forward-mode derivative of its gradient, on which curvlinops runs: its copy of the network spells
the same function out, x sigmoid(x).

The peers are optional: pip install curvlinops-for-pytorch hessian-eigenthings.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from common import SEED, Options, Page, Spread, interleaved, options, ratios, seconds, table, trained
from curvature import FIELDS, Error, largest_magnitude, percent
from torch import Tensor, nn

from meseta.autodiff import ScalarField
from meseta.evaluation import provenance
from meseta.geometry import SpectralCurvature

OURS, SINGLE = "meseta, batches of 64", "meseta, image by image"
BATCH = 64
PEERS = {"curvlinops": "curvlinops-for-pytorch", "hessian_eigenthings": "hessian-eigenthings"}

Finder = Callable[[Tensor, Tensor], Tensor]
"""Images and labels to |eigenvalue|, (B,)."""


class Image(nn.Module):
    """The network at one image, which is the parameter: the Hessian in the parameters is the input Hessian.

    `forwards` counts its calls; both packages run one for every Hessian product.
    """

    forwards = 0

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.model, self.point = model, nn.Parameter(x.clone())

    def forward(self, _: Tensor) -> Tensor:
        Image.forwards += 1
        logits: Tensor = self.model(self.point)
        return logits


class PlainSilu(nn.Module):
    """SiLU spelt out, which has derivatives in every mode."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()


def spelt_out(model: nn.Module) -> nn.Module:
    """Return a copy without torch's SiLU, of the same values."""
    model = deepcopy(model)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.SiLU):
                setattr(module, name, PlainSilu())
    return model


class Criterion(nn.Module):
    """A field as the loss module that curvlinops asks for; a margin's rival is the runner-up, as ours at the image."""

    reduction = "sum"

    def __init__(self, field: ScalarField) -> None:
        super().__init__()
        self.field = field

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return self.field.of_logits(logits, y).sum()


def eigsh(field: ScalarField, image: Image, x: Tensor, y: Tensor, *, ncv: int, tol: float) -> float:
    """Return |eigenvalue| by curvlinops' operator in scipy's implicitly restarted Lanczos."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh as arpack

    operator = HessianLinearOperator(
        image, Criterion(field), [image.point], [(x, y)], check_deterministic=False, num_data=1
    ).to_scipy()
    start = np.random.default_rng(SEED).standard_normal(operator.shape[0]).astype(np.float32)
    found = arpack(operator, k=1, which="LM", ncv=ncv, tol=tol, v0=start, return_eigenvectors=False)
    return float(abs(found[0]))


def lanczos(field: ScalarField, image: Image, x: Tensor, y: Tensor, *, steps: int) -> float:
    """Return |eigenvalue| by the Lanczos of hessian-eigenthings, which makes all its steps."""
    from hessian_eigenthings import lanczos as theirs

    return abs(float(theirs(operator_of(field, image, x, y), k=1, max_iter=steps, seed=SEED).eigenvalues[0]))


def power(field: ScalarField, image: Image, x: Tensor, y: Tensor, *, steps: int, tol: float) -> float:
    """Return |eigenvalue| by the power iteration of hessian-eigenthings, which stops at a residual of `tol`."""
    from hessian_eigenthings import deflated_power_iteration

    operator = operator_of(field, image, x, y)
    return abs(float(deflated_power_iteration(operator, k=1, max_iter=steps, tol=tol, seed=SEED).eigenvalues[0]))


def operator_of(field: ScalarField, image: Image, x: Tensor, y: Tensor) -> Any:
    """Return the operator of hessian-eigenthings in the image alone."""
    from hessian_eigenthings import HessianOperator

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return field.of_logits(module(batch[0]), batch[1]).sum()

    return HessianOperator(image, [(x, y)], loss, param_filter=lambda name, _: name == "point")


Peer = Callable[..., float]
SETTINGS: dict[str, tuple[str, Peer, list[dict[str, float]]]] = {
    "curvlinops, scipy's eigsh": (
        "curvlinops",
        eigsh,
        [{"ncv": ncv, "tol": tol} for ncv in (4, 8, 12, 20) for tol in (0.1, 0.01)],
    ),
    "hessian-eigenthings, Lanczos": (
        "hessian_eigenthings",
        lanczos,
        [{"steps": steps} for steps in (6, 8, 10, 12, 15, 20, 25, 30, 40, 60)],
    ),
    "hessian-eigenthings, power iteration": (
        "hessian_eigenthings",
        power,
        [{"steps": 500, "tol": tol} for tol in (0.1, 0.03, 0.01, 0.003)],
    ),
}
"""The package, the solver and the settings to try, most of them below the packages' defaults."""


@dataclass(frozen=True)
class Tuned:
    """A peer with the fastest setting that reached 1 % on every image, or the most accurate where none did."""

    finder: Finder
    setting: dict[str, float]
    error: Error
    forwards: float
    reached: bool


def one_by_one(peer: Peer, model: nn.Module, field: ScalarField, **setting: float) -> Finder:
    """Return a finder that hands a peer one image at a time."""

    def find(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.split(1), y.split(1), strict=True)
        return torch.tensor([peer(field, Image(model, a), a, b, **setting) for a, b in pairs])

    return find


def ours(model: nn.Module, field: ScalarField, batch: int) -> Finder:
    """Return `SpectralCurvature` as it comes, in batches."""
    measure = SpectralCurvature(field=field)

    def find(x: Tensor, y: Tensor) -> Tensor:
        pairs = zip(x.split(batch), y.split(batch), strict=True)
        return torch.cat([measure(model, a, b).value for a, b in pairs]).abs()

    return find


def tune(name: str, model: nn.Module, field: ScalarField, x: Tensor, y: Tensor, truth: Tensor) -> Tuned:
    """Try the settings of a peer on all images; those that were within 1 % on every image compete for time."""
    _, peer, settings = SETTINGS[name]
    tried: list[tuple[float, Tuned]] = []
    for setting in settings:
        finder, found, before = one_by_one(peer, model, field, **setting), [], Image.forwards
        taken = seconds(lambda f=finder, found=found: found.append(f(x, y)))  # type: ignore[misc]
        error = Error.of(found[0], truth)
        forwards = (Image.forwards - before) / len(x)
        tried.append((taken, Tuned(finder, setting, error, forwards, error.max <= 0.01)))
        if error.max <= 0.01 and "ncv" not in setting:
            break  # the settings get dearer
    reached = [of for of in tried if of[1].reached]
    return min(reached, key=lambda of: of[0])[1] if reached else min((of[1] for of in tried), key=lambda t: t.error.max)


def importable() -> dict[str, bool]:
    """Return which peers can be imported."""
    return {package: find_spec(package) is not None for package in PEERS}


def absent() -> str:
    """Return a sentence about the peers that are not installed; empty where both are."""
    missing = [PEERS[package] for package, here in importable().items() if not here]
    return f" Not compared, because not installed: {', '.join(missing)} (`pip install {' '.join(missing)}`)." * bool(
        missing
    )


def measure(model: nn.Module, field: ScalarField, x: Tensor, y: Tensor, few: int, rounds: int) -> dict[str, Any]:
    """Return accuracy, products and seconds an image of every way, ours on all images, the others on a few."""
    some = slice(None, None, len(x) // few)  # spread over all, so that they stand for them
    a, b = x[some], y[some]
    truth = largest_magnitude(model, field, a, b)
    frozen = deepcopy(model).requires_grad_(False)
    networks = {"curvlinops": spelt_out(frozen), "hessian_eigenthings": frozen}
    here = importable()
    tuned = {name: tune(name, networks[of[0]], field, a, b, truth) for name, of in SETTINGS.items() if here[of[0]]}
    batched, single = ours(model, field, BATCH), ours(model, field, 1)
    calls = {OURS: partial(batched, x, y), SINGLE: partial(single, a, b)}
    calls |= {name: partial(of.finder, a, b) for name, of in tuned.items()}
    times = interleaved(calls, rounds, warm_up=0)
    each = {name: [t / (len(x) if name == OURS else few) for t in of] for name, of in times.items()}
    ratio = ratios(each, OURS)
    errors = {OURS: Error.of(batched(a, b), truth), SINGLE: Error.of(single(a, b), truth)}
    return {
        name: {
            "images": len(x) if name == OURS else few,
            "milliseconds": Spread.of([1e3 * t for t in each[name]]),
            "ratio": ratio[name],
            "all_seconds": times[name],
            "error": tuned[name].error if name in tuned else errors[name],
            "reached": tuned[name].reached if name in tuned else errors[name].max <= 0.01,
            "setting": tuned[name].setting if name in tuned else {},
            "products": tuned[name].forwards if name in tuned else None,
        }
        for name in calls
    }


def section(name: str, of: dict[str, Any]) -> str:
    """Return the table of one field."""
    rows = [
        [
            way,
            f"{m['milliseconds'].median:.2f}",
            f"{m['milliseconds'].min:.2f}",
            f"{m['milliseconds'].max:.2f}",
            f"{m['ratio'].median:.2f}",
            f"{1e3 / m['milliseconds'].median:.1f}",
            str(m["error"]),
            "yes" if m["reached"] else "**no**",
            "" if m["products"] is None else f"{m['products']:.1f}",
            ", ".join(f"{key}={value:g}" for key, value in m["setting"].items()) or "defaults",
            str(m["images"]),
        ]
        for way, m in of.items()
    ]
    header = ["way", "ms an image", "min", "max", "× ours", "images a second", "error, mean (max)", "all within 1 %"]
    return f"## {name}\n\n" + table([*header, "products an image", "setting", "images"], rows)


def headline(found: dict[str, dict[str, Any]]) -> str:
    """Return how many times longer the fastest peer takes; only what reached 1 % is compared."""
    parts = []
    for name, of in found.items():
        peers = {way: m for way, m in of.items() if way not in (OURS, SINGLE) and m["reached"]}
        if peers and of[OURS]["reached"]:
            best = min(peers, key=lambda way: peers[way]["ratio"].median)
            parts.append(f"{name}: {peers[best]['ratio'].median:.1f} × ours ({best})")
    return f"**The fastest peer at 1 % takes, an image: {'; '.join(parts)}.**\n\n" if parts else ""


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    net = trained(given.quick)
    n, few, rounds = (8, 2, 1) if given.quick else (1000, 20, 3)
    x, y = net.test(n)
    found = {name: measure(net.model, field, x, y, few, rounds) for name, field in FIELDS.items()}
    text = (
        f"{headline(found)}{net.about} Ours: the first {n} test images; the others, "
        f"example by example, on {few} spread over these, their time given an image. {rounds} rounds, ratios within a "
        f"round. Errors are against dense float64 eigenvalues of those {few}. Each peer runs with the fastest of the "
        f"settings tried with which each of the {few} is within {percent(0.01)}; products include those of restarts."
        f"{absent()}"
    )
    text += "".join(f"\n\n{section(name, of)}" for name, of in found.items())
    versions = {package: version(PEERS[package]) for package, here in importable().items() if here}
    Page("Throughput of top eigenvalues", {"network": net.about, "peers": versions, "fields": found}, text).write(
        "eigenvalues", given, stop
    )


if __name__ == "__main__":
    main(options(__doc__))
