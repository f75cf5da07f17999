"""What Yu et al. 2018 print and say, and whether figures bear it out."""

from collections.abc import Callable, Mapping, Sequence

from meseta.report.reproduced import Claim
from meseta.reproductions.lab import mean

MNIST_EPS = (0.1, 0.2, 0.3)
CIFAR_EPS = (3 / 255, 6 / 255, 9 / 255)
METHODS = ("Natural", "AdvTrain", "CrossEntropy", "Ours", "Ours+AdvTrain", "MinMax")
ATTACKS = ("FGSM", "BIM", "C&W")
Cell = tuple[str, int | None]
"""A column of the tables: the attack and which of the radii, or `CLEAN`."""
CLEAN: Cell = ("clean", None)
COLUMNS: tuple[Cell, ...] = (CLEAN, *((attack, k) for attack in ATTACKS for k in range(3)))
Cells = Mapping[tuple[str, Cell], float | None]
"""Accuracies in %, by method and column."""
PUBLISHED = {
    "mnist": {
        "Natural": (99.1, 67.3, 12.9, 4.7, 22.5, 0.0, 0.0, 21.6, 0.0, 0.0),
        "AdvTrain": (99.1, 73.0, 52.7, 10.9, 62.0, 6.5, 0.0, 71.09, 17.0, 2.1),
        "CrossEntropy": (99.2, 91.6, 60.4, 18.3, 87.9, 19.9, 0.0, 88.09, 20.0, 0.0),
        "Ours": (98.4, 91.6, 70.3, 41.6, 88.1, 64.9, 26.7, 89.2, 72.6, 37.6),
    },
    "cifar10": {
        "Natural": (87.2, 5.8, 2.4, 1.6, 0.7, 0.0, 0.0, 0.6, 0.0, 0.0),
        "AdvTrain": (84.5, 10.2, 5.8, 2.6, 1.4, 0.0, 0.0, 0.0, 0.0, 0.0),
        "CrossEntropy": (86.2, 19.1, 9.5, 6.1, 2.6, 0.7, 0.4, 2.1, 1.5, 1.4),
        "Ours": (84.2, 59.8, 41.9, 31.0, 54.6, 29.5, 20.3, 53.7, 29.8, 20.1),
        "Ours+AdvTrain": (83.1, 68.5, 48.5, 38.2, 62.7, 39.3, 30.3, 60.5, 39.0, 30.3),
        "MinMax": (79.4, 65.8, 55.6, 47.4, 64.2, 49.3, 41.1, 62.9, 48.5, 40.7),
    },
}
"""Tables 1 and 2, row by row in the order of `COLUMNS`."""
COST = 2.1
"""Of Ours over natural training, time per epoch."""
STATISTICS = {"Natural": (500.0, 1.1, 1.26, 65.6), "MinMax": (50.0, 54.0, 0.53, 97.1)}
"""Section 4.3: l1 norm of the Jacobian, its zeros in %, l1 norm of the Hessian, zeros among its eigenvalues in %."""
RATIOS = (10.0, 3.0)
"""Section 5.3: how much less the l1 norms of Jacobian and Hessian of Ours are than those of the natural model."""
NINETY = 88.0
"""What "about 90 %" is taken to be: the least entry that the paper says it of is 88.1."""
SIMILAR = 3.0
"""Points within which robustness is similar; the entries that the paper says it of differ by 1.1 at most."""
COMPARABLE = 10.0
"""Points within which it is comparable; the entries that the paper says it of differ by up to 9.2."""


def printed(name: str, method: str) -> dict[Cell, float]:
    """Return a published row, empty where the paper has none."""
    row = PUBLISHED[name].get(method, ())
    return dict(zip(COLUMNS, row, strict=bool(row)))


def mnist_claims(cells: Cells) -> list[Claim]:
    """Return what the paper says of table 1."""
    near = [cells["Ours", (attack, 0)] for attack in ATTACKS]
    apart = _differences(cells, "CrossEntropy", "Ours", 0)
    further = [value for k in (1, 2) for value in _differences(cells, "Ours", "CrossEntropy", k)]
    return [
        Claim(
            text=f"Ours keeps about 90 % (at least {NINETY:g}) under all attacks at ε = 0.1.",
            holds=_every(near, lambda value: value >= NINETY),
            evidence=f"FGSM, BIM and C&W leave {listed(near)} %.",
        ),
        Claim(
            text=f"The cross-entropy gradient does similarly (within {SIMILAR:g} points) at ε = 0.1.",
            holds=_every(apart, lambda value: abs(value) <= SIMILAR),
            evidence=f"It keeps {listed(apart, signed=True)} points more than Ours under FGSM, BIM and C&W.",
        ),
        Claim(
            text="Beyond, it drops faster than Ours: it keeps less under every attack at ε = 0.2 and 0.3.",
            holds=_every(further, lambda value: value > 0),
            evidence=f"Ours keeps {listed(further[:3], signed=True)} points more at 0.2, and "
            f"{listed(further[3:], signed=True)} at 0.3.",
        ),
    ]


