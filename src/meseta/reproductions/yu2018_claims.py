"""What Yu et al. 2018 print and say, and whether figures bear it out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot

from meseta.report.comparison import newcombe
from meseta.report.reproduced import Claim
from meseta.reproductions.lab import alike, all_hold, exceeds, mean, negated, reaches

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
NINETY = 87.0
"""What "about 90 %" is taken to be: the least entry that the paper says it of is 88.1, 87.5 less by chance."""
SIMILAR = 3.0
"""Points within which robustness is similar; the entries that the paper says it of differ by 1.1 at most."""
COMPARABLE = 12.0
"""Points within which it is comparable; the entries that the paper says it of differ by up to 9.6, 11 by chance."""
PRINTED_WEIGHT = 500
RANGES = {"mnist": {"in [0, 1]": 1.0}, "cifar10": {"in [0, 1]": 1.0, "from 0 to 255": 255.0}}
"""The ranges of inputs that the printed weight may be meant for, with their upper ends."""
CLEAR = 1.0
"""Points of entries by which a Jacobian is clearly sparser."""


@dataclass(frozen=True)
class Sample:
    """What accuracies are of: n examples, and means over so many seeds. What chance may do is taken from n alone."""

    n: int
    seeds: int

    def __str__(self) -> str:
        return f"n = {self.n}, {self.seeds} seed{'' if self.seeds == 1 else 's'}"


def printed(name: str, method: str) -> dict[Cell, float]:
    """Return a published row, empty where the paper has none."""
    row = PUBLISHED[name].get(method, ())
    return dict(zip(COLUMNS, row, strict=bool(row)))


def mnist_claims(cells: Cells, sample: Sample, unaffordable: Sequence[str]) -> list[Claim]:
    """Return what the paper says of table 1; nothing of Ours against CrossEntropy where a weight of one costs much."""
    n, missing = sample.n, _missing(unaffordable)
    near = [cells["Ours", (attack, 0)] for attack in ATTACKS]
    apart = _differences(cells, "CrossEntropy", "Ours", 0)
    further = [value for k in (1, 2) for value in _differences(cells, "Ours", "CrossEntropy", k)]
    similar = [alike(one, other, n, within=SIMILAR) for one, other in _pairs(cells, "CrossEntropy", "Ours", 0)]
    faster = [exceeds(one, other, n) for k in (1, 2) for one, other in _pairs(cells, "Ours", "CrossEntropy", k)]
    return [
        Claim(
            text=f"Ours keeps about 90 % (at least {NINETY:g}) under all attacks at ε = 0.1.",
            holds=all_hold(reaches(value, NINETY, n) for value in near),
            evidence=f"FGSM, BIM and C&W leave {listed(near)} % ({sample}).",
        ),
        Claim(
            text=f"The cross-entropy gradient does similarly (within {SIMILAR:g} points) at ε = 0.1.",
            holds=None if missing else all_hold(similar),
            evidence=f"It keeps {listed(apart, signed=True)} points more than Ours under FGSM, BIM and C&W "
            f"({sample}).{missing}",
        ),
        Claim(
            text="Beyond, it drops faster than Ours: it keeps less under every attack at ε = 0.2 and 0.3.",
            holds=None if missing else all_hold(faster),
            evidence=f"Ours keeps {listed(further[:3], signed=True)} points more at 0.2, and "
            f"{listed(further[3:], signed=True)} at 0.3 ({sample}).{missing}",
        ),
    ]


def cifar_claims(cells: Cells, sample: Sample, unaffordable: Sequence[str]) -> list[Claim]:
    """Return what the paper says of table 2; nothing of Ours against CrossEntropy where a weight of one costs much."""
    n, missing = sample.n, _missing(unaffordable)
    over, gained = (
        [pair for k in range(3) for pair in _pairs(cells, method, other, k)]
        for method, other in (("Ours", "CrossEntropy"), ("Ours+AdvTrain", "Ours"))
    )
    behind = [_pairs(cells, "MinMax", "Ours", k) for k in range(3)]
    near, far = (_differences(cells, "MinMax", "Ours", k) for k in (0, 2))
    return [
        Claim(
            text="Ours keeps more than the cross-entropy gradient under every attack.",
            holds=None if missing else all_hold(exceeds(one, other, n) for one, other in over),
            evidence=f"By {listed([_gap(pair) for pair in over], signed=True)} points (FGSM, BIM, C&W at 3, 6 and "
            f"9/255; {sample}).{missing}",
        ),
        Claim(
            text="Ours+AdvTrain keeps more than Ours under every attack.",
            holds=all_hold(exceeds(one, other, n) for one, other in gained),
            evidence=f"By {listed([_gap(pair) for pair in gained], signed=True)} points (FGSM, BIM, C&W at 3, 6 and "
            f"9/255; {sample}).",
        ),
        Claim(
            text=f"Ours is comparable to MinMax (at most {COMPARABLE:g} points behind) at 3/255.",
            holds=all_hold(negated(exceeds(one, other, n, by=COMPARABLE)) for one, other in behind[0]),
            evidence=f"MinMax keeps {listed(near, signed=True)} points more under FGSM, BIM and C&W ({sample}).",
        ),
        Claim(
            text="The larger the radius, the further it falls behind: at 9/255 more than at 3/255 under every attack.",
            holds=all_hold(_grows(first, last, n) for first, last in zip(behind[0], behind[2], strict=True)),
            evidence=f"MinMax keeps {listed(near, signed=True)} points more at 3/255, {listed(far, signed=True)} at "
            f"9/255 ({sample}).",
        ),
    ]


def adversarial_claim(name: str, cells: Cells, sample: Sample, steps: int) -> Claim:
    """Return which training the printed row AdvTrain is of; `steps` are those of MinMax."""
    row = printed(name, "AdvTrain")
    pairs = [(cells["AdvTrain", ("C&W", k)], cells["MinMax", ("C&W", k)], row["C&W", k]) for k in range(3)]
    one_step = mean([None if value is None else abs(value - said) for value, _, said in pairs])
    many = mean([None if value is None else abs(value - said) for _, value, said in pairs])
    return Claim(
        text="What is printed for AdvTrain is not of the training in the appendix (10 iterations on the C&W loss): "
        "training on one-step examples comes nearer to it.",
        holds=_nearer(pairs, sample.n),
        evidence=f"Under C&W training on one-step examples is {one(one_step)} points from the printed row in the mean "
        f"over the radii, MinMax of {steps} steps on the C&W loss {one(many)} ({sample}).",
        by="meseta",
    )


def missed_claim(
    left: Sequence[tuple[float | None, float | None]], radii: Sequence[str], steps: str, sample: Sample
) -> Claim:
    """Return whether finer steps find more than the paper's attacks; `left` are the accuracies that both leave."""
    found = [f"{one(coarse)} and {one(fine)} % at {eps}" for (coarse, fine), eps in zip(left, radii, strict=True)]
    told = [exceeds(coarse, fine, sample.n, by=1) for coarse, fine in left]
    return Claim(
        text=f"The paper's attacks, {steps}, overstate robustness: finer steps from a random start, of which every "
        "iterate counts, leave more than a point less of Ours at one of the radii at least.",
        holds=negated(all_hold(map(negated, told))),
        evidence=f"Of Ours the paper's three and the finer ones leave {', '.join(found)} ({sample}).",
        by="meseta",
    )


