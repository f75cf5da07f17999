"""Records with realistic values, without a model: small enough to read, complete enough for every section."""

import math
import random
from base64 import b64encode
from statistics import fmean, median
from typing import Any

from meseta.evaluation.record import (
    AttackPath,
    AttackResult,
    Bounded,
    Curve,
    Direction,
    Distribution,
    Evaluation,
    Finding,
    Level,
    Masking,
    Measured,
    Picture,
    Pictured,
    Profile,
    Provenance,
    Record,
    RobustAccuracy,
    Surface,
    Training,
    Transformed,
    verdict_of,
)

PROVENANCE = Provenance(
    command="meseta evaluate runs/erm --attacks pgd,apgd,square --eps 8/255",
    created="2026-01-12T09:30:00Z",
    seconds=812.4,
    seed=0,
    device="NVIDIA H200",
    versions={"meseta": "0.1.0", "python": "3.12.3", "torch": "2.13.0"},
    commit="1f2e3d4c5b6a",
)
THREATS = (("Linf", 2 / 255), ("Linf", 4 / 255), ("Linf", 8 / 255), ("L2", 0.25), ("L2", 0.5))
ATTACKS = ("FGSM", "PGD-40 cross-entropy", "PGD-40 margin", "Square-1000")


def make_robust(norm: str, eps: float, worst: float, violations: int = 0) -> RobustAccuracy:
    attacks = [
        AttackResult(
            attack=f"{name.split('-')[0]}(threat=Threat(norm={norm!r}, eps={eps:.6g}), restarts=1)",
            name=name,
            accuracy=min(1.0, worst + 0.012 * (len(ATTACKS) - i)),
            violations=violations if name == "FGSM" else 0,
            seconds=4.2,
        )
        for i, name in enumerate(ATTACKS)
    ]
    return RobustAccuracy(norm=norm, eps=eps, worst_case=worst, attacks=attacks)


def make_evaluation(clean: float = 0.9, decay: float = 20.0, n: int = 1000, **changes: Any) -> Evaluation:
    robust = [
        make_robust(norm, eps, round(clean * math.exp(-decay * eps * (1 if norm == "Linf" else 0.09)), 3))
        for norm, eps in THREATS
    ]
    defaults = {"provenance": PROVENANCE, "split": "test", "n": n, "clean_accuracy": clean, "nonfinite_logits": 0}
    return Evaluation(**(defaults | {"robust": robust} | changes))


def make_cascade(norm: str, eps: float, worst: float, clean: float = 0.9, n: int = 1000, by_others: int = 0) -> Any:
    """A cascade from clean accuracy down to the worst case: the first attack breaks most of what any breaks."""
    standing = round(clean * n)
    end = round(worst * n) + by_others
    attacks = []
    for i, name in enumerate(ATTACKS):
        left = end if i == len(ATTACKS) - 1 else end + round((standing - end) * 0.15)
        attacks.append(
            AttackResult(
                attack=f"{name.split('-')[0]}(threat=Threat(norm={norm!r}, eps={eps:.6g}), variant={i})",
                name=name,
                accuracy=left / n,
                violations=0,
                seconds=4.2,
                attacked=standing,
            )
        )
        standing = left
    return RobustAccuracy(norm=norm, eps=eps, worst_case=worst, attacks=attacks, cascade=True, by_others=by_others)


EVIDENCE = {
    "MoreSteps": ("PGD-100 with 5 restarts breaks {a} % of the examples, PGD-20 {b} %: {c} points more.", 5, 15),
    "OneStep": (
        "One step breaks {a} % that 20 steps leave standing; {b} % the other way round (difference {c}).",
        1,
        5,
    ),
    "RisingEps": ("At 8 times the eps PGD leaves {a} % standing, at 16 times {b} %; it should be 0 (is {c}).", 1, 10),
    "BlackBox": ("Square-2000 breaks {a} % where PGD-20 on both losses breaks {b} %: {c} points more.", 2, 10),
    "ZeroGradients": ("The loss gradient is 0 or not finite on {a} % in float32 and on {b} % in float64 ({c}).", 5, 20),
    "LogitScale": ("With logits divided by 1000 PGD-20 breaks {a} %, without {b} %: {c} points more.", 2, 10),
    "Confidence": ("Mean top probability is {a} % on test inputs, {b} % under noise ({c}).", 0, None),
    "Stochastic": ("Two forwards of one input differ by {a}, their classes on {b} % of the examples ({c}).", 0, 5),
    "FiniteDifferences": ("Autograd and finite differences disagree on {a} % of directions, median {b} ({c}).", 1, 10),
}
"""Checks as they may be, each with a sentence and its thresholds."""


