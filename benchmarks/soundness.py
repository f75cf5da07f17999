"""Sound means sound: does any attack get inside a certified radius, and how near do radii come to the attacks?

Six networks of two to four layers, three kinds of activation and two of layers, each with 84 test images: every
certificate beside the nearest adversarial example that FMN (from DeepFool and from the input), DeepFool and PGD with 20
restarts find. PGD attacks in balls of the deciles of the certified radii. All in float64 and without bounds of valid
inputs, as the certificates are.
"""

import copy
from typing import Any

import torch
from common import SEED, Options, Page, load_data, options, table
from torch import Tensor, nn

from meseta.attacks import FMN, PGD, DeepFool
from meseta.attacks.base import misclassified
from meseta.certificates import Certificate, CurvatureCertificate, LipschitzCertificate
from meseta.evaluation import provenance
from meseta.models import Mlp
from meseta.objectives import CurvatureBound, Erm, Objective
from meseta.threat import Threat

CERTIFICATES: tuple[Certificate, ...] = (
    CurvatureCertificate(bound="published"),
    CurvatureCertificate(bound="interval"),
    CurvatureCertificate(bound="interval", dual=True),
    CurvatureCertificate(),
    CurvatureCertificate(dual=True, steps=3),
    LipschitzCertificate(local=False),
    LipschitzCertificate(),
)
ANYWHERE = Threat("L2", 1.0, bounds=None)
ATTACKS = (DeepFool(threat=ANYWHERE), FMN(threat=ANYWHERE), FMN(threat=ANYWHERE, start=None))


def conv_net(activation: type[nn.Module], maps: tuple[int, ...], shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Strided 4×4 convolutions and one linear layer."""
    layers: list[nn.Module] = []
    channels, side = shape[0], shape[1]
    for width in maps:
        layers += [nn.Conv2d(channels, width, 4, 2, 1), activation()]
        channels, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side**2, classes))


def networks(shape: tuple[int, ...], classes: int) -> dict[str, tuple[nn.Module, Objective]]:
    """Return untrained networks and what each is trained with."""

    def mlp(activation: str, *hidden: int) -> nn.Module:
        architecture = Mlp(activation=activation, hidden=hidden)  # type: ignore[arg-type]
        return architecture.build(shape, classes, generator=torch.Generator().manual_seed(SEED))

    torch.manual_seed(SEED)
    return {
        "MLP of 2 layers, softplus": (mlp("softplus", 64), Erm()),
        "MLP of 3 layers, tanh": (mlp("tanh", 64, 32), Erm()),
        "MLP of 4 layers, SiLU": (mlp("silu", 48, 32, 24), Erm()),
        "MLP of 3 layers, softplus, CurvatureBound": (mlp("softplus", 64, 32), CurvatureBound(weight=0.01)),
        "2 convolutions and 1 layer, SiLU": (conv_net(nn.SiLU, (6, 8), shape, classes), Erm()),
        "3 convolutions and 1 layer, tanh": (
            conv_net(nn.Tanh, (6, 8, 8), shape, classes),
            CurvatureBound(weight=0.001),
        ),
    }


def train(model: nn.Module, objective: Objective, x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    """Return the network, trained by Adam, in eval mode."""
    optimizer, order = torch.optim.Adam(model.parameters(), 3e-3), torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=order).split(64):
            optimizer.zero_grad()
            objective(model, x[index], y[index], generator=order).total.backward()
            optimizer.step()
    return model.eval()


def nearest(model: nn.Module, x: Tensor, y: Tensor, radii: Tensor, restarts: int) -> Tensor:
    """Return the distance of the nearest adversarial example that any attack finds, infinite where none does."""
    order = torch.Generator().manual_seed(SEED)
    best = torch.full((len(x),), torch.inf, dtype=x.dtype)

    def take(found: Tensor, index: Tensor) -> None:
        with torch.no_grad():
            wrong = misclassified(model(found.nan_to_num(0)), y[index]) & found.flatten(1).isfinite().all(1)
        distance = torch.where(wrong, (found - x[index]).flatten(1).norm(dim=1), torch.inf)
        best[index] = torch.minimum(best[index], distance)

    everything = torch.arange(len(x))
    for attack in ATTACKS:
        take(attack.closest(model, x, y, generator=order), everything)
    for share in torch.linspace(0.1, 0.9, 9):
        eps = float(radii.quantile(float(share)))
        inside = everything[radii >= eps]
        if eps > 0:
            pgd = PGD(threat=Threat("L2", eps, bounds=None), steps=20, restarts=restarts)
            take(pgd(model, x[inside], y[inside], generator=order), inside)
    return best


def examine(name: str, model: nn.Module, x: Tensor, y: Tensor, restarts: int) -> dict[str, Any]:
    """Return every certificate of one network beside the attacks."""
    exact = copy.deepcopy(model).double()
    wide = x.double()
    found = {certificate.name: certificate(exact, wide, y) for certificate in CERTIFICATES}
    radii = torch.stack([one.value for one in found.values()])
    closest = nearest(exact, wide, y, radii.amax(0), restarts)
    right = next(iter(found.values())).correct
    return {
        "network": name,
        "n": len(x),
        "correct": int(right.sum()),
        "nearest": float(closest[right].median()),
        "certificates": {
            key: {
                "median": float(one.value[right].median()),
                "ratio": float((one.value / closest)[right].median()),
                "largest_ratio": float((one.value / closest)[right].max()),
                "broken": int((one.value[right] > closest[right] * (1 + 1e-9)).sum()),
            }
            for key, one in found.items()
        },
    }


def section(of: dict[str, Any]) -> str:
    """Return the table of one network."""
    rows = [
        [key, f"{c['median']:.3f}", f"{c['ratio']:.3f}", f"{c['largest_ratio']:.3f}", str(c["broken"])]
        for key, c in of["certificates"].items()
    ]
    header = ["certificate", "median radius", "of the nearest found, median", "largest", "broken"]
    about = (
        f"{of['correct']} of {of['n']} classified correctly; nearest adversarial example {of['nearest']:.3f} (median)."
    )
    return f"## {of['network']}\n\n{about}\n\n{table(header, rows)}"


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    data, source = load_data(given.quick)
    x, y = data.train[: 1000 if given.quick else 6400]
    n, restarts, epochs = (10, 1, 4) if given.quick else (84, 20, 5)
    found = []
    for name, (model, objective) in networks(tuple(x.shape[1:]), int(y.max()) + 1).items():
        found.append(examine(name, train(model, objective, x, y, epochs), *data.test[:n], restarts))
        print(section(found[-1]), flush=True)
    broken = sum(c["broken"] for one in found for c in one["certificates"].values())
    note = f"{source}. {sum(one['n'] for one in found)} points, {len(CERTIFICATES)} certificates: {broken} broken."
    Page("Certified radii beside attacks", {"networks": found}, "\n\n".join([note, *map(section, found)])).write(
        "soundness", given, stop
    )


if __name__ == "__main__":
    main(options(__doc__))
