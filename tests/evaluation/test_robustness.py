from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn

import meseta
from meseta import Threat
from meseta.attacks import FGSM, PGD, Attack, CarliniWagner, DeepFool
from meseta.errors import UserError
from meseta.evaluation import distances, judge_attack, measure
from meseta.evaluation.masking import OneStep
from meseta.geometry import GradientNorm, SpectralCurvature
from meseta.linalg import Lanczos

evaluate = partial(meseta.evaluate, checks=())
"""Without masking checks, which have tests of their own."""


class Returns(Attack):
    """An attack that returns what it was given."""

    def __init__(self, points):
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "threat", Threat())

    def perturb(self, model, x, y, generator):
        return self.points[: len(x)].to(x)

    def against(self, threat):
        copy = Returns(self.points)
        object.__setattr__(copy, "threat", threat)
        return copy


def threshold(x):
    """Class 1 where the first entry exceeds 0.5; margin 20 (x_0 - 0.5)."""
    s = 10 * (x.flatten(1)[:, 0] - 0.5)
    return torch.stack([-s, s], 1)


X = torch.tensor([[0.1], [0.4], [0.45], [0.6], [0.9], [0.2]])
Y = torch.tensor([0, 0, 0, 1, 1, 1])  # the last one is misclassified


def test_accuracies_by_hand():
    result = evaluate(
        threshold, X, Y, threat=[Threat(eps=e) for e in (0.2, 0.07, 0.15)], attacks=[FGSM(), PGD(steps=5)]
    )
    assert result.n == 6
    assert result.clean_accuracy == 5 / 6
    assert [(r.eps, r.worst_case) for r in result.robust] == [(0.07, 4 / 6), (0.15, 2 / 6), (0.2, 2 / 6)]
    assert [a.name for a in result.robust[0].attacks] == ["FGSM", "PGD-5 CrossEntropy"]
    assert all(a.accuracy == r.worst_case for r in result.robust for a in r.attacks)


def test_batches_and_loaders_give_the_same_figures():
    settings = {"threat": [Threat(eps=0.07), Threat("L2", 0.15)], "attacks": [FGSM()]}
    whole = evaluate(threshold, X, Y, **settings)
    for other in (
        evaluate(threshold, X, Y, batch_size=2, **settings),
        evaluate(threshold, [(X[:4], Y[:4]), (X[4:], Y[4:])], **settings),
        evaluate(threshold, iter([(X, Y)]), **settings),
    ):
        assert other.clean_accuracy == whole.clean_accuracy
        assert [r.worst_case for r in other.robust] == [r.worst_case for r in whole.robust]


def test_worst_case_is_per_example_over_attacks():
    """Two attacks that each break another example: the worst case counts both, either attack only one."""
    first = Returns(torch.tensor([[0.1], [0.51], [0.45], [0.6], [0.9]]))
    second = Returns(torch.tensor([[0.1], [0.4], [0.52], [0.6], [0.9]]))
    result = evaluate(threshold, X[:5], Y[:5], threat=Threat(eps=0.2), attacks=[first, second])
    assert [a.accuracy for a in result.robust[0].attacks] == [4 / 5, 4 / 5]
    assert result.robust[0].worst_case == 3 / 5


def test_curves_never_rise_and_norms_do_not_mix():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    x = torch.rand(64, 8)
    y = model(x).argmax(1)
    threats = [Threat(n, e) for n in ("Linf", "L2", "L1") for e in (0.01, 0.05, 0.1, 0.3)]
    result = evaluate(model, x, y, threat=threats, attacks=[PGD(steps=3), FGSM()])
    for norm in ("Linf", "L2", "L1"):
        curve = [r.worst_case for r in result.robust if r.norm == norm]
        assert curve == sorted(curve, reverse=True)
        assert all(r.worst_case <= min(a.accuracy for a in r.attacks) for r in result.robust)


def test_same_seed_same_record():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    x = torch.rand(64, 8)
    y = model(x).argmax(1)
    first, second = (evaluate(model, x, y, threat=Threat(eps=0.05), attacks=[PGD(steps=2)]).robust for _ in range(2))
    assert [r.worst_case for r in first] == [r.worst_case for r in second]


def test_the_judge_brings_cheaters_back_and_counts_them():
    points = torch.tensor([[0.9], [0.55], [float("nan")], [-7.0], [0.9]])
    x, y = X[:5], Y[:5]
    judged = judge_attack(threshold, x, y, points, Threat(eps=0.1))
    assert judged.violation.tolist() == [True, True, True, True, False]
    assert Threat(eps=0.1).contains(judged.adversarial, x).all()
    # 0.1 -> 0.2 and 0.6 -> 0.5 hold or tie; 0.4 is brought back to 0.5; NaN is the input itself
    assert judged.broken.tolist()[0] is False
    assert judged.broken.tolist()[2] is False
    record = evaluate(threshold, x, y, threat=Threat(eps=0.1), attacks=[Returns(points)])
    assert record.robust[0].attacks[0].violations == 4