def weight_claims(
    name: str, lowered: Mapping[str, tuple[float, float | None]], natural: float | None, chosen: float, n: int
) -> list[Claim]:
    """Return whether the paper's weight can be of a mean over entries, by inputs of each range.

    Args:
        name: of the data set.
        lowered: by range of inputs, the weight and the clean accuracy of Ours with it, of n held-out examples.
        natural: clean accuracy of natural training, of the same.
        chosen: the weight that was chosen.
        n: how many examples were held out.
    """
    published = printed(name, "Natural")[CLEAN] - printed(name, "Ours")[CLEAN]
    claims = []
    for span, (weight, clean) in lowered.items():
        unit = span == "in [0, 1]"
        lost = None if natural is None or clean is None else natural - clean
        much = exceeds(natural, clean, n, by=2 * published + 1)
        cost = "a point more than twice the clean accuracy that the paper lost"
        claims.append(
            Claim(
                text=f"c = {PRINTED_WEIGHT} {'cannot' if unit else 'can'} be of the mean over the entries of |∇L| by "
                f"inputs {span}, which is c = {weight:g} here: trained like this, that "
                f"{f'costs {cost}' if unit else f'costs no more than {cost}'}.",
                holds=much if unit else negated(much),
                evidence=f"It costs {one(lost)} points on the held-out split (n = {n}, 1 seed), in the paper "
                f"{published:.1f}; chosen here is c = {chosen:g}.",
                by="meseta",
            )
        )
    return claims


