"""What the published numbers rest on: paired ratios, honest counts of products, and no objective left out."""

import attacks
import autoattack
import common
import curvature
import eigenvalues
import exact_curvature
import load
import memory
import precision
import pytest
import torch
import training_step
from torch import nn

from meseta import Threat
from meseta.attacks import PGD, AutoAttack
from meseta.autodiff import CrossEntropy, Margin
from meseta.evaluation import evaluate
from meseta.objectives import InputGradient
from meseta.registry import methods


class CountedHessian:
    """Diagonal matrices as a product that counts its calls."""

    def __init__(self, diagonal: torch.Tensor) -> None:
        self.gradient = torch.ones_like(diagonal)
        self.diagonal = diagonal
        self.products = 0

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        self.products += 1
        return self.diagonal * v


@pytest.fixture
def hessian() -> CountedHessian:
    return CountedHessian(torch.linspace(-9, 4, 60, dtype=torch.float64).repeat(3, 1))


@pytest.mark.parametrize("name", curvature.ESTIMATES)
def test_every_estimate_spends_the_products_it_is_listed_under(name, hessian):
    curvature.ESTIMATES[name](hessian, 7)
    assert hessian.products == 7


@pytest.mark.parametrize("name", curvature.ESTIMATES)
def test_no_estimate_exceeds_the_norm(name, hessian):
    assert (curvature.ESTIMATES[name](hessian, 7) <= 9 + 1e-9).all()


def test_one_product_along_the_gradient_is_the_length_of_its_image(hessian):
    estimate = curvature.ascent(hessian, hessian.gradient, 1)
    torch.testing.assert_close(estimate, hessian.diagonal.norm(dim=1) / 60**0.5)
    assert hessian.products == 1