def test_nan_logits_are_misclassified_never_robust():
    def sometimes_nan(x):
        return torch.where(x > 0.55, torch.nan, 1.0) * threshold(x)

    result = evaluate(sometimes_nan, X[:5], torch.tensor([0, 0, 0, 0, 0]), threat=Threat(eps=0.01), attacks=[FGSM()])
    assert result.nonfinite_logits == 2
    assert result.clean_accuracy == 3 / 5
    assert result.robust[0].worst_case <= 3 / 5


def test_rounding_of_an_honest_attack_is_no_violation():
    torch.manual_seed(0)
    model = nn.Linear(50, 3)
    x = 0.9 + 0.1 * torch.rand(100, 50)
    for norm in ("Linf", "L2", "L1"):
        result = evaluate(model, x, model(x).argmax(1), threat=Threat(norm, 1e-4), attacks=PGD(steps=3))
        assert result.robust[0].attacks[0].violations == 0


def test_the_inputs_of_a_model_that_works_in_place_stay_as_they_were():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(inplace=True))
    x = torch.tensor([[0.3], [0.7]])

    def shifted(inputs):
        inputs -= 0.1
        return model(inputs)

    before = x.clone()
    meseta.evaluate(shifted, x, torch.tensor([0, 1]), attacks=[FGSM(), PGD(steps=2)])
    assert torch.equal(x, before)


def test_runs_in_eval_mode_and_restores_it():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.Linear(8, 2)).train()
    x, y = torch.rand(20, 4), torch.randint(2, (20,))
    first, second = (evaluate(model, x, y, attacks=[FGSM()]).clean_accuracy for _ in range(2))
    assert first == second
    assert model.training
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X + 1, "y": Y}, "`x` must lie in the bounds"),
        ({"x": X * torch.nan, "y": Y}, "`x` holds NaN"),
        ({"x": X, "y": Y + 1}, r"`y` must hold class indices 0\.\.1"),
        ({"x": X}, "`y` is missing"),
        ({"x": [(X, Y)], "y": Y}, "`y` must be left out"),
        ({"x": []}, "holds no examples"),
        ({"x": X, "y": Y, "batch_size": 0}, "`batch_size`"),
        ({"x": X, "y": Y, "attacks": []}, "at least one, such as PGD"),
        ({"x": X, "y": Y, "attacks": [FGSM()], "suite": "quick"}, "`suite` and `attacks` both"),
        ({"x": X, "y": Y, "suite": "quik"}, "suite: unknown name .*Did you mean .quick"),
        ({"x": X, "y": Y, "checked": 0}, "`checked`"),
        ({"x": X, "y": Y, "attacks": FGSM(), "shard": (2, 2)}, "`shard`"),
        ({"x": X, "y": Y, "attacks": FGSM(), "shard": (1, 2)}, "fewer batches"),
        ({"x": X, "y": Y, "threat": [Threat(), Threat()]}, "given twice"),
        ({"x": X, "y": Y, "threat": [Threat(), Threat(eps=0.1, bounds=None)]}, "share their bounds"),
        ({"x": X, "y": Y, "threat": "Linf"}, "must hold Threat"),
        ({"x": X, "y": Y, "attacks": [PGD]}, "must hold Attack objects"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        evaluate(threshold, **arguments)


def test_measure_summarises_and_leaves_out_what_is_not_finite():
    def model(x):
        return torch.cat([x[:, :1] ** 2 / (x[:, 1:] > 0), 0 * x[:, :1]], 1)

    x = torch.tensor([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [5.0, 0.0]])
    y = torch.zeros(4, dtype=torch.long)
    from meseta.autodiff import Margin

    result = measure(model, x, y, measure=GradientNorm(field=Margin(rival=1)), batch_size=3)
    assert result.values == [2, 4, 6, None]
    assert (result.mean, result.median, result.nonfinite, result.n) == (4, 4, 1, 4)
    assert result.converged is None
    curvature = measure(model, x, y, measure=SpectralCurvature(field=Margin(rival=1)))
    assert curvature.values == [2, 2, 2, None]
    assert curvature.converged == 0.75


def test_unconverged_examples_are_counted():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 50), nn.SiLU(), nn.Linear(50, 10))
    x, y = torch.rand(8, 30), torch.arange(8)
    hasty = measure(model, x, y, measure=SpectralCurvature(solver=Lanczos(steps=2, tol=1e-6)))
    patient = measure(model, x, y, measure=SpectralCurvature())
    assert hasty.converged == 0
    assert patient.converged == 1


