"""Error of input-curvature estimates against dense eigenvalues, by the number of Hessian products they cost.

The truth is the largest |eigenvalue| of the dense input Hessian in float64, which takes most of the time here; the
estimates run in float32, as users run them.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import SEED, Options, Page, Trained, options, table, trained
from torch import Tensor

from meseta.autodiff import CrossEntropy, Hessian, Margin, ScalarField, dense_hessian
from meseta.autodiff.scalar_fields import Model
from meseta.evaluation import provenance
from meseta.files import write_whole
from meseta.geometry import SpectralCurvature
from meseta.linalg import Eigenpair, HessianAscent, Lanczos, PowerIteration, norm, normalized

FIELDS: dict[str, ScalarField] = {"cross-entropy": CrossEntropy(), "margin to the runner-up": Margin()}
PRODUCTS = (*range(1, 11), 15, 21)
SCALES = (0.1, 1.0, 10.0)
PUBLISHED = "Algorithm 1, Gaussian start"
LANCZOS = "Lanczos, gradient start"
STRETCH = "Lanczos, then ‖Hv‖ (CrossHolder)"

Estimate = Callable[[Hessian, int], Tensor]
"""A Hessian and a number of products to |eigenvalue|, (B,)."""


def ritz_value(hessian: Hessian, start: Tensor, products: int) -> Tensor:
    """Return |theta| of Lanczos; the tolerance is out of reach, so that it spends all its products."""
    return Lanczos(steps=products, tol=1e-30)(hessian, start).value.abs()


def stretch(hessian: Hessian, start: Tensor, products: int) -> Tensor:
    """Return ||Hv|| at the vector of Lanczos, as `CrossHolder` penalises it: the last product is the penalty's own."""
    if products == 1:
        return norm(hessian(normalized(start)))
    return norm(hessian(Lanczos(steps=products - 1, tol=1e-30).direction(hessian, start)))


def length(pair: Eigenpair) -> Tensor:
    """Return ||Hv|| = sqrt(value^2 + residual^2), which is nearer to ||H||_2 than |v^T H v| and costs no more."""
    return torch.hypot(pair.value, pair.residual)