def make_finding(name: str, level: Level = "fine", **changes: Any) -> Finding:
    sentence, suspicious, broken = EVIDENCE[name]
    a, b, c = {"fine": (1.5, 1.0, 0.5), "suspicious": (9.1, 4.0, 5.1), "broken": (93.5, 4.0, 89.5)}.get(
        level, (0, 0, 0)
    )
    defaults = {
        "check": f"{name}(suspicious={suspicious / 100:g}, broken={(broken or 100) / 100:g})",
        "name": name,
        "level": level,
        "evidence": sentence.format(a=a, b=b, c=c) if level != "untested" else "The model has no such layer.",
        "rule": f"Suspicious above {suspicious} points" + (f", broken above {broken} points." if broken else "."),
        "figures": {"broken_by_check": a / 100, "broken_by_reference": b / 100, "spread": None},
        "seconds": 3.21,
    }
    return Finding(**(defaults | changes))


def make_masking(norm: Any = "Linf", eps: float = 8 / 255, n: int = 187, **levels: Level) -> Masking:
    """Every check is fine but those named, as in `make_masking(BlackBox="broken")`."""
    findings = [make_finding(name, levels.get(name, "fine")) for name in EVIDENCE]
    return Masking(
        provenance=PROVENANCE,
        norm=norm,
        eps=eps,
        split="test",
        n=n,
        verdict=verdict_of([one.level for one in findings]),
        findings=findings,
    )


def make_transformed(clean: float) -> list[Transformed]:
    names = ["Spatial weak", "Spatial medium", "Spatial strong", "GaussianNoise 0.1"]
    return [
        Transformed(transformation=f"{name.split()[0]}(level={i})", name=name, accuracy=clean - 0.07 * i, seconds=1.5)
        for i, name in enumerate(names)
    ]


