"""What PGD-40 costs beyond its 40 forwards and backwards, beside foolbox's on the same network and images."""

from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import PackageNotFoundError, version

import torch
import torch.nn.functional as F
from common import SEED, Options, Page, Spread, interleaved, options, ratios, table, trained
from torch import Tensor

from meseta.attacks import PGD
from meseta.evaluation import provenance
from meseta.evaluation.judge import judge_attack
from meseta.models import Network
from meseta.threat import Threat

STEPS = 40
THREAT = Threat("Linf", 0.1)
ALPHA = 2.5 * THREAT.eps / STEPS
BARE = f"{STEPS} bare forwards and backwards"

Attack = Callable[[Tensor, Tensor], Tensor]


def bare(model: Network) -> Attack:
    """Return 40 forwards and backwards to the input and nothing else: the least that PGD-40 can cost."""

    def passes(x: Tensor, y: Tensor) -> Tensor:
        point = x.clone().requires_grad_()
        for _ in range(STEPS):
            torch.autograd.grad(F.cross_entropy(model(point), y, reduction="sum"), point)
        return x

    return passes


def meseta_pgd(model: Network, drop_broken: bool) -> Attack:
    """Return meseta's PGD."""
    attack = PGD(threat=THREAT, steps=STEPS, alpha=ALPHA, drop_broken=drop_broken)
    generator = torch.Generator().manual_seed(SEED)
    return lambda x, y: attack(model, x, y, generator=generator)


def foolbox_pgd(model: Network) -> Attack:
    """Return foolbox's PGD with the same steps."""
    import foolbox

    attack = foolbox.attacks.LinfPGD(steps=STEPS, abs_stepsize=ALPHA, random_start=True)
    wrapped = foolbox.PyTorchModel(model, bounds=THREAT.bounds)
    return lambda x, y: attack.run(wrapped, x, y, epsilon=THREAT.eps)


def foolbox_version() -> str | None:
    """Return the version of foolbox, or None where it is not installed."""
    try:
        return version("foolbox")
    except PackageNotFoundError:
        return None


def attacks(model: Network) -> dict[str, Attack]:
    """Return what is compared, by name; foolbox where it is installed.

    foolbox also computes the gradients of the parameters, so it is given a frozen copy as well, where it need not.
    """
    found = {
        BARE: bare(model),
        "meseta PGD-40, drop_broken=False": meseta_pgd(model, drop_broken=False),
        "meseta PGD-40, drop_broken=True (default)": meseta_pgd(model, drop_broken=True),
    }
    if foolbox_version() is None:
        return found
    frozen = deepcopy(model).requires_grad_(False)
    return found | {"foolbox LinfPGD": foolbox_pgd(model), "foolbox LinfPGD, parameters frozen": foolbox_pgd(frozen)}


def robust_accuracy(attack: Attack, model: Network, x: Tensor, y: Tensor) -> float:
    """Return the share of examples that the judge finds unbroken."""
    return 1 - judge_attack(model, x, y, attack(x, y), THREAT).broken.float().mean().item()


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    net = trained(given.quick)
    batch, n, rounds = (32, 64, 2) if given.quick else (256, 500, 11)
    found = attacks(net.model)
    torch.manual_seed(SEED)  # foolbox draws its starts from the global generator
    accuracy = {name: robust_accuracy(attack, net.model, *net.test(n)) for name, attack in found.items()}
    x, y = net.test(batch)
    times = interleaved({name: lambda a=attack: a(x, y) for name, attack in found.items()}, rounds, budget=150)
    ratio, total = ratios(times, BARE), {name: Spread.of(of) for name, of in times.items()}
    rows = []
    for name in found:
        factors = (f"{value:.3f}" for value in (ratio[name].median, ratio[name].min, ratio[name].max))
        robust = f"{accuracy[name]:.1%}" + (" (clean)" if name == BARE else "")
        rows.append([name, *factors, f"{total[name].median:.2f}", robust])
    header = ["attack", "× bare, median", "min", "max", "seconds", "robust accuracy"]
    text = (
        f"{net.about} Linf, eps = {THREAT.eps}, alpha = 2.5 eps / {STEPS} = {ALPHA:.5g}, one random start. "
        f"Times: {batch} images, {ratio[BARE].n} rounds, ratios within a round. Robust accuracy: the first {n} test "
        "images, judged by `meseta.evaluation.judge`. `drop_broken` takes misclassified examples out of the batch and "
        "counts every iterate; the others run each path to its end and count the last iterate."
    )
    measured = {
        name: {"ratio": ratio[name], "seconds": total[name], "all_seconds": times[name], "robust": accuracy[name]}
        for name in found
    }
    about = {
        "network": net.about,
        "foolbox": foolbox_version(),
        "eps": THREAT.eps,
        "alpha": ALPHA,
        "batch": batch,
        "accuracy_n": n,
    }
    Page("PGD-40 beside its bare passes", about | measured, f"{text}\n\n{table(header, rows)}").write(
        "pgd", given, stop
    )


if __name__ == "__main__":
    main(options(__doc__))