@dataclass(frozen=True, kw_only=True)
class Dying(Attack):
    """FGSM that raises when it is called for the n-th time; every call is noted."""

    calls: list[int]
    n: float = float("inf")

    def perturb(self, model, x, y, generator):
        self.calls.append(len(x))
        if len(self.calls) == self.n:
            raise KeyboardInterrupt
        return FGSM(threat=self.threat).perturb(model, x, y, generator)

    def __repr__(self):
        return f"Dying(threat={self.threat})"


def small():
    """A net that predicts each of three classes somewhere, and what it predicts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 3))
    model[0].bias.data = -model[0].weight.data.sum(1) / 2  # centred
    model[2].bias.data.zero_()
    x = torch.rand(50, 8)
    y = model(x).argmax(1)
    assert len(y.unique()) == 3
    return model, x, y


def figures(result):
    return [(r.norm, r.eps, r.worst_case, [(a.accuracy, a.attacked) for a in r.attacks]) for r in result.robust]


KEPT = {"threat": [Threat(eps=0.02), Threat(eps=0.05), Threat("L2", 0.1)], "batch_size": 15}


def test_an_evaluation_goes_on_where_it_was_interrupted(tmp_path):
    model, x, y = small()
    attacks = [PGD(steps=2), Dying(calls=[])]
    expected = evaluate(model, x, y, attacks=attacks, **KEPT)
    for n in (1, 5, 12):
        calls = []
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, x, y, attacks=[PGD(steps=2), Dying(calls=calls, n=n)], keep=tmp_path / str(n), **KEPT)
        result = evaluate(model, x, y, attacks=[PGD(steps=2), Dying(calls=calls)], keep=tmp_path / str(n), **KEPT)
        assert figures(result) == figures(expected)
        assert len(calls) == 4 * 3 + 1  # the call that died is the only one made twice


def test_what_is_kept_serves_the_same_model_data_and_settings_alone(tmp_path):
    model, x, y = small()
    other = small()[0]
    other[0].weight.data[0, 0] += 0.01

    def calls_of(model=model, x=x, **settings):
        calls = []
        evaluate(model, x, y, attacks=[Dying(calls=calls)], keep=tmp_path, **{**KEPT, **settings})
        return len(calls)

    assert calls_of() == 12
    assert calls_of() == 0
    assert calls_of(other) == 12
    assert calls_of(x=x.flip(0)) == 12
    assert calls_of(seed=1) == 12
    assert calls_of(threat=Threat(eps=0.02)) == 4
    assert calls_of(batch_size=50) == 3


def test_shards_share_the_work_and_add_up(tmp_path):
    model, x, y = small()
    expected = evaluate(model, x, y, attacks=[FGSM(), PGD(steps=2)], **KEPT)
    calls, sizes = [], []
    for i in range(3):
        part = evaluate(model, x, y, attacks=[Dying(calls=calls), PGD(steps=2)], keep=tmp_path, shard=(i, 3), **KEPT)
        sizes.append(part.n)
    assert sizes == [20, 15, 15]
    assert len(calls) == 12
    result = evaluate(model, x, y, attacks=[Dying(calls=calls), PGD(steps=2)], keep=tmp_path, **KEPT)
    assert len(calls) == 12
    assert figures(result) == figures(expected)


def test_keeping_needs_a_model_with_weights(tmp_path):
    with pytest.raises(UserError, match="`keep` needs an nn"):
        evaluate(threshold, X, Y, attacks=FGSM(), keep=tmp_path)


def test_other_models_join_as_a_source_of_attacks():
    """The model's own gradient is hidden, that of its copy is not."""
    model, x, y = small()

    def hidden(inputs):
        return model(inputs.detach()) + 0 * inputs.sum()

    alone, helped = (
        evaluate(hidden, x, y, threat=Threat(eps=0.4), attacks=[FGSM()], sources=sources)
        for sources in ({}, {"copy": model})
    )
    assert alone.robust[0].worst_case == 1
    assert helped.robust[0].worst_case < 0.9
    assert helped.robust[0].attacks[0].name == "FGSM"
    assert "copy" in helped.robust[0].attacks[1].name


