"""What the published numbers rest on: paired ratios, honest counts of products, and no objective left out."""

import common
import curvature
import pytest
import torch
import training_step

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