def cifar_claims(cells: Cells) -> list[Claim]:
    """Return what the paper says of table 2."""
    gained = [value for k in range(3) for value in _differences(cells, "Ours+AdvTrain", "Ours", k)]
    behind = [_differences(cells, "MinMax", "Ours", k) for k in range(3)]
    over = [value for k in range(3) for value in _differences(cells, "Ours", "CrossEntropy", k)]
    return [
        Claim(
            text="Ours keeps more than the cross-entropy gradient under every attack.",
            holds=_every(over, lambda value: value > 0),
            evidence=f"By {listed(over, signed=True)} points (FGSM, BIM, C&W at 3, 6 and 9/255).",
        ),
        Claim(
            text="Ours+AdvTrain keeps more than Ours under every attack.",
            holds=_every(gained, lambda value: value > 0),
            evidence=f"By {listed(gained, signed=True)} points (FGSM, BIM, C&W at 3, 6 and 9/255).",
        ),
        Claim(
            text=f"Ours is comparable to MinMax (at most {COMPARABLE:g} points behind) at 3/255.",
            holds=_every(behind[0], lambda value: value <= COMPARABLE),
            evidence=f"MinMax keeps {listed(behind[0], signed=True)} points more under FGSM, BIM and C&W.",
        ),
        Claim(
            text="The larger the radius, the further it falls behind: at 9/255 more than at 3/255 under every attack.",
            holds=_every(_less(behind[2], behind[0]), lambda value: value > 0),
            evidence=f"At 9/255 MinMax keeps {listed(behind[2], signed=True)} points more.",
        ),
    ]


def adversarial_claim(name: str, cells: Cells) -> Claim:
    """Return which training the printed row AdvTrain is of."""
    row = printed(name, "AdvTrain")
    distances = []
    for method in ("AdvTrain", "MinMax"):
        found = [(cells[method, ("C&W", k)], row["C&W", k]) for k in range(3)]
        distances.append(mean([None if ours is None else abs(ours - theirs) for ours, theirs in found]))
    one_step, ten_steps = distances
    return Claim(
        text="What is printed for AdvTrain is not of the training in the appendix (10 iterations on the C&W loss): "
        "training on one-step examples comes nearer to it.",
        holds=None if one_step is None or ten_steps is None else one_step < ten_steps,
        evidence=f"Under C&W training on one-step examples is {one(one_step)} points from the printed row in the mean "
        f"over the radii, the appendix's training {one(ten_steps)}.",
        by="meseta",
    )


def missed_claim(left: Sequence[tuple[float | None, float | None]], radii: Sequence[str], steps: str) -> Claim:
    """Return whether finer steps find more than the paper's attacks; `left` are the accuracies that both leave."""
    found = [f"{one(coarse)} and {one(fine)} % at {eps}" for (coarse, fine), eps in zip(left, radii, strict=True)]
    gaps = [None if coarse is None or fine is None else coarse - fine for coarse, fine in left]
    return Claim(
        text=f"The paper's attacks, {steps}, overstate robustness: finer steps leave more than a point less of Ours at "
        "one of the radii at least.",
        holds=None if None in gaps else max(gap for gap in gaps if gap is not None) > 1,
        evidence=f"Of Ours the paper's three and the finer ones leave {', '.join(found)}.",
        by="meseta",
    )


def weight_claim(name: str, weight: float, lost: float | None, chosen: float) -> Claim:
    """Return whether the paper's weight can be of a mean over entries; `lost` are points of clean accuracy."""
    published = printed(name, "Natural")[CLEAN] - printed(name, "Ours")[CLEAN]
    return Claim(
        text=f"c = 500 cannot be of the mean over the entries of |∇L|, which is c = {weight:g} here: that costs a "
        "point more than twice the clean accuracy that the paper lost.",
        holds=None if lost is None else lost > 2 * published + 1,
        evidence=f"It costs {one(lost)} points on the held-out split, in the paper {published:.1f}; chosen here is "
        f"c = {chosen:g}.",
        by="meseta",
    )


