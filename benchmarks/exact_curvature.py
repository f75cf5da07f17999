"""Exact curvature of the loss for many classes: the Gram matrix of the logit gradients beside Lanczos.

On a ReLU network the input Hessian of the cross-entropy is the Gauss-Newton matrix V A V^T of rank at most K - 1, so
that its spectral norm is that of the K x K Gram matrix R^T R, from K vector-Jacobian products and no iteration. Lanczos
needs a few products, whatever K, and stops at a residual of 1 %. The truth is the dense Hessian in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from common import SEED, Options, Page, Spread, interleaved, options, ratios, table
from curvature import Error, largest_magnitude
from torch import Tensor

from meseta.autodiff import CrossEntropy, GaussNewton, logits_and_jacobian
from meseta.autodiff.gauss_newton import SoftmaxRoot
from meseta.evaluation import provenance
from meseta.geometry import SpectralCurvature
from meseta.linalg import Lanczos, norm, normalized
from meseta.models import Cnn4, Network

PLAIN = "forward and backward to the input"
SHAPE = (1, 28, 28)


@dataclass(frozen=True)
class Trained:
    """A ReLU network in eval mode with fresh images of its K classes."""

    model: Network
    x: Tensor
    y: Tensor
    about: str


def trained(classes: int, steps: int, n: int) -> Trained:
    """Return `Cnn4` trained on noisy copies of K random images, a task that exists for every K."""
    generator = torch.Generator().manual_seed(SEED)
    patterns = F.interpolate(torch.rand(classes, 1, 7, 7, generator=generator), SHAPE[1:], mode="bilinear")

    def draw(size: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(classes, (size,), generator=generator)
        return (patterns[y] + 0.25 * torch.randn(size, *SHAPE, generator=generator)).clamp(0, 1), y

    model = Cnn4().build(SHAPE, classes, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        x, y = draw(64)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    x, y = draw(n)
    with torch.no_grad():
        p = model(x).softmax(1)
    accuracy = (p.argmax(1) == y).float().mean().item()
    about = f"accuracy on these images {accuracy:.0%}, median largest probability {p.amax(1).median():.2g}"
    return Trained(model, x, y, about)


def plain(model: Network, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return the loss of each example after one forward and one backward to the input."""
    point = x.clone().requires_grad_()
    loss = F.cross_entropy(model(point), y, reduction="none")
    torch.autograd.grad(loss.sum(), point)
    return loss.detach(), 0


def gram(model: Network, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return ||G||_2 from the K x K Gram matrix: K vector-Jacobian products."""
    logits, jacobian = logits_and_jacobian(model, x)
    return torch.linalg.eigvalsh(SoftmaxRoot(logits).gram(jacobian))[:, -1], logits.shape[1]


def in_logits(model: Network, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return ||G||_2 by Lanczos on R^T R, on vectors of K entries."""
    g = GaussNewton(model, x)
    found = Lanczos()(lambda u: g.root_transposed(g.root(u)), g.root_transposed(g.gradient))
    return found.value, found.products


def one_step(model: Network, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return ||R u||^2 at the u that the loss gradient gives, as the penalty `Curvature()` takes it: from below."""
    g = GaussNewton(model, x)
    return norm(g.root(normalized(g.root_transposed(g.gradient)))) ** 2, 1


def in_inputs(model: Network, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return ||G||_2 by Lanczos on G = R R^T, on vectors of d entries."""
    g = GaussNewton(model, x)
    found = Lanczos()(g, g.gradient)
    return found.value, found.products


def full(model: Network, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Return ||H||_2 of the full Hessian by `SpectralCurvature()` as it comes."""
    found = SpectralCurvature(field=CrossEntropy())(model, x, y)
    return found.value.abs(), found.products


Way = Callable[[Network, Tensor, Tensor], tuple[Tensor, int]]
WAYS: dict[str, Way] = {
    "Gram matrix, exact": gram,
    "Gauss-Newton, Lanczos on K logits": in_logits,
    "Gauss-Newton, Lanczos on d inputs": in_inputs,
    "Gauss-Newton, one power step (`Curvature()`)": one_step,
    "full Hessian, Lanczos (`SpectralCurvature()`)": full,
}


def measure(classes: int, given: Options) -> dict[str, Any]:
    """Return times in plain passes, products and errors of every way at K classes."""
    batch, dense, steps = (4, 2, 2) if given.quick else (16, 8, 150)
    net = trained(classes, steps, batch)
    truth = largest_magnitude(net.model, CrossEntropy(), net.x[:dense], net.y[:dense])
    calls = {name: partial(way, net.model, net.x, net.y) for name, way in {PLAIN: plain, **WAYS}.items()}
    found = {name: call() for name, call in calls.items()}  # which warms up
    times = interleaved(calls, 1 if given.quick else 9, warm_up=0, budget=40)
    ratio = ratios(times, PLAIN)
    return {
        "classes": classes,
        "about": f"B = {batch}, d = {net.x[0].numel()}; {net.about}; truth for the first {dense}",
        "ways": {
            name: {
                "ratio": ratio[name],
                "seconds": Spread.of(times[name]),
                "all_seconds": times[name],
                "products": found[name][1],
                "error": None if name == PLAIN else Error.of(found[name][0][:dense], truth),
            }
            for name in calls
        },
    }


def section(of: dict[str, Any]) -> str:
    """Return the table of one number of classes."""
    rows = [
        [
            name,
            *(f"{v:.2f}" for v in (way["ratio"].median, way["ratio"].min, way["ratio"].max)),
            f"{1e3 * way['seconds'].median:.1f}",
            str(way["seconds"].n),
            str(way["products"] or ""),
            str(way["error"] or ""),
        ]
        for name, way in of["ways"].items()
    ]
    header = ["way", "× plain, median", "min", "max", "ms", "n", "products", "error, mean (max)"]
    return f"## K = {of['classes']}\n\n{of['about']}.\n\n{table(header, rows)}"


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    found = [measure(classes, given) for classes in ((4,) if given.quick else (10, 100, 1000))]
    note = (
        "`Cnn4` (ReLU, max pooling), trained briefly on noisy copies of K random images. Times in forwards and "
        "backwards to the input of the same batch, in the same round. Errors of ||H||_2 in float32 against the dense "
        "Hessian in float64. A product with the Gram matrix or with G is a Jacobian-vector and a vector-Jacobian "
        "product; those of the Gram row are its K vector-Jacobian products."
    )
    text = "\n\n".join([note, *map(section, found)])
    Page("Exact curvature of the loss, by the number of classes", {"settings": found}, text).write(
        "exact_curvature", given, stop
    )


if __name__ == "__main__":
    main(options(__doc__))