def test_the_checks_lead_and_what_they_find_counts():
    """A model whose gradients are hidden: FGSM breaks nothing, the checks find that out and call for more."""
    model, x, y = small()

    def hidden(inputs):
        return model(inputs.detach()) + 0 * inputs.sum()

    order = []
    result = meseta.evaluate(
        hidden, x, y, threat=Threat(eps=0.4), attacks=FGSM(), checked=30, examined=lambda m: order.append(m.verdict)
    )
    assert order == [result.masking.verdict]
    assert result.masking.verdict == "broken"
    assert result.masking.n == 30
    robust = result.robust[0]
    assert robust.attacks[0].accuracy == 1
    assert len(robust.attacks) > 1
    assert robust.worst_case < 0.9
    assert robust.worst_case == pytest.approx(
        min(a.accuracy for a in robust.attacks) - robust.by_others / len(x), abs=0.1
    )


def test_without_checks_nobody_says_whether_to_trust_the_figures():
    assert evaluate(threshold, X, Y, attacks=FGSM()).masking is None


def test_a_suite_is_a_cascade_and_named_in_the_record():
    model, x, y = small()
    quick, standard = (evaluate(model, x, y, threat=Threat(eps=0.03), suite=suite) for suite in ("quick", None))
    assert (quick.suite, standard.suite) == ("quick", "standard")
    assert quick.robust[0].cascade
    assert standard.robust[0].worst_case <= quick.robust[0].worst_case
    left = [a.accuracy for a in standard.robust[0].attacks]
    assert left == sorted(left, reverse=True)
    assert left[-1] == standard.robust[0].worst_case


def test_the_nearest_found_counts_in_the_worst_case():
    """Distances of 0.4, 0.1, 0.05, 0.1 and 0.4 to the threshold, and an attack that finds nothing."""
    found = distances(threshold, X, Y, attacks=DeepFool(threat=Threat("Linf")))
    nothing = Returns(X)
    result = evaluate(
        threshold, X, Y, threat=[Threat(eps=0.07), Threat(eps=0.2), Threat("L2", 0.2)], attacks=nothing, nearest=[found]
    )
    assert [(r.norm, r.worst_case, r.by_others) for r in result.robust] == [
        ("L2", 5 / 6, 0),  # distances of another norm say nothing
        ("Linf", 4 / 6, 1),
        ("Linf", 2 / 6, 3),
    ]


def test_a_norm_that_an_attack_does_not_search_is_refused_before_anything_is_attacked():
    calls = []
    with pytest.raises(UserError, match=r"CarliniWagner.* searches L2 alone, and Linf is asked for"):
        evaluate(threshold, X, Y, threat=[Threat("L2"), Threat()], attacks=[Dying(calls=calls), CarliniWagner()])
    assert not calls


def test_what_is_kept_damaged_is_done_again(tmp_path):
    model, x, y = small()
    expected = evaluate(model, x, y, attacks=FGSM(), keep=tmp_path, **KEPT)
    for file in tmp_path.iterdir():
        file.write_text(file.read_text()[: len(file.read_text()) // 2])
    assert figures(evaluate(model, x, y, attacks=FGSM(), keep=tmp_path, **KEPT)) == figures(expected)


def test_a_model_that_draws_at_random_gives_the_same_figures_again_and_after_an_interruption(tmp_path):
    net, x, y = small()
    model = nn.Sequential(nn.Dropout(0.3), net)
    model[0].forward = lambda inputs: nn.functional.dropout(inputs, 0.3, training=True)

    def run(n=float("inf"), **keep):
        return evaluate(model, x, y, attacks=[Dying(calls=calls, n=n), PGD(steps=2)], **KEPT, **keep)

    calls = []
    state = torch.get_rng_state()
    first, second = run(), run()
    assert torch.equal(torch.get_rng_state(), state)
    assert figures(first) == figures(second)
    assert first.clean_accuracy == second.clean_accuracy < 1


def test_seconds_are_those_of_all_the_work(tmp_path):
    model, x, y = small()
    first, again = (evaluate(model, x, y, attacks=PGD(steps=5), keep=tmp_path, **KEPT) for _ in range(2))
    assert again.provenance.seconds == first.provenance.seconds > 0


def test_searches_without_gradients_that_find_more_lower_the_verdict():
    """The gradients are right where the checks look, on the first examples, and hidden on all others."""
    model, x, y = small()

    class Hidden(nn.Module):
        def forward(self, inputs):
            shown = inputs[:, :1] < 0.5
            return model(torch.where(shown, inputs, inputs.detach()))

    order = x[:, 0].argsort()
    x, y = x[order], y[order]
    result = meseta.evaluate(
        Hidden(), x, y, threat=Threat(eps=0.3), suite="quick", sources={"copy": model}, checked=20, checks=[OneStep()]
    )
    last = result.masking.findings[-1]
    assert last.name == "Evaluation"
    assert last.level != "fine"
    assert result.masking.verdict == last.level