def make_measured(name: str, values: list[float | None], **changes: Any) -> Measured:
    finite = sorted(v for v in values if v is not None)
    defaults = {
        "provenance": PROVENANCE,
        "name": name,
        "measure": name.replace("(", "(field=").replace(")", "(), tolerance=0.001)"),
        "split": "test",
        "n": len(values),
        "mean": fmean(finite) if finite else None,
        "median": median(finite) if finite else None,
        "quantile_05": finite[len(finite) // 20] if finite else None,
        "quantile_95": finite[-1 - len(finite) // 20] if finite else None,
        "nonfinite": len(values) - len(finite),
        "converged": 0.998,
        "values": values,
    }
    return Measured(**(defaults | changes))


def make_distribution(values: list[float | None]) -> Distribution:
    finite = sorted(v for v in values if v is not None)
    return Distribution(
        mean=fmean(finite) if finite else None,
        median=median(finite) if finite else None,
        quantile_05=finite[len(finite) // 20] if finite else None,
        quantile_95=finite[-1 - len(finite) // 20] if finite else None,
        nonfinite=len(values) - len(finite),
        values=values,
    )


def make_curve(centre: list[float], spread: float = 2.0) -> Curve:
    """A curve whose band is a factor wide on either side."""
    low, high = [c / spread for c in centre], [c * spread for c in centre]
    return Curve(mean=centre, median=centre, quantile_05=low, quantile_95=high, nonfinite=0)


def make_bounded(kind: Any, values: list[float | None], name: str = "", norm: Any = "L2", **changes: Any) -> Bounded:
    name = name or {"sound": "Certificate", "estimate": "Taylor", "proxy": "LinearPiece", "attack": "FMN-100"}[kind]
    defaults = {
        "provenance": PROVENANCE,
        "name": name,
        "bound": f"{name}(norm={norm!r})",
        "kind": kind,
        "norm": norm,
        "split": "test",
        "n": len(values),
        "correct": sum(v != 0 for v in values),
    }
    return Bounded(**(defaults | make_distribution(values).model_dump() | changes))


def make_bounds(n: int = 300, seed: int = 0, norm: Any = "L2", scale: float = 1.0) -> list[Bounded]:
    """All four kinds around a truth: certified <= estimate <= smallest attack, the proxy on either side; 5 % wrong."""
    source = random.Random(seed)
    truth = [scale * math.exp(0.6 * source.gauss(0, 1)) if source.random() > 0.05 else 0.0 for _ in range(n)]
    kinds = {"sound": (0.02, 0.3), "estimate": (0.4, 0.9), "proxy": (0.5, 1.4), "attack": (1.0, 1.05)}
    return [
        make_bounded(kind, [t * source.uniform(*around) for t in truth], norm=norm) for kind, around in kinds.items()
    ]


def make_picture(channels: int = 1, size: int = 28, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Picture:
    pixels = random.Random(seed).randbytes(channels * size * size)
    return Picture(shape=(channels, size, size), pixels=b64encode(pixels).decode(), low=low, high=high)


def make_pictured(index: int = 0, predicted: int = 3, channels: int = 1, size: int = 28, **changes: Any) -> Pictured:
    """An example of label 3 with its adversarial example, or one that is misclassified."""
    right, largest = predicted == 3, 0.025
    parts = {
        "input": make_picture(channels, size, seed=index),
        "perturbation": make_picture(channels, size, -largest, largest, seed=index + 1),
        "adversarial": make_picture(channels, size, seed=index + 2),
    }
    defaults = {
        "provenance": PROVENANCE,
        "kind": "adversarial",
        "name": "FMN-100",
        "settings": "FMN(steps=100)",
        "split": "test",
        "index": index,
        "label": 3,
        "predicted": predicted,
        "found": 5 if right else None,
        "norm": "Linf",
        "distance": largest if right else None,
        "pictures": parts if right else {"input": parts["input"]},
    }
    return Pictured(**(defaults | changes))


def make_surface(seed: int = 0, size: int = 101, index: int = 7) -> Surface:
    """A valley that the decision boundary crosses, with the ball and an attack's way out of it."""
    x = [round(i / (size // 2) - 1, 6) for i in range(size)]
    depth = 0.6 - 0.1 * (seed % 5)
    field = [[float(f"{a * a + b * b / 2 - depth + 0.2 * math.sin(4 * a + seed):.6g}") for a in x] for b in x]
    return Surface(
        provenance=PROVENANCE,
        settings=f"InputSurface(index={index}, axes=(Random(), Adversarial()))",
        space="input",
        plane=f"{index:064d}",
        of="erm",
        split="test",
        index=index,
        n=1,
        example=f"{index:064d}",
        label=3,
        predicted=3,
        norm="L2",
        eps=0.5,
        clipped=False,
        axes=(
            Direction(name="random", axis="Random(seed=0)", forwards=None, backwards=None),
            Direction(name="adversarial", axis="Adversarial()", forwards=0.7, backwards=None),
        ),
        cosine=0.0,
        x=x,
        y=x,
        fields={"Decision": field, "CrossEntropy": [[abs(v) + 0.01 for v in row] for row in field]},
        shown=["Decision"],
        ball=[(0.5 * math.cos(t / 8), 0.5 * math.sin(t / 8)) for t in range(51)],
        path=AttackPath(attack="PGD(steps=4)", points=[(0, 0), (0.1, 0.3), (0.2, 0.6)], off=0.1, succeeded=True),
    )


def make_profile(seed: int = 0, size: int = 61) -> Profile:
    """The loss along a direction beside its expansions."""
    x = [round(i / 10 - 3, 6) for i in range(size)]
    curves: dict[str, list[float | None]] = {
        "loss": [math.log1p(math.exp(a - seed % 3)) for a in x],
        "first order": [math.log(2) + a / 2 for a in x],
        "second order": [math.log(2) + a / 2 + a * a / 8 for a in x],
    }
    names = {"name": "Expansion", "settings": "Expansion(direction=Gradient())", "split": "test", "index": 7}
    labels = {"x_label": "distance along the gradient, L2", "y_label": "cross-entropy loss"}
    return Profile(provenance=PROVENANCE, x=x, curves=curves, **names, **labels)


def lognormal(scale: float, count: int = 500, seed: int = 0) -> list[float | None]:
    source = random.Random(seed)
    return [scale * math.exp(1.3 * source.gauss(0, 1)) for _ in range(count)]


def make_training(objective: str = "Erm()", seconds_per_epoch: float = 10.0, **changes: Any) -> Training:
    defaults = {
        "provenance": PROVENANCE,
        "objective": objective,
        "epochs": 30,
        "steps": 11730,
        "parameters": 11_173_962,
        "examples": 50_000,
        "seconds_per_epoch": seconds_per_epoch,
        "metrics": {"train/cross_entropy": 0.031, "val/accuracy": 0.912, "val/lost": None},
    }
    return Training(**(defaults | changes))


def make_history(epochs: int = 20, seed: int = 0, **more: list[float | None]) -> dict[str, list[float | None]]:
    """A loss that falls and an accuracy that rises, in each epoch; `more` by other names."""
    return {
        "train/total": [2.5 * math.exp(-0.1 * i) + 0.1 * seed for i in range(epochs)],
        "train/cross_entropy": [2.3 * math.exp(-0.2 * i) for i in range(epochs)],
        "val/cross_entropy": [2.3 * math.exp(-0.15 * i) for i in range(epochs)],
        "val/accuracy": [0.95 - 0.8 * math.exp(-0.3 * i) - 0.01 * seed for i in range(epochs)],
        **more,
    }


def make_record(name: str = "erm", seed: int = 0, **changes: Any) -> Record:
    """A record whose figures move with `seed`."""
    defaults = {
        "name": name,
        "model": "PreActResNet18(classes=10)",
        "data": "CIFAR-10, 10 classes",
        "config": {
            "objective": {"name": "Erm" if seed == 0 else "CURE", "weight": 0.1 * seed},
            "data": {"batch_size": 128, "augment": ["crop", "flip"]},
            "training": {"lr": 0.1, "epochs": 30, "seed": 0},
        },
        "training": make_training("Erm()" if seed == 0 else f"CURE(weight={0.1 * seed:g})", 10.0 + 7.5 * seed),
        "evaluation": make_evaluation(clean=0.93 - 0.012 * seed, decay=90.0 / (1 + seed)),
        "measures": [
            make_measured("SpectralCurvature(CrossEntropy)", lognormal(40 / (1 + 3 * seed), seed=seed)),
            make_measured("GradientNorm(CrossEntropy)", lognormal(3 / (1 + seed), seed=100 + seed)),
        ],
    }
    return Record(**(defaults | changes))


def make_records(count: int = 3) -> list[Record]:
    names = ["erm", "cure", "input-gradient", "trades"]
    return [make_record(names[i] if i < len(names) else f"sweep-{i:02d}", seed=i) for i in range(count)]


def make_checked_records() -> list[Record]:
    """A trusted, a suspicious, a broken and an unchecked run, attacked by a cascade; the broken one looks the best."""
    checks = {
        "trades": make_masking(FiniteDifferences="untested"),
        "soar": make_masking(LogitScale="suspicious", ZeroGradients="suspicious", Stochastic="untested"),
        "quantised": make_masking(
            BlackBox="broken", ZeroGradients="broken", OneStep="suspicious", Stochastic="untested"
        ),
        "older": None,
    }
    records = []
    for seed, ((name, masking), decay) in enumerate(zip(checks.items(), (3, 4, 0.5, 6), strict=True)):
        clean = 0.9 - 0.01 * seed
        worst = {threat: round(clean * math.exp(-decay * 255 * threat[1] / 40), 3) for threat in THREATS[:3]}
        robust = [
            make_cascade(*threat, share, clean, by_others=5 if name == "soar" else 0) for threat, share in worst.items()
        ]
        evaluation = make_evaluation(
            clean, robust=robust, suite="standard", masking=masking, transformed=make_transformed(clean)
        )
        records.append(make_record(name, seed, evaluation=evaluation))
    return records
