"""The same attacks in several libraries, on the same network and images, with one account of what they cost.

Forwards and backwards are counted by hooks on the network. Times are of the same rounds as as many bare passes, a pass
being one forward and one backward to the input: the least that an attack of so many gradient steps can cost.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import SEED, Options, Page, Spread, interleaved, options, ratios, table, trained
from torch import Tensor, nn

from meseta.attacks import APGD, FMN, PGD, Attack, DeepFool
from meseta.evaluation import provenance
from meseta.evaluation.judge import judge_attack
from meseta.models import Network
from meseta.threat import Threat

LINF, L2 = Threat("Linf", 0.1), Threat("L2", 1.0)
PACKAGES = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "adversarial-robustness-toolbox",
    "pyautoattack": "pyautoattack",
}
"""The libraries beside meseta, and what their distributions are called."""
BARE = "bare passes"
HEADER = ["attack", "forwards", "backwards", "time in passes", "× bound (least to most)", "robust", "distance"]

Call = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Contest:
    """One attack as each library offers it.

    Attributes:
        threat: what all of them may do.
        steps: bare passes beside them, as many as the attack's gradient steps where their number is fixed.
        offers: the attacks.
        fixed: whether it is.
    """

    title: str
    threat: Threat
    steps: int
    offers: "Offers"
    fixed: bool = True


def installed() -> dict[str, str]:
    """Return the versions of the libraries that are there."""
    found = {}
    for name, package in PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue
    return found


def bare(model: nn.Module, steps: int) -> Call:
    """Return forwards and backwards to the input and nothing else."""

    def passes(x: Tensor, y: Tensor) -> Tensor:
        point = x.clone().requires_grad_()
        for _ in range(steps):
            torch.autograd.grad(F.cross_entropy(model(point), y, reduction="sum"), point)
        return x

    return passes


def ours(model: nn.Module, attack: Attack) -> Call:
    generator = torch.Generator().manual_seed(SEED)
    return lambda x, y: attack(model, x, y, generator=generator)


def foolbox(model: nn.Module, kind: str, eps: float | None, **settings: Any) -> Call:
    """Return an attack of foolbox; `eps` None for the nearest adversarial example."""
    import foolbox as fb

    attack, wrapped = getattr(fb.attacks, kind)(**settings), fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    radius = {} if eps is None else {"epsilon": eps}
    return lambda x, y: attack.run(wrapped, x, y, **radius)


def torchattacks(model: nn.Module, kind: str, **settings: Any) -> Call:
    import torchattacks as ta

    attack = getattr(ta, kind)(model, **settings)
    return lambda x, y: attack(x, y)


def art(model: Network, kind: str, batch: int, **settings: Any) -> Call:
    """Return an attack of ART, from and to arrays of numpy."""
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=model.input_shape,
        nb_classes=model.classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = getattr(evasion, kind)(wrapped, batch_size=batch, verbose=False, **settings)
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def pyautoattack(model: nn.Module, steps: int) -> Call:
    """Return the APGD of pyautoattack on its own."""
    from pyautoattack.autopgd_base import APGDAttack

    return APGDAttack(model, n_iter=steps, norm="Linf", eps=LINF.eps, seed=SEED, loss="ce", device="cpu").perturb


class Offers:
    """Attacks by name, those of libraries that are there; each peer also with frozen parameters where that matters.

    foolbox and ART compute the gradients of the parameters as well, which nobody asks for; frozen, they need not.
    """

    def __init__(self, model: Network, versions: dict[str, str]) -> None:
        self.model, self.frozen = model, deepcopy(model).requires_grad_(False)
        self._versions = versions
        self.calls: dict[str, Call] = {}

    def meseta(self, attack: Attack, note: str = "") -> None:
        """Add one of ours."""
        self.calls[f"meseta {attack.name}{note}"] = ours(self.model, attack)

    def peer(self, library: str, kind: str, make: Callable[[Network], Call]) -> None:
        """Add one of a library, if that is installed."""
        if library in self._versions:
            self.calls[f"{library} {kind}"] = make(self.model)
            if library in ("foolbox", "ART"):
                self.calls[f"{library} {kind}, parameters frozen"] = make(self.frozen)


def pgd_contest(model: Network, versions: dict[str, str], threat: Threat, steps: int, batch: int) -> Contest:
    """PGD with one random start and alpha = 2.5 eps / steps."""
    offers, alpha, norm = Offers(model, versions), 2.5 * threat.eps / steps, threat.norm
    start = {"alpha": alpha, "steps": steps}
    offers.meseta(PGD(threat=threat, drop_broken=False, **start), ", drop_broken=False")
    offers.meseta(PGD(threat=threat, **start))
    offers.peer(
        "foolbox", f"{norm}PGD", lambda m: foolbox(m, f"{norm}PGD", threat.eps, steps=steps, abs_stepsize=alpha)
    )
    theirs = "PGD" if norm == "Linf" else "PGDL2"
    offers.peer("torchattacks", theirs, lambda m: torchattacks(m, theirs, eps=threat.eps, **start))
    size = {"norm": float("inf") if norm == "Linf" else 2, "eps": threat.eps, "eps_step": alpha, "max_iter": steps}
    kind = "ProjectedGradientDescentPyTorch"
    offers.peer("ART", kind, lambda m: art(m, kind, batch, num_random_init=1, **size))
    return Contest(f"PGD-{steps}, {norm}, eps = {threat.eps:g}", threat, steps, offers)


def apgd_contest(model: Network, versions: dict[str, str], steps: int, batch: int) -> Contest:
    """Auto-PGD on the cross-entropy, one start."""
    offers = Offers(model, versions)
    offers.meseta(APGD(threat=LINF, steps=steps))
    theirs = {"norm": "Linf", "eps": LINF.eps, "steps": steps, "loss": "ce"}
    offers.peer("torchattacks", "APGD", lambda m: torchattacks(m, "APGD", **theirs))
    size = {"norm": float("inf"), "eps": LINF.eps, "eps_step": 2 * LINF.eps, "max_iter": steps, "nb_random_init": 1}
    kind = "AutoProjectedGradientDescent"
    offers.peer("ART", kind, lambda m: art(m, kind, batch, **size))
    offers.peer("pyautoattack", "APGDAttack", lambda m: pyautoattack(m, steps))
    return Contest(f"APGD-{steps} on the cross-entropy, Linf, eps = {LINF.eps:g}", LINF, steps, offers)


def deepfool_contest(model: Network, versions: dict[str, str], batch: int) -> Contest:
    """DeepFool with ten candidates, which is all classes."""
    offers = Offers(model, versions)
    offers.meseta(DeepFool(threat=L2))
    offers.peer("foolbox", "L2DeepFoolAttack", lambda m: foolbox(m, "L2DeepFoolAttack", None))
    offers.peer("torchattacks", "DeepFool", lambda m: torchattacks(m, "DeepFool"))
    offers.peer("ART", "DeepFool", lambda m: art(m, "DeepFool", batch, max_iter=50))
    return Contest(f"DeepFool, L2, robust accuracy at eps = {L2.eps:g}", L2, 10, offers, fixed=False)


def fmn_contest(model: Network, versions: dict[str, str], steps: int) -> Contest:
    """FMN from the input, as published, and ours from DeepFool."""
    offers = Offers(model, versions)
    offers.meseta(FMN(threat=LINF, steps=steps, start=None))
    offers.meseta(FMN(threat=LINF, steps=steps))
    offers.peer("foolbox", "LInfFMNAttack", lambda m: foolbox(m, "LInfFMNAttack", None, steps=steps))
    return Contest(f"FMN-{steps}, Linf, robust accuracy at eps = {LINF.eps:g}", LINF, steps, offers)


@dataclass
class Count:
    """Images that went forward through a network, and back."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counted(*models: nn.Module) -> Iterator[Count]:
    """Count what passes through the networks within the block."""
    count = Count()

    def forward(_module: nn.Module, _inputs: object, logits: Tensor) -> None:
        count.forwards += len(logits)
        if logits.requires_grad:
            logits.register_hook(backward)

    def backward(gradient: Tensor) -> None:
        count.backwards += len(gradient)

    hooks = [model.register_forward_hook(forward) for model in models]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Score:
    """What one attack did: passes per image, share of the images that stand, median distance of those it broke."""

    forwards: float
    backwards: float
    robust: float
    distance: float