def cost_claims(
    seconds: Mapping[str, Mapping[str, float]], operations: Mapping[str, Mapping[str, float]], steps: int
) -> list[Claim]:
    """Return what the paper says of time; both are over a natural step, by data set and method.

    `steps` are those of MinMax.
    """
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
            evidence=f"With {steps} steps {listed(minmax, digits=1)} times the seconds, {listed(counted, digits=1)} "
            "times the operations: a pass of the attack asks for no gradient of the weights.",
        ),
    ]


Statistics = Mapping[str, Sequence[float | None]]
"""By method, in the order of `STATISTICS`."""


def statistics_claims(
    found: Statistics, relative: Mapping[str, float | None], reaches: Mapping[str, float | None], n: int
) -> list[Claim]:
    """Return what the paper says of Jacobian and Hessian.

    Args:
        found: the statistics.
        relative: entries of the Jacobian below 1 % of the largest, in %.
        reaches: first-order distances to the boundary.
        n: examples that all are means of.
    """
    natural, ours, minmax = found["Natural"], found["Ours"], found["MinMax"]
    slopes = [_ratio(natural[0], minmax[0]), _ratio(natural[0], ours[0])]
    further = [_ratio(reaches[method], reaches["Natural"]) for method in ("MinMax", "Ours")]
    curvature = [_ratio(natural[2], minmax[2]), _ratio(natural[2], ours[2])]
    zeros, shares = [natural[1], minmax[1]], [relative["Natural"], relative["MinMax"]]
    gained, gained_relative = _gap(zeros[::-1]), _gap(shares[::-1])
    shrinks = _every(slopes, lambda value: value > 1)
    return [
        Claim(
            text="The l1 norm of the Jacobian of MinMax and Ours is ten times less than natural's (5 or more count).",
            holds=_every(slopes, lambda value: value >= 5),
            evidence=f"{listed(slopes, digits=1)} times less (n = {n}).",
        ),
        Claim(
            text="Part of that is scale: the margin shrinks too, and the first-order distance L / ‖J‖₁ grows by less "
            "than ‖J‖₁ shrinks.",
            holds=_every(_less(slopes, further), lambda value: value > 0) if shrinks else None,
            evidence=f"It grows {listed(further)} times"
            f"{', but ‖J‖₁ does not shrink in both' if shrinks is False else ''}.",
            by="meseta",
        ),
        Claim(
            text="That of the Hessian is two and three times less (1.5 or more count).",
            holds=_every(curvature, lambda value: value >= 1.5),
            evidence=f"{listed(curvature, digits=1)} times less, of the loss's Hessian.",
        ),
        Claim(
            text="The Jacobian of MinMax is sparser: more of its entries are below 0.01.",
            holds=None if gained is None or abs(gained) < CLEAR else gained > 0,
            evidence=f"{listed(zeros)} % of the entries, natural and MinMax; {CLEAR:g} point apart is clear.",
        ),
        Claim(
            text="Most of that sparsity is scale: the gain in entries below 1 % of the largest one is less than half "
            "of that in entries below 0.01.",
            holds=None if gained is None or gained_relative is None or gained < CLEAR else gained_relative < gained / 2,
            evidence=f"{listed(shares)} % of the entries are below 1 % of the largest, natural and MinMax"
            f"{'; there is no clear gain to explain' if gained is not None and gained < CLEAR else ''}.",
            by="meseta",
        ),
    ]