def cost_claims(
    seconds: Mapping[str, Mapping[str, float]], operations: Mapping[str, Mapping[str, float]]
) -> list[Claim]:
    """Return what the paper says of time; both are over a natural step, by data set and method."""
    ours, minmax = ([seconds[name][method] for name in seconds] for method in ("Ours", "MinMax"))
    counted = [operations[name]["MinMax"] for name in operations]
    average = sum(ours) / len(ours)
    return [
        Claim(
            text="Ours takes 2.1 times as long as natural training per epoch (1.8 to 2.4 counts).",
            holds=1.8 <= average <= 2.4,
            evidence=f"{average:.2f} times in the mean of both networks: {listed(ours, digits=2)}.",
        ),
        Claim(
            text="MinMax takes over 10 times of overhead.",
            holds=all(value > 10 for value in minmax),
            evidence=f"{listed(minmax, digits=1)} times the seconds, {listed(counted, digits=1)} times the operations: "
            "a pass of the attack asks for no gradient of the weights.",
        ),
    ]


Statistics = Mapping[str, Sequence[float | None]]
"""By method, in the order of `STATISTICS`."""


def statistics_claims(
    found: Statistics, relative: Mapping[str, float | None], reaches: Mapping[str, float]
) -> list[Claim]:
    """Return what the paper says of Jacobian and Hessian.

    Args:
        found: the statistics.
        relative: entries of the Jacobian below 1 % of the largest, in %.
        reaches: first-order distances to the boundary.
    """
    natural, ours, minmax = found["Natural"], found["Ours"], found["MinMax"]
    slopes = [_ratio(natural[0], minmax[0]), _ratio(natural[0], ours[0])]
    further = [_ratio(reaches[method], reaches["Natural"]) for method in ("MinMax", "Ours")]
    curvature = [_ratio(natural[2], minmax[2]), _ratio(natural[2], ours[2])]
    zeros, shares = [natural[1], minmax[1]], [relative["Natural"], relative["MinMax"]]
    gained, gained_relative = _gap(zeros), _gap(shares)
    return [
        Claim(
            text="The l1 norm of the Jacobian of MinMax and Ours is ten times less than natural's (5 or more count).",
            holds=_every(slopes, lambda value: value >= 5),
            evidence=f"{listed(slopes, digits=1)} times less.",
        ),
        Claim(
            text="Part of that is scale: the margin shrinks too, and the first-order distance L / ‖J‖₁ grows by less "
            "than ‖J‖₁ shrinks.",
            holds=_every(_less(slopes, further), lambda value: value > 0),
            evidence=f"It grows {listed(further)} times.",
            by="meseta",
        ),
        Claim(
            text="That of the Hessian is two and three times less (1.5 or more count).",
            holds=_every(curvature, lambda value: value >= 1.5),
            evidence=f"{listed(curvature, digits=1)} times less, of the loss's Hessian.",
        ),
        Claim(
            text="The Jacobian of MinMax is sparser: more of its entries are below 0.01.",
            holds=None if gained is None else gained > 0,
            evidence=f"{listed(zeros)} % of the entries, natural and MinMax.",
        ),
        Claim(
            text="Most of that sparsity is scale: the gain in entries below 1 % of the largest one is less than half "
            "of that in entries below 0.01.",
            holds=None if gained is None or gained_relative is None else gained_relative < gained / 2,
            evidence=f"{listed(shares)} % of the entries are below 1 % of the largest, natural and MinMax.",
            by="meseta",
        ),
    ]


def hessian_claims(
    zeros: Mapping[str, tuple[float, float]], size: int, largest: float, smooth: Statistics
) -> list[Claim]:
    """Return which Hessian the paper can have measured.

    Args:
        zeros: by method, the share in % of eigenvalues of the loss's Hessian below 10e-10, in float32 and float64.
        size: values of an input.
        largest: entry of products of the decision function's Hessian, of the natural network.
        smooth: l1 norms of Jacobian and Hessian of the decision function of SiLU networks.
    """
    least = 100 * (size - 9) / size  # of ten classes, the rank is at most nine
    single, double = ([pair[k] for pair in zeros.values()] for k in range(2))
    ratios = [_ratio(smooth["Natural"][k], smooth["Ours"][k]) for k in range(2)]
    return [
        Claim(
            text="The Hessian of the paper cannot be that of the decision function, which is zero on a ReLU network.",
            holds=largest == 0,
            evidence=f"The largest entry of its products with random vectors is {largest:g}.",
            by="meseta",
        ),
        Claim(
            text=f"Nor are the printed zeros of its spectrum (65.6 and 97.1 %) those of the loss's, of which at least "
            f"{least:.1f} % are zero, its rank being at most nine: below 10e-10 float32 shows its rounding, which "
            "takes more than a point of them away.",
            holds=min(double) >= least - 1e-6 and min(single) < least - 1,
            evidence=f"Below 10e-10 are {listed(single)} % in float32 and {listed(double)} % in float64 "
            f"({', '.join(zeros)}).",
            by="meseta",
        ),
        Claim(
            text="On a network with SiLU, whose decision function does bend, the penalty flattens the Hessian too, "
            "though it asks for the slope alone: three times less (2 or more count).",
            holds=None if ratios[1] is None else ratios[1] >= 2,
            evidence=f"There the l1 norms of Jacobian and Hessian of Ours are {listed(ratios)} times less.",
            by="meseta",
        ),
    ]