def test_error_is_relative_and_counts_the_images_within_one_percent():
    error = curvature.Error.of(torch.tensor([-2.0, 0.9]), torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert (error.mean, error.max, error.within) == pytest.approx((0.05, 0.1, 0.5))


@pytest.mark.parametrize("errors", [(float("nan"), 0.001), (0.001, float("nan")), (0.001, 0.02)])
def test_the_headline_needs_every_field_within_one_percent(errors):
    runs = [curvature.Convergence("float32", 3, 1.0, curvature.Error(error, error, 1.0)) for error in errors]
    assert "is NOT within" in curvature.headline({str(i): {"converged": [run]} for i, run in enumerate(runs)}, 32)


def test_ratios_are_taken_within_a_round():
    found = common.ratios({"base": [1.0, 10.0, 2.0], "twice": [2.0, 20.0, 4.0]}, "base")
    assert found["twice"] == common.Spread(2, 2, 2, 3)


def test_every_round_times_every_call_once():
    seen: list[str] = []
    times = common.interleaved({name: lambda name=name: seen.append(name) for name in "abc"}, 4, warm_up=0)
    assert [sorted(seen[i : i + 3]) for i in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert [len(of) for of in times.values()] == [4, 4, 4]


def test_a_spent_budget_ends_after_two_rounds():
    assert len(common.interleaved({"a": lambda: None}, 9, budget=0)["a"]) == 2


def test_every_objective_with_defaults_is_timed():
    listed = training_step.objectives()
    known = {n for n, method in methods("objectives").items() if training_step.has_defaults(method)}
    assert known - {"Scheduled"} <= listed.keys()  # which costs what it schedules


@pytest.fixture
def silu_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("field", [CrossEntropy(), Margin()])
def test_the_hessian_in_an_image_as_parameter_is_the_input_hessian(field, silu_net):
    x, y = torch.rand(1, 1, 2, 3), torch.tensor([1])
    image, criterion = eigenvalues.Image(silu_net, x), eigenvalues.Criterion(field)

    def loss(point):
        return criterion(torch.func.functional_call(image, {"point": point}, (x,)), y)

    hessian = torch.autograd.functional.hessian(loss, image.point.detach()).reshape(6, 6).double()
    truth = curvature.largest_magnitude(silu_net, field, x, y)
    torch.testing.assert_close(torch.linalg.eigvalsh(hessian).abs().amax()[None], truth, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", eigenvalues.SETTINGS)
def test_a_peer_that_is_installed_reaches_one_percent(name, silu_net):
    package, _, _ = eigenvalues.SETTINGS[name]
    pytest.importorskip(package)
    x, y = torch.rand(2, 1, 2, 3), torch.tensor([0, 1])
    truth = curvature.largest_magnitude(silu_net, CrossEntropy(), x, y)
    _, peer, _ = eigenvalues.SETTINGS[name]
    setting = {"eigsh": {"ncv": 4, "tol": 0.001}, "lanczos": {"steps": 6}, "power": {"steps": 500, "tol": 0.001}}
    finder = eigenvalues.one_by_one(peer, eigenvalues.spelt_out(silu_net), CrossEntropy(), **setting[peer.__name__])
    torch.testing.assert_close(finder(x, y).double(), truth, rtol=1e-2, atol=0)


def test_silu_spelt_out_is_the_same_function(silu_net):
    x = torch.randn(5, 1, 2, 3)
    other = eigenvalues.spelt_out(silu_net)
    assert not any(isinstance(module, nn.SiLU) for module in other.modules())
    torch.testing.assert_close(other(x), silu_net(x))


def test_peers_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(eigenvalues, "find_spec", lambda name: None)
    assert "pip install curvlinops-for-pytorch hessian-eigenthings" in eigenvalues.absent()
    monkeypatch.setattr(eigenvalues, "find_spec", lambda name: object())
    assert eigenvalues.absent() == ""


@pytest.mark.parametrize("name", exact_curvature.WAYS)
def test_ways_to_the_spectral_norm_agree_with_the_dense_hessian(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 5)).eval()
    x, y = torch.rand(4, 1, 2, 3), torch.tensor([0, 1, 2, 3])
    value, _ = exact_curvature.WAYS[name](model, x, y)
    truth = curvature.largest_magnitude(model, CrossEntropy(), x, y)
    if "one power step" in name:
        assert (value <= truth * (1 + 1e-5)).all()
    else:
        torch.testing.assert_close(value.double(), truth, rtol=1e-2 if "Lanczos" in name else 1e-5, atol=0)


def test_every_measure_has_its_memory_taken():
    assert methods("measures").keys() <= memory.calls().keys()


def test_a_measure_that_refuses_relu_is_measured_on_silu(tmp_path):
    out = tmp_path / "result.json"
    memory.child(memory.MARGIN, 1, True, 1, str(out))
    assert '"silu"' in out.read_text()


def test_memory_that_was_not_seen_to_the_end_is_not_called_within_the_target():
    assert memory.verdict({"gib": 1.0, "ended": ""}) == "yes"
    assert memory.verdict({"gib": 9.0, "ended": ""}) == "**no**"
    assert memory.verdict({"gib": 1.0, "ended": memory.ending(1, "can't allocate memory", False)}) == "**no**"
    assert memory.verdict({"gib": 1.0, "ended": memory.ending(-9, "", False)}) != "yes"


def test_every_objective_takes_a_thousand_steps_and_meets_a_thousand_classes():
    cases = load.cases()
    known = methods("objectives").keys()
    assert cases["A thousand steps"].keys() == known
    assert cases["A thousand classes: a step of every objective"].keys() == known
    assert set(load.LARGE) <= known


def test_a_step_that_is_measured_says_what_grew():
    found = load.growth("Erm", True)
    assert (found["steps"], found["tensors"]) == (20, 0)
    assert "+0" in load.shown({"Erm": {"gib": 0.1, "ended": "", **found}})


def test_an_objective_keeps_its_meaning_where_no_term_and_no_gradient_is_off():
    fine = {"term loss": 0.01, "gradient": 0.2, "cosine": 0.999, "penalty": 0.995}
    assert precision.keeps_meaning(fine)
    for worse in ({"term curvature": 0.06}, {"cosine": 0.9}, {"penalty": 0.9}):
        assert not precision.keeps_meaning(fine | worse)


def test_every_precision_sees_the_same_draws(silu_net):
    batches = [(torch.rand(4, 1, 2, 3), torch.tensor([0, 1, 2, 0]))]
    of = precision.compare(InputGradient(weight=0.1, share=0.5), silu_net, batches)
    assert of["float32"]["gradient"] < 1e-5 < of["bfloat16"]["gradient"]


def test_passes_are_counted_per_image_and_only_within_the_block(silu_net):
    x, y = torch.rand(6, 1, 2, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    attack = PGD(threat=Threat(eps=0.1), steps=4, drop_broken=False)
    of = attacks.score(attacks.ours(silu_net, attack), [silu_net], x, y, attack.threat)
    assert (of.forwards, of.backwards) == (4, 4)
    assert 0 <= of.robust <= 1
    with attacks.counted(silu_net) as count:
        attacks.bare(silu_net, 3)(x, y)
    attacks.bare(silu_net, 3)(x, y)
    assert (count.forwards, count.backwards) == (18, 18)


def test_libraries_that_are_missing_are_left_out(silu_net):
    offers = attacks.Offers(silu_net, {})
    offers.meseta(PGD())
    offers.peer("foolbox", "LinfPGD", lambda model: pytest.fail("asked for"))
    assert list(offers.calls) == ["meseta PGD-40 CrossEntropy"]


def test_autoattack_and_the_suite_stand_before_the_same_judge(silu_net):
    x = torch.rand(20, 1, 2, 3)
    attack, suite = AutoAttack(threat=Threat(eps=0.3), steps=3, queries=7), [PGD(steps=5)]
    calls = {
        autoattack.THEIRS: lambda of: autoattack.by_autoattack(of, attack),
        autoattack.OURS: lambda of: (
            (found := evaluate(of.model, of.x, of.y, threat=of.threat, attacks=suite, checks=())).clean_accuracy,
            found.robust[0].worst_case,
        ),
    }
    result = autoattack.compare(autoattack.Model("net", silu_net, x, silu_net(x).argmax(1), attack.threat), calls, 2)
    assert (result.n, result.clean) == (20, 1)
    assert result.points == pytest.approx(100 * (result.robust["meseta"] - result.robust["AutoAttack"]))
    assert all(of.n == 2 for of in result.seconds.values())