def ascent(hessian: Hessian, start: Tensor, products: int) -> Tensor:
    """Return ||Hv|| of Mustafa's Algorithm 1 with rate 0.1: two products an iteration, and one for the value."""
    return length(HessianAscent(steps=(products - 1) // 2, rate=0.1)(hessian, start))


def gradient(hessian: Hessian) -> Tensor:
    return hessian.gradient.detach()


def gaussian(hessian: Hessian) -> Tensor:
    """Return the same Gaussian directions for every estimate."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(hessian.gradient.shape, generator=generator, dtype=hessian.gradient.dtype)


ESTIMATES: dict[str, Estimate] = {
    LANCZOS: lambda hessian, k: ritz_value(hessian, gradient(hessian), k),
    "Lanczos, Gaussian start": lambda hessian, k: ritz_value(hessian, gaussian(hessian), k),
    STRETCH: lambda hessian, k: stretch(hessian, gradient(hessian), k),
    "power, gradient start": lambda hessian, k: length(PowerIteration(steps=k)(hessian, gradient(hessian))),
    "Algorithm 1, gradient start": lambda hessian, k: ascent(hessian, gradient(hessian), k),
    PUBLISHED: lambda hessian, k: ascent(hessian, gaussian(hessian), k),
}

ONE_PRODUCT: dict[str, Callable[[Hessian], Tensor]] = {
    "‖Hg‖/‖g‖, g the gradient": gradient,
    "‖Hz‖/‖z‖, z = sign g (CURE's direction)": lambda hessian: gradient(hessian).sign(),
}


@dataclass(frozen=True)
class Error:
    """Relative error of |eigenvalue| over the images.

    Attributes:
        within: share of the images within 1 %.
    """

    mean: float
    max: float
    within: float

    @classmethod
    def of(cls, estimate: Tensor, truth: Tensor) -> "Error":
        """Return the error of an estimate; NaN stays NaN."""
        error = (estimate.abs().double() / truth - 1).abs()
        return cls(error.mean().item(), error.max().item(), (error <= 0.01).double().mean().item())

    def __str__(self) -> str:
        return f"{percent(self.mean)} ({percent(self.max)})"


@dataclass(frozen=True)
class Convergence:
    """What the default `SpectralCurvature` gives once it stops."""

    dtype: str
    products: int
    converged: float
    error: Error


def percent(share: float) -> str:
    """Return a share in per cent, to two digits."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def in_double(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of the model in float64."""
    return deepcopy(model).double()


def largest_magnitude(model: torch.nn.Module, field: ScalarField, x: Tensor, y: Tensor) -> Tensor:
    """Return ||H||_2 of each example from the dense Hessian in float64."""
    x = x.double()
    hessian = dense_hessian(field.bind(in_double(model), x, y), x)
    return torch.linalg.eigvalsh((hessian + hessian.mT) / 2).abs().amax(1)


def errors_by_products(hessian: Hessian, truth: Tensor) -> dict[str, dict[int, Error]]:
    """Return the error of every estimate at every number of products that it can spend exactly."""
    return {
        name: {k: Error.of(estimate(hessian, k), truth) for k in PRODUCTS if k % 2 or "Algorithm 1" not in name}
        for name, estimate in ESTIMATES.items()
    }


def errors_by_scale(model: Model, x: Tensor, y: Tensor, truth: Tensor) -> dict[str, dict[float, Error]]:
    """Return the errors where the logits are multiplied by a factor; the margin, its Hessian and the truth are too."""
    found: dict[str, dict[float, Error]] = {
        "Algorithm 1, T = 10 (21 products)": {},
        f"{LANCZOS}, 10 products": {},
        f"{STRETCH}, 7 products": {},
    }
    for scale in SCALES:

        def scaled(points: Tensor, scale: float = scale) -> Tensor:
            return scale * model(points)

        hessian = Hessian(Margin().bind(scaled, x, y), x)
        estimates = (ESTIMATES[name](hessian, k) for name, k in ((PUBLISHED, 21), (LANCZOS, 10), (STRETCH, 7)))
        for by_scale, estimate in zip(found.values(), estimates, strict=True):
            by_scale[scale] = Error.of(estimate, scale * truth)
    return found


def converge(model: Model, field: ScalarField, x: Tensor, y: Tensor, truth: Tensor) -> Convergence:
    """Run `SpectralCurvature` as it comes."""
    found = SpectralCurvature(field=field)(model, x, y)
    share = found.converged.double().mean().item()
    return Convergence(str(x.dtype).removeprefix("torch."), found.products, share, Error.of(found.value, truth))


def measure(net: Trained, field: ScalarField, n: int) -> dict[str, Any]:
    """Return all errors of one field."""
    x, y = net.test(n)
    truth = largest_magnitude(net.model, field, x, y)
    hessian = Hessian(field.bind(net.model, x, y), x)
    return {
        "truth": truth.tolist(),
        "by_products": errors_by_products(hessian, truth),
        "one_product": {
            name: Error.of(ascent(hessian, start(hessian), 1), truth) for name, start in ONE_PRODUCT.items()
        },
        "converged": [
            converge(net.model, field, x, y, truth),
            converge(in_double(net.model), field, x.double(), y, truth),
        ],
        "by_scale": errors_by_scale(net.model, x, y, truth) if isinstance(field, Margin) else {},
    }


def headline(found: dict[str, dict[str, Any]], n: int) -> str:
    """Return what matters most: whether the default measure is within 1 % on every image."""
    runs = [next(run for run in of["converged"] if run.dtype == "float32") for of in found.values()]
    worst, products = max(run.error.max for run in runs), max(run.products for run in runs)
    within = all(run.error.max <= 0.01 for run in runs)  # not `worst <= 0.01`, which could miss a NaN
    claim = "is within 1 % of" if within else "is NOT within 1 % of"
    return (
        f"**`SpectralCurvature()` {claim} the dense eigenvalue on every one of {n} images and both fields: largest "
        f"relative error {percent(worst)}, after {products} products at most (float32 against float64).**"
    )


def section(name: str, of: dict[str, Any]) -> str:
    """Return the tables of one field."""
    by_products, truth = of["by_products"], torch.tensor(of["truth"])
    rows = [[str(k), *(str(errors[k]) if k in errors else "" for errors in by_products.values())] for k in PRODUCTS]
    one = [[start, str(error)] for start, error in of["one_product"].items()]
    runs = [
        [run.dtype, str(run.products), f"{run.converged:.0%}", str(run.error), f"{run.error.within:.0%}"]
        for run in of["converged"]
    ]
    spread = f"{truth.min():.3g} to {truth.max():.3g}, median {truth.median():.3g}"
    parts = [
        f"## {name}",
        f"Largest |eigenvalue|: {spread}. Relative error, mean (max) over the images:",
        table(["products", *by_products], rows),
        table(["one product", "error"], one),
        "The default `SpectralCurvature`, which stops when every image has converged (tol 1e-2):",
        table(["dtype", "products", "converged", "error", "within 1 %"], runs),
    ]
    if of["by_scale"]:
        scales = [[method, *map(str, errors.values())] for method, errors in of["by_scale"].items()]
        parts += [
            "The same network with its logits multiplied by a factor:",
            table(["method", *(f"× {scale:g}" for scale in SCALES)], scales),
        ]
    return "\n\n".join(parts)


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw mean (solid) and largest (dotted) error against products, one panel a field."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, (name, of) in zip(panels, found.items(), strict=True):
        for marker, (method, errors) in zip("osD^vx", of["by_products"].items(), strict=True):
            (line,) = panel.plot(list(errors), [e.mean for e in errors.values()], marker=marker, ms=4, label=method)
            panel.plot(list(errors), [e.max for e in errors.values()], ":", color=line.get_color(), lw=1)
        panel.axhline(0.01, color="grey", lw=0.8)
        panel.annotate("1 %", (PRODUCTS[-1], 0.01), color="grey", ha="right", va="bottom", fontsize=8)
        panel.set(title=name, xlabel="Hessian products", yscale="log", ylim=(1e-7, 2), xticks=range(1, 22, 2))
    panels[0].set_ylabel("relative error of |eigenvalue|\nmean (solid), largest (dotted)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=160, format="png"))


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    net, n = trained(given.quick), 4 if given.quick else 32
    found = {name: measure(net, field, n) for name, field in FIELDS.items()}
    text = (
        f"{headline(found, n)}\n\n{net.about} The first {n} test images. A Gaussian start is one draw, seed {SEED}. "
        "Algorithm 1 (Mustafa et al. 2020, rate 0.1) costs two products an iteration and one for its value. All but "
        "the plain Lanczos are read off as ‖Hv‖, the better of the two lower bounds that their last product gives."
    )
    draw(found, given.out / "curvature.png")
    text += "".join(f"\n\n{section(name, of)}" for name, of in found.items())
    text += "\n\n![error against products](curvature.png)"
    record = {name: of | {"converged": [asdict(run) for run in of["converged"]]} for name, of in found.items()}
    Page("Error of curvature estimates", {"network": net.about, "n": n, "fields": record}, text).write(
        "curvature", given, stop
    )


if __name__ == "__main__":
    main(options(__doc__))