def slope_claim(slopes: Mapping[str, tuple[float | None, float | None]]) -> Claim:
    """Return whether the loss hides slopes; `slopes` are l1 norms, of the decision function and of the loss."""
    (decision, loss), (ours_decision, ours_loss) = slopes["CrossEntropy"], slopes["Ours"]
    known = None not in (decision, loss, ours_decision, ours_loss)
    return Claim(
        text="The cross-entropy gradient is small where softmax has saturated, so that its penalty leaves the decision "
        "function steeper than Ours.",
        holds=(decision or 0) / (loss or 1) > (ours_decision or 0) / (ours_loss or 1)
        and (decision or 0) > (ours_decision or 0)
        if known
        else None,
        evidence=f"CrossEntropy has ‖∇L‖₁ = {one(decision)} over ‖∇ℓ‖₁ = {two(loss)}, Ours {one(ours_decision)} over "
        f"{two(ours_loss)}.",
    )


def surface_claims(rises: Sequence[Sequence[float | None]], stands: Sequence[Sequence[float | None]]) -> list[Claim]:
    """Return what the paper sees on its surfaces.

    Args:
        rises: of the loss over parameters, then over inputs: of natural and of MinMax.
        stands: of natural, then of MinMax: the share in % of the ball on the map where the decision stands, on the
            random and on the adversarial map.
    """
    (natural_over_weights, minmax_over_weights), (natural_over_inputs, minmax_over_inputs) = rises
    over_weights = _ratio(natural_over_weights, minmax_over_weights)
    over_inputs = _ratio(natural_over_inputs, minmax_over_inputs)
    natural, minmax = stands
    return [
        Claim(
            text="Loss surfaces over inputs tell natural from MinMax, those over parameters do not: natural's rises "
            "further over inputs, and by a larger factor than over parameters.",
            holds=None if over_weights is None or over_inputs is None else over_inputs > max(1, over_weights),
            evidence=f"The mean rise around the centre, natural over MinMax: {two(over_inputs)} over inputs "
            f"(example 0, CIFAR-10), {two(over_weights)} over parameters.",
        ),
        Claim(
            text="MinMax has all of its neighbourhood within 0.3 on the plateau, natural falls off it (MNIST).",
            holds=None
            if None in (*natural, *minmax)
            else min(value or 0 for value in minmax) == 100 and min(value or 0 for value in natural) < 100,
            evidence=f"Of the ball on the random and the adversarial map of example 0 the decision stands on "
            f"{listed(minmax)} % of MinMax and {listed(natural)} % of natural.",
        ),
    ]


def one(value: float | None) -> str:
    """Write a value with one digit."""
    return listed([value])


def two(value: float | None) -> str:
    """Write a value with two digits."""
    return listed([value], digits=2)


def listed(values: Sequence[float | None], *, signed: bool = False, digits: int = 1) -> str:
    """Write values in a row."""
    form = f"{'+' if signed else ''}.{digits}f"
    texts = ["–" if value is None else format(value, form) for value in values]
    return " and ".join([", ".join(texts[:-1]), texts[-1]]) if len(texts) > 1 else "".join(texts)


def _differences(cells: Cells, method: str, other: str, k: int) -> list[float | None]:
    """Return by how much a method keeps more than another under each attack at the k-th radius."""
    return _less([cells[method, (attack, k)] for attack in ATTACKS], [cells[other, (attack, k)] for attack in ATTACKS])


def _less(values: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    pairs = zip(values, others, strict=True)
    return [None if value is None or other is None else value - other for value, other in pairs]


def _every(values: Sequence[float | None], holds: Callable[[float], bool]) -> bool | None:
    """Return whether it holds of all values; None where one is missing."""
    known = [value for value in values if value is not None]
    return all(map(holds, known)) if known and len(known) == len(values) else None


def _ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other


def _gap(pair: Sequence[float | None]) -> float | None:
    """Return by how much the second is larger."""
    return _less(pair[1:], pair[:1])[0]