def hessian_claims(
    zeros: Mapping[str, tuple[float, float]], size: int, largest: float | None, smooth: Statistics
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
            holds=None if largest is None else largest == 0,
            evidence="The largest entry of its products with random vectors is "
            f"{'–' if largest is None else format(largest, 'g')}.",
            by="meseta",
        ),
        Claim(
            text=f"Nor are the printed zeros of its spectrum (65.6 and 97.1 %) those of the loss's, of which at least "
            f"{least:.1f} % are zero, its rank being at most nine: below 10e-10 float32 shows its rounding, which "
            "takes more than a point of them away.",
            holds=min(double) >= least - 1e-6 and min(single) < least - 1 if zeros else None,
            evidence=f"Below 10e-10 are {listed(single)} % in float32 and {listed(double)} % in float64 "
            f"({', '.join(zeros)})."
            if zeros
            else "No network is better than chance.",
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


def slope_claim(slopes: Mapping[str, tuple[float | None, float | None]], unaffordable: Sequence[str]) -> Claim:
    """Return whether the loss hides slopes; `slopes` are l1 norms, of the decision function and of the loss."""
    (decision, loss), (ours_decision, ours_loss) = slopes["CrossEntropy"], slopes["Ours"]
    hidden, ours_hidden, steeper = (
        _ratio(decision, loss),
        _ratio(ours_decision, ours_loss),
        _gap((decision, ours_decision)),
    )
    missing = _missing(unaffordable)
    known = None not in (hidden, ours_hidden, steeper) and not missing
    return Claim(
        text="The cross-entropy gradient is small where softmax has saturated, so that its penalty leaves the decision "
        "function steeper than Ours.",
        holds=(hidden or 0) > (ours_hidden or 0) and (steeper or 0) > 0 if known else None,
        evidence=f"CrossEntropy has ‖∇L‖₁ = {one(decision)} over ‖∇ℓ‖₁ = {two(loss)}, Ours {one(ours_decision)} over "
        f"{two(ours_loss)}.{missing}",
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


def _missing(unaffordable: Sequence[str]) -> str:
    """Return why two methods cannot be compared: a weight that costs too much is none that the rule chose."""
    if not unaffordable:
        return ""
    return f" Not compared: no weight of {' and '.join(unaffordable)} costs as little clean accuracy as the rule asks."


def _pairs(cells: Cells, method: str, other: str, k: int) -> list[tuple[float | None, float | None]]:
    """Return the accuracies of two methods under each attack at the k-th radius."""
    return [(cells[method, (attack, k)], cells[other, (attack, k)]) for attack in ATTACKS]


def _differences(cells: Cells, method: str, other: str, k: int) -> list[float | None]:
    """Return by how much a method keeps more than another under each attack at the k-th radius."""
    return [_gap(pair) for pair in _pairs(cells, method, other, k)]


def _less(values: Sequence[float | None], others: Sequence[float | None]) -> list[float | None]:
    return [_gap(pair) for pair in zip(values, others, strict=True)]


def _gap(pair: Sequence[float | None]) -> float | None:
    """Return by how much the first is larger."""
    value, other = pair
    return None if value is None or other is None else value - other


def _grows(before: tuple[float | None, float | None], after: tuple[float | None, float | None], n: int) -> bool | None:
    """Return whether a difference of two accuracies in % is larger after than before.

    None where chance alone may decide: where the interval of the change, by those of both differences as Newcombe joins
    those of two shares, holds 0.
    """
    (a, b), (c, d) = before, after
    if a is None or b is None or c is None or d is None:
        return None
    change = (c - d) - (a - b)
    low, high = newcombe(a / 100, n, b / 100, n)
    later_low, later_high = newcombe(c / 100, n, d / 100, n)
    down = 100 * hypot((c - d) / 100 - later_low, high - (a - b) / 100)
    up = 100 * hypot(later_high - (c - d) / 100, (a - b) / 100 - low)
    return None if change - down <= 0 <= change + up else change > 0


def _nearer(triples: Sequence[tuple[float | None, float | None, float]], n: int) -> bool | None:
    """Return whether the first accuracies in % are nearer to the third than the second are, in the mean.

    None where chance alone may decide: two distances differ by chance by no more than the accuracies do.
    """
    gaps, chances = [], []
    for first, second, said in triples:
        if first is None or second is None:
            return None
        low, high = newcombe(first / 100, n, second / 100, n)
        gaps.append(abs(second - said) - abs(first - said))
        chances.append(50 * (high - low))
    gap, chance = sum(gaps) / len(gaps), sum(chances) / len(chances)
    return None if abs(gap) <= chance else gap > 0


def _every(values: Sequence[float | None], holds: Callable[[float], bool]) -> bool | None:
    """Return whether it holds of all values; None where one is missing."""
    known = [value for value in values if value is not None]
    return all(map(holds, known)) if known and len(known) == len(values) else None


def _ratio(value: float | None, other: float | None) -> float | None:
    return None if value is None or not other else value / other