def score(call: Call, models: list[nn.Module], x: Tensor, y: Tensor, threat: Threat) -> Score:
    """Attack x once and have it judged."""
    torch.manual_seed(SEED)  # the peers draw from the global generators
    np.random.seed(SEED)
    with counted(*models) as count:
        found = call(x, y)
    judged = judge_attack(models[0], x, y, found, threat)
    anywhere = judge_attack(models[0], x, y, found, Threat(threat.norm, 1e9))
    length = threat.distance(anywhere.adversarial, x)[anywhere.broken]
    return Score(
        count.forwards / len(x),
        count.backwards / len(x),
        1 - judged.broken.float().mean().item(),
        length.median().item() if len(length) else float("nan"),
    )


def hold(contest: Contest, test: tuple[Tensor, Tensor], batch: int, rounds: int) -> tuple[dict[str, Any], str]:
    """Return what was measured, and its table."""
    offers = contest.offers
    models = [offers.model, offers.frozen]
    scores = {name: score(call, models, *test, contest.threat) for name, call in offers.calls.items()}
    x, y = (t[:batch] for t in test)
    calls = {BARE: bare(offers.model, contest.steps)} | offers.calls
    times = interleaved({name: lambda c=call: c(x, y) for name, call in calls.items()}, rounds, budget=60)
    ratio = ratios(times, BARE)
    rows = []
    for name, of in scores.items():
        spread = ratio[name]
        rows.append(
            [
                name,
                f"{of.forwards:.1f}",
                f"{of.backwards:.1f}",
                f"{contest.steps * spread.median:.1f}",
                f"{spread.median:.2f} ({spread.min:.2f} to {spread.max:.2f})" if contest.fixed else "",
                f"{of.robust:.1%}",
                f"{of.distance:.3f}",
            ]
        )
    seconds = {name: Spread.of(of) for name, of in times.items()}
    measured = {"scores": scores, "ratios": ratio, "seconds": seconds, "all_seconds": times, "steps": contest.steps}
    return measured, f"{ratio[BARE].n} rounds.\n\n{table(HEADER, rows)}"


