"""Guo et al. 2020's propositions on trained networks, as printed and as they hold.

Everything is taken on the linear piece of each input, from its logits z and their gradients v_k: p = softmax z,
grad l = sum_k (p_k - [k = y]) v_k and H = sum_k p_k (v_k - v)(v_k - v)^T with v = sum_k p_k v_k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from meseta.attacks import DeepFool, MinimumNormAttack
from meseta.autodiff.jacobian import logits_and_jacobian
from meseta.autodiff.scalar_fields import Model
from meseta.certificates import BinaryTaylor, LinearPiece
from meseta.certificates.taylor import loss_gap, taylor_radius
from meseta.errors import UserError
from meseta.evaluation.record import Record
from meseta.models import Network
from meseta.papers.guo2020 import distances_of
from meseta.report.reproduced import Claim, Entry, Part, ReproducedTable, Row
from meseta.shapes import Float
from meseta.threat import Threat
from meseta.workflow import load_run

Penalty = Literal["cross_lipschitz", "jacobian"]

LARGE = 1e-9
"""By how much, relatively, one side of an inequality must be above the other to count as a failure in float64."""


@dataclass(frozen=True)
class LinearPieces:
    """What a network is at each of some inputs that it classifies correctly, with p_y > 1/2; float64.

    Attributes:
        x: (n, *input). y: (n,).
        z: (n, K), the logits. v: (n, K, d), their gradients.
        sure: of all inputs given, which these are.
    """

    x: Tensor
    y: Tensor
    z: Float[Tensor, "n k"]
    v: Float[Tensor, "n k d"]
    sure: Tensor

    @classmethod
    def of(cls, model: Model, x: Tensor, y: Tensor) -> "LinearPieces":
        """Return the pieces of the inputs that are classified correctly with p_y > 1/2."""
        z, v = logits_and_jacobian(model, x)
        z, v = z.double(), v.flatten(2).double()
        sure = loss_gap(z, y) > 0
        return cls(x[sure], y[sure], z[sure], v[sure], sure)

    @property
    def classes(self) -> int:
        """K."""
        return self.z.shape[1]

    @property
    def p(self) -> Float[Tensor, "n k"]:
        """The probabilities."""
        return self.z.softmax(1)

    @property
    def confidence(self) -> Float[Tensor, "n"]:
        """p_y."""
        return self.p.gather(1, self.y[:, None]).squeeze(1)

    @property
    def doubt(self) -> Float[Tensor, "n"]:
        """1 - p_y, exact also where p_y is near 1."""
        return self.p.scatter(1, self.y[:, None], 0).sum(1)

    @property
    def loss(self) -> Float[Tensor, "n"]:
        """The cross-entropy."""
        return cross_entropy(self.z, self.y, reduction="none")

    @property
    def gap(self) -> Float[Tensor, "n"]:
        """xi = log 2 - l."""
        return loss_gap(self.z, self.y)

    @property
    def gradient(self) -> Float[Tensor, "n d"]:
        """The gradient of the loss."""
        others = self.p * (1 - one_hot(self.y, self.classes)) - one_hot(self.y, self.classes) * self.doubt[:, None]
        return torch.einsum("nk,nkd->nd", others, self.v)

    @property
    def root(self) -> Float[Tensor, "n k d"]:
        """R with H = R^T R: the rows sqrt(p_k) (v_k - v)."""
        mean = torch.einsum("nk,nkd->nd", self.p, self.v - self._own) + self._own.squeeze(1)
        return self.p.sqrt()[:, :, None] * (self.v - mean[:, None])

    @property
    def _own(self) -> Float[Tensor, "n 1 d"]:
        """v_y, from which differences are taken, so that what all logits share cancels first."""
        return self.v[torch.arange(len(self.y)), self.y][:, None]

    def curvature_along(self, r: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Return r^T H r."""
        return torch.einsum("nkd,nd->nk", self.root, r).square().sum(1)

    def quadratic(self, r: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Return the quadratic model of the loss at x + r."""
        return self.loss + (self.gradient * r).sum(1) + self.curvature_along(r) / 2

    @property
    def top(self) -> tuple[Float[Tensor, "n"], Float[Tensor, "n d"]]:
        """||H||_2 and its unit eigenvector."""
        values, vectors = torch.linalg.eigh(self.root @ self.root.transpose(1, 2))
        u = torch.einsum("nk,nkd->nd", vectors[:, :, -1], self.root)
        return values[:, -1].clamp_min(0), u / u.norm(dim=1, keepdim=True).clamp_min(1e-300)

    @property
    def nu2(self) -> Float[Tensor, "n"]:
        """The cross-Lipschitz functional (1/K^2) sum_{i,j} ||v_i - v_j||_2^2; for K = 2 half of the paper's nu^2."""
        centred = self.v - self.v.mean(1, keepdim=True)
        return 2 / self.classes * centred.square().sum((1, 2))

    @property
    def nu(self) -> Float[Tensor, "n"]:
        """||v_+ - v_-||_2 of two classes."""
        length: Tensor = torch.linalg.vector_norm(self.v[:, 0] - self.v[:, 1], dim=1)
        return length

    @property
    def mu(self) -> Float[Tensor, "n"]:
        """||V||_F."""
        return self.v.square().sum((1, 2)).sqrt()

    def lower(self, gap: Tensor) -> Tensor:
        """Return Lemma 3.1's lower bound of ||r*||_2 for a gap."""
        return taylor_radius(gap, self.gradient.norm(dim=1), self.top[0])

    def upper(self, gap: Tensor) -> Tensor:
        """Return Lemma 3.1's upper bound."""
        value, u = self.top
        return taylor_radius(gap, (self.gradient * u).sum(1).abs(), value)

    def eq16(self, gap: Tensor, pairs: float, nu2: Tensor | None = None) -> Tensor:
        """Return the bound (16) with `pairs` in place of its K (K - 1), and with section 4's nu^2 or another."""
        p, mu = self.confidence, self.mu
        nu2 = self.nu2 if nu2 is None else nu2
        return 4 * mu / (pairs * p * nu2) * ((1 + pairs * p * nu2 * gap / (4 * self.doubt * mu**2)).sqrt() - 1)

    def eq17(self, gap: Tensor) -> Tensor:
        """Return the bound (17)."""
        p = self.confidence
        return ((1 + p * gap / self.doubt).sqrt() - 1) / (p * self.mu)

    def failures(self, smaller: Tensor, larger: Tensor) -> float:
        """Return the share, in %, of examples at which what should be smaller is not."""
        return 100 * float((smaller > larger * (1 + LARGE)).double().mean())


def overstatement(p: float) -> float:
    """Return Proposition 3.1's distance over that at which the linear piece itself errs, log(p / (1 - p)) / nu."""
    gap = log(2) + log(p)
    return (sqrt(1 + 2 * p * gap / (1 - p)) - 1) / p / log(p / (1 - p))


@dataclass(frozen=True)
class LastLayer:
    """The problem of Proposition 3.4: only the last layer, z = W a + b, of a piecewise-linear network is trained.

    The gradient of a logit is v_k = A^T w_k, A the Jacobian of the features a, so that the penalties are quadratic in
    W with the metric M = mean A A^T. Features are kept in coordinates in which M is the identity.

    Attributes:
        features: (n, m). y: (n,). classes: K.
    """

    features: Tensor
    y: Tensor
    classes: int

    @classmethod
    def of(cls, network: Network, x: Tensor, y: Tensor) -> "LastLayer":
        """Return the problem on some inputs, for a network that ends in a linear layer."""
        before = nn.Sequential(network.normalize, *list(network.body)[:-1]).eval()
        values, metric = [], torch.zeros((), dtype=torch.float64)
        for part in torch.split(x, 64):
            a, jacobian = logits_and_jacobian(before, part)
            rows = jacobian.flatten(2).double()
            values.append(a.double())
            metric = metric + torch.einsum("nkd,nld->kl", rows, rows) / len(x)
        lengths, basis = torch.linalg.eigh(metric)
        seen = lengths > 1e-10 * lengths.max()  # units that no input moves have no part in the problem
        return cls(torch.cat(values).detach() @ basis[:, seen] / lengths[seen].sqrt(), y, network.classes)

    def solve(self, penalty: Penalty, weight: float) -> Tensor:
        """Return the centred weights (K, m) that minimise the mean loss plus the weighted penalty.

        The cross-Lipschitz penalty leaves open what all w_k share, so that only centred weights can be compared.
        """
        shape = self.classes, self.features.shape[1]
        w = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        b = torch.zeros(self.classes, dtype=torch.float64, requires_grad=True)
        descent = torch.optim.LBFGS(
            [w, b],
            max_iter=1000,
            history_size=50,
            tolerance_grad=1e-9,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def value() -> float:
            descent.zero_grad()
            total = cross_entropy(self.features @ w.T + b, self.y) + weight * self.penalty(w, penalty)
            total.backward()  # type: ignore[no-untyped-call]
            return float(total.detach())

        descent.step(value)  # type: ignore[no-untyped-call]
        return (w - w.mean(0)).detach()

    def penalty(self, w: Tensor, name: Penalty) -> Tensor:
        """Return the mean of (1/K^2) sum ||v_i - v_j||^2, which is the paper's nu^2 / 2 for K = 2, or of ||V||_F^2."""
        return w.square().sum() if name == "jacobian" else 2 / self.classes * (w - w.mean(0)).square().sum()

    def apart(self, one: Tensor, other: Tensor) -> float:
        """Return how far the logits of two solutions are apart, relative to those of the first."""
        return float((self.features @ (one - other).T).norm() / (self.features @ one.T).norm())


@dataclass(frozen=True)
class Findings:
    """What one network says to the propositions.

    Attributes:
        classes: K.
        shares: in %, of the examples at which an inequality fails, by its name.
        numbers: by name.
        layers: by weight, how far the solutions of Proposition 3.4 are apart: at equal weights, and with the
            cross-Lipschitz weight K/2 times as large.
    """

    classes: int
    shares: Mapping[str, float]
    numbers: Mapping[str, float]
    layers: Mapping[float, tuple[float, float]]


ABOVE, NOT_BELOW = "above ‖r*‖₂", "above Lemma 3.1's lower bound of ‖r*‖₂"
"""How a lower bound of ‖r*‖₂ fails: it is above Lemma 3.1's upper bound, or not proved by the lower. For K = 2 both
bounds of the lemma are one."""
GUARANTEE = "3.1: an adversarial example was found nearer than its distance"
LOSS = "3.3: the loss at x + ε sign(∇ℓ) is above the bound"
PRINTED_16 = "(16) as printed, K(K − 1)"
MENDED_16 = "(16) with K²"
OTHER_16 = "(16) as printed, with section 3's ν"
EQ_17 = "(17)"
PRINTED_43 = "(43) as printed, ‖H‖₂ ≤ K(K − 1)ν²/8"
MENDED_43 = "(43) with K²"
OTHER_43 = "(43) as printed, with section 3's ν"
SQUARED = "‖∇‖₂²/2 ≤ ‖H‖₂ ≤ ‖V‖F²/2"
UNSQUARED = "the same without squares, as section 4 prints it"
BINARY = "‖∇‖₂² ≤ ‖H‖₂ ≤ ‖V‖F²/2, for K = 2"
STEEP = "νγ above 1.28 (appendix G)"
COLLAPSE = "Lemma 3.1: the upper bound over the lower, largest"
OVERSTATED = "3.1 over the distance at which the linear piece errs, median"
INSIDE = "(8) as printed, −1 under the root, over Lemma 3.1, largest"
REACHED = "3.2: the quadratic model of the loss at its r, over log 2, farthest from 1"
WORST = "3.3: the quadratic model at ε sign(∇ℓ), over the bound, farthest from 1"
AT_BOUNDARY = "loss at the nearest misclassified points that DeepFool finds, median"
STEEPNESS = "νγ, mean"
WEIGHTS = (1e-4, 1e-2, 1.6)
"""At which Proposition 3.4 is checked."""


def examine(
    run: Path,
    *,
    eps: float,
    n: int | None,
    attacks: Sequence[MinimumNormAttack],
    weights: Sequence[float] = WEIGHTS,
) -> Findings:
    """Hold the propositions against a trained network.

    Args:
        run: its folder; its record has the distances that the attacks find.
        eps: the L∞ radius of Proposition 3.3.
        n: test examples; None for all.
        attacks: minimum-norm attacks, L2.
        weights: of Proposition 3.4.
    """
    loaded = load_run(run, device="cpu")
    network = loaded.model
    x, y = loaded.examples("test", n)[:]
    pieces = LinearPieces.of(network, x, y)
    if not len(pieces.y):
        raise UserError(f"`n_theory`: no example of {run.name} is right with p_y > 1/2. Give more, or train longer.")
    shares, numbers = _on_any(pieces), {AT_BOUNDARY: _at_boundary(network, pieces)}
    if pieces.classes == 2:
        on_two = _on_two(network, pieces, eps, _nearest(loaded.record, attacks, pieces))
        shares |= on_two[0]
        numbers |= on_two[1]
    layer = LastLayer.of(network, x, y)
    layers = {}
    for weight in weights:
        jacobian = layer.solve("jacobian", weight)
        equal, matched = (layer.solve("cross_lipschitz", times * weight) for times in (1, pieces.classes / 2))
        layers[weight] = layer.apart(jacobian, equal), layer.apart(jacobian, matched)
    return Findings(pieces.classes, shares, numbers, layers)


def _on_any(pieces: LinearPieces) -> dict[str, float]:
    """Return the shares of failures of what is said for any number of classes."""
    gap, gradient, curvature, mu = pieces.gap, pieces.gradient.norm(dim=1), pieces.top[0], pieces.mu
    pairs, fails = pieces.classes * (pieces.classes - 1), pieces.failures
    lower_bounds = {
        PRINTED_16: pieces.eq16(gap, pairs),
        MENDED_16: pieces.eq16(gap, pieces.classes**2),
        EQ_17: pieces.eq17(gap),
    }
    if pieces.classes == 2:
        lower_bounds[OTHER_16] = pieces.eq16(gap, pairs, pieces.nu**2)
    lower, upper = pieces.lower(gap), pieces.upper(gap)
    shares = {}
    for name, bound in lower_bounds.items():
        shares[f"{name}: {ABOVE}"] = fails(bound, upper)
        shares[f"{name}: {NOT_BELOW}"] = fails(bound, lower)
    shares |= {
        PRINTED_43: fails(curvature, pairs * pieces.nu2 / 8),
        MENDED_43: fails(curvature, pieces.classes**2 * pieces.nu2 / 8),
        SQUARED: fails(gradient**2 / 2, curvature) + fails(curvature, mu**2 / 2),
        UNSQUARED: fails(gradient / 2, curvature) + fails(curvature, mu / 2),
    }
    if pieces.classes == 2:
        shares[OTHER_43] = fails(curvature, pairs * pieces.nu**2 / 8)
    return shares


def _at_boundary(network: Model, pieces: LinearPieces) -> float:
    """Return the median loss at the nearest misclassified points that DeepFool finds."""
    points = DeepFool(threat=Threat("L2")).closest(network, pieces.x, pieces.y)
    with torch.no_grad():
        loss = cross_entropy(network(points).double(), pieces.y, reduction="none")
    return float(loss[loss.isfinite()].median())


def _on_two(
    network: Model, pieces: LinearPieces, eps: float, nearest: Tensor
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the shares of failures and the numbers of what is said for two classes."""
    gap, fails = pieces.gap, pieces.failures
    gradient, curvature, mu = pieces.gradient.norm(dim=1), pieces.top[0], pieces.mu
    lower, upper = pieces.lower(gap), pieces.upper(gap)
    steepness = ((pieces.v[:, 0] - pieces.v[:, 1]) * pieces.x.flatten(1)).sum(1).abs()
    step = pieces.gradient.sign()
    errs_at = LinearPiece()(network, pieces.x, pieces.y).value
    infinity = BinaryTaylor(norm="Linf")
    bound = infinity.worst_loss(network, pieces.x, pieces.y, eps)
    with torch.no_grad():
        moved = network(pieces.x + eps * step.view_as(pieces.x).float()).double()
    shares = {
        LOSS: fails(cross_entropy(moved, pieces.y, reduction="none"), bound),
        BINARY: fails(gradient**2, curvature) + fails(curvature, mu**2 / 2),
        STEEP: 100 * float((steepness > 1.28).double().mean()),
    }
    if len(nearest):
        shares[GUARANTEE] = fails(lower[: len(nearest)], nearest)
    at_r = pieces.quadratic(infinity(network, pieces.x, pieces.y).value[:, None] * step)
    return shares, {
        COLLAPSE: float((upper / lower).max()),
        OVERSTATED: float((lower / errs_at).median()),
        INSIDE: float(((2 * gap / (pieces.confidence * pieces.doubt)).sqrt() / pieces.nu / lower).max()),
        REACHED: _farthest(at_r / log(2)),
        WORST: _farthest(pieces.quadratic(eps * step) / bound),
        STEEPNESS: float(steepness.mean()),
    }


def _nearest(record: Record, attacks: Sequence[MinimumNormAttack], pieces: LinearPieces) -> Tensor:
    """Return the smallest distances found at the first of the pieces, as many as were attacked."""
    found = [one for attack in attacks if (one := distances_of(record, attack, "test"))]
    n = min(len(pieces.sure), *(one.n for one in found))
    values = torch.tensor([[inf if v is None else v for v in one.values[:n]] for one in found], dtype=torch.float64)
    return values.amin(0)[pieces.sure[:n]]


def _farthest(ratios: Tensor) -> float:
    """Return the ratio that is farthest from 1."""
    return float(ratios[(ratios - 1).abs().argmax()])


@dataclass(frozen=True)
class _Networks:
    """What some networks, by their names, say to the propositions together.

    Attributes:
        found: the findings of each network.
        kind: which networks these are, for the evidence where there are none.
    """

    found: Mapping[str, Findings]
    kind: str

    def claim(self, text: str, holds: bool | None, evidence: str, by: Literal["paper", "meseta"] = "paper") -> Claim:
        """Return a claim, which is not decided where there are no such networks."""
        if not self.found:
            return Claim(text=text, holds=None, evidence=f"No network with {self.kind}.", by=by)
        return Claim(text=text, holds=holds, evidence=evidence, by=by)

    def never(self, name: str) -> bool | None:
        """Return whether an inequality fails at no example; None where no network was asked."""
        known = [one.shares[name] for one in self.found.values() if name in one.shares]
        return not any(known) if known else None

    def lower_bound(self, name: str) -> bool | None:
        """Return whether something bounds ‖r*‖₂ from below; None where Lemma 3.1's bounds do not tell."""
        proved, refuted = self.never(f"{name}: {NOT_BELOW}"), self.never(f"{name}: {ABOVE}") is False
        return False if refuted else proved or None

    def shares(self, name: str, digits: int = 1) -> str:
        """Return the share of failures of each network."""
        known = {key: one.shares[name] for key, one in self.found.items() if name in one.shares}
        return ", ".join(f"{share:.{digits}f} % ({key})" for key, share in known.items()) or "none that was checked"

    def numbers(self, name: str) -> str:
        """Return a number of each network."""
        return ", ".join(f"{one.numbers[name]:.4g} ({key})" for key, one in self.found.items())

    def near_one(self, name: str, within: float) -> bool:
        """Return whether a number is 1 in all networks."""
        return all(abs(one.numbers[name] - 1) <= within for one in self.found.values())

    def layers(self, which: int) -> list[float]:
        """Return how far the solutions of Proposition 3.4 are apart, at equal weights (0) or at matched ones (1)."""
        return [pair[which] for one in self.found.values() for pair in one.layers.values()]


def propositions(found: Mapping[str, Findings]) -> Part:
    """Return the tables and the claims, from the findings of each network by its name."""
    every = _Networks(found, "an answer")
    two = _Networks({name: one for name, one in found.items() if one.classes == 2}, "two classes")
    many = _Networks({name: one for name, one in found.items() if one.classes > 2}, "more than two classes")
    return Part(
        title="Propositions 3.1 to 3.4 and 4.1, on trained reference models",
        tables=[
            _findings_table("propositions-fail", "Where it fails", "%", found, "shares", 1),
            _findings_table("propositions-numbers", "What it is", "", found, "numbers", 3),
            _layers_table(found),
        ],
        claims=[*_claims_of_two(two), *_claims_of_layers(two, many), *_claims_of_any(every, two, many)],
        notes=[
            "Checked at test examples with p_y > 1/2, from the logits and their gradients, in float64, with "
            "ξ = log 2 − ℓ for any K. Distances that attacks found are of the first of these examples.",
        ],
    )


def _claims_of_two(two: _Networks) -> list[Claim]:
    """Return what section 3 and appendix G say of two classes."""
    lengths = [overstatement(p) for p in (0.9, 0.99, 0.9999)]
    bounded = two.never(LOSS)
    return [
        two.claim(
            "Lemma 3.1's two bounds are one expression for K = 2 (Proposition 3.1).",
            two.near_one(COLLAPSE, 1e-6),
            f"Upper over lower, at most: {two.numbers(COLLAPSE)}.",
        ),
        two.claim(
            "Proposition 3.1 is a formal guarantee of robustness in L2 for piecewise-linear networks.",
            two.never(GUARANTEE),
            f"An adversarial example was found nearer than its distance at {two.shares(GUARANTEE, 0)} of the examples.",
        ),
        two.claim(
            "It overstates even the distance on the linear piece, log(p/(1 − p))/ν, and the more the surer the "
            "network is.",
            1 < lengths[0] < lengths[1] < lengths[2],
            f"By {lengths[0]:.2f} at p = 0.9, {lengths[1]:.2f} at 0.99 and {lengths[2]:.1f} at 0.9999; in the "
            f"median of the test examples by {two.numbers(OVERSTATED)}.",
            "meseta",
        ),
        two.claim(
            "Equation (8) as printed, with −1 under the root, is what Lemma 3.1 gives.",
            two.near_one(INSIDE, 0.01),
            f"It is up to so many times as large: {two.numbers(INSIDE)}.",
        ),
        two.claim(
            "At Proposition 3.2's distance along sign(∇ℓ) the quadratic model of the loss reaches log 2.",
            two.near_one(REACHED, 1e-4),
            f"Over log 2, farthest from 1: {two.numbers(REACHED)}.",
        ),
        two.claim(
            "Proposition 3.3's bound on the quadratic model of the loss is met at ε sign(∇ℓ).",
            two.near_one(WORST, 1e-4),
            f"The model over the bound, farthest from 1: {two.numbers(WORST)}.",
        ),
        two.claim(
            "It bounds the model, not the loss: the loss of the network is above it at the same point.",
            None if bounded is None else not bounded,
            f"Above at {two.shares(LOSS, 0)}.",
            "meseta",
        ),
        two.claim(
            "Appendix G: νγ, on average 0.001 on LeNet-300-100, is below 1.28 for almost all examples.",
            all(one.shares[STEEP] < 5 for one in two.found.values()),
            f"Above 1.28 at {two.shares(STEEP, 0)}; mean {two.numbers(STEEPNESS)}. A margin of 0.001 would leave every "
            "p at one half.",
        ),
    ]


def _claims_of_layers(two: _Networks, many: _Networks) -> list[Claim]:
    """Return what Proposition 3.4 says, where the last layer alone is trained."""
    equal_two = max(two.layers(0) + two.layers(1), default=inf)
    equal_many, matched_many = min(many.layers(0), default=0.0), max(many.layers(1), default=inf)
    return [
        two.claim(
            "Proposition 3.4: if only the last layer is trained, λν²/2 and λμ² give one classifier (K = 2).",
            equal_two < 1e-4,
            f"The logits of both solutions, each of its own convex problem, are at most {equal_two:.1e} apart "
            "relatively, up to what all logits share; that the cross-Lipschitz penalty leaves open, so that the sets "
            "of minimisers in (13) are not equal as they are printed.",
        ),
        many.claim(
            "For K classes the Jacobian at λ is the cross-Lipschitz penalty at λK/2, not at λ.",
            matched_many < 1e-4 < equal_many,
            f"Ten classes: at most {matched_many:.1e} apart at λK/2, at least {equal_many:.2g} at λ.",
            "meseta",
        ),
    ]


def _claims_of_any(every: _Networks, two: _Networks, many: _Networks) -> list[Claim]:
    """Return what section 4 and appendix E say of any number of classes."""
    threshold = " ξ is log 2 − ℓ, where the paper has log K." if many.found else ""

    def bounds(name: str) -> str:
        above, not_below = (every.shares(f"{name}: {how}") for how in (ABOVE, NOT_BELOW))
        both = f"It fails at {above}, against Lemma 3.1's upper bound of ‖r*‖₂ as against its lower one."
        other = f"It is above Lemma 3.1's upper bound of ‖r*‖₂ at {above}, and above its lower one at {not_below}."
        return (both if above == not_below else other) + threshold

    def other_nu(printed: str, with_other: str) -> str:
        """Return for which nu and which networks the printed form holds."""
        said = " That is with section 4's ν, whose square is half of section 3's for K = 2."
        said += f" With section 3's ν it fails at {two.shares(with_other)}." if two.found else ""
        return said + (f" For K > 2 it fails at {many.shares(printed)}." if many.found else "")

    return [
        every.claim(
            "Equation (16) as printed, with K(K − 1), bounds ‖r*‖₂ from below.",
            every.lower_bound(PRINTED_16),
            bounds(PRINTED_16) + other_nu(f"{PRINTED_16}: {NOT_BELOW}", f"{OTHER_16}: {NOT_BELOW}"),
        ),
        every.claim(
            "With K², which the sum over pairs i < j gives, it does.",
            every.lower_bound(MENDED_16),
            bounds(MENDED_16),
            "meseta",
        ),
        every.claim("Equation (17) bounds ‖r*‖₂ from below.", every.lower_bound(EQ_17), bounds(EQ_17)),
        every.claim(
            "Appendix E: ‖H‖₂ ≤ K(K − 1)ν²/8.",
            every.never(PRINTED_43),
            f"It fails at {every.shares(PRINTED_43)}, and with K² at {every.shares(MENDED_43)}."
            + other_nu(PRINTED_43, OTHER_43),
        ),
        every.claim(
            "The chain ‖∇‖₂²/2 ≤ ‖H‖₂ ≤ ‖V‖F²/2 holds where p_y ≥ 1/2.",
            every.never(SQUARED),
            f"It fails at {every.shares(SQUARED)}.",
        ),
        every.claim(
            "Section 4 as printed, without squares: ‖∇‖₂/2 ≤ ‖H‖₂ ≤ ‖V‖F/2.",
            every.never(UNSQUARED),
            f"It fails at {every.shares(UNSQUARED)}.",
        ),
        many.claim(
            "For K > 2 the loss at which the classifier errs is log K.",
            all(one.numbers[AT_BOUNDARY] > 0.95 * log(one.classes) for one in many.found.values()),
            f"At the nearest misclassified points it is {many.numbers(AT_BOUNDARY)}; log 2 is {log(2):.3g}, "
            + ", ".join(f"log {k} is {log(k):.3g}" for k in sorted({one.classes for one in many.found.values()}))
            + ".",
        ),
    ]


def _layers_table(found: Mapping[str, Findings]) -> ReproducedTable:
    weights = dict.fromkeys(weight for one in found.values() for weight in one.layers)
    return ReproducedTable(
        key="propositions-last-layer",
        title="How far the logits of both solutions of Proposition 3.4 are apart, relatively",
        columns=[f"{key}, {kind}" for key in found for kind in ("at λ", "at λK/2")],
        rows=[
            Row(
                name=f"λ = {weight:g}",
                entries=[Entry(ours=[value]) for one in found.values() for value in one.layers[weight]],
            )
            for weight in weights
        ],
        unit="",
        digits=2,
        notes=["Of the Jacobian at λ and the cross-Lipschitz penalty at λ or λK/2; for K = 2 they are one."],
    )


def _findings_table(
    key: str, title: str, unit: str, found: Mapping[str, Findings], of: Literal["shares", "numbers"], digits: int
) -> ReproducedTable:
    names = dict.fromkeys(name for one in found.values() for name in getattr(one, of))
    rows = []
    for name in names:
        values = [getattr(one, of).get(name) for one in found.values()]
        rows.append(Row(name=name, entries=[Entry(ours=[] if value is None else [value]) for value in values]))
    return ReproducedTable(key=key, title=title, columns=list(found), rows=rows, unit=unit, digits=digits)