def main(given: Options) -> None:
    stop = provenance.start(SEED, "cpu")
    net, versions = trained(given.quick), installed()
    n, batch, rounds, steps = (24, 8, 2, 5) if given.quick else (100, 64, 5, 40)
    long = 2 * steps if given.quick else 100
    test = net.test(n)
    contests = [
        pgd_contest(net.model, versions, LINF, steps, n),
        pgd_contest(net.model, versions, L2, steps, n),
        apgd_contest(net.model, versions, long, n),
        deepfool_contest(net.model, versions, n),
        fmn_contest(net.model, versions, steps),
    ]
    absent = [package for name, package in PACKAGES.items() if name not in versions]
    text = (
        f"{net.about} Beside meseta: {', '.join(f'{name} {number}' for name, number in versions.items()) or 'nothing'}."
        + (f" Not installed, so left out: {', '.join(absent)}." if absent else "")
        + f" Passes per image are counted on the first {n} test images, and robust accuracy and the median distance of "
        f"what is misclassified are those of `meseta.evaluation.judge` there. Times are of the first {batch}, in "
        "forwards with a backward to the input, of the same rounds; × bound divides them by the number of gradient "
        "steps. meseta's attacks drop examples once they are broken, but for `drop_broken=False`."
    )
    measured: dict[str, Any] = {}
    for contest in contests:
        measured[contest.title], found = hold(contest, test, batch, rounds)
        text += f"\n\n## {contest.title}\n\n{found}"
    Page("Attacks beside those of other libraries", {"versions": versions} | measured, text).write(
        "attacks", given, stop
    )


if __name__ == "__main__":
    main(options(__doc__))
