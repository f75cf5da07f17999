"""Yu's indicator: against dense matrices, beyond them by quadrature, and honest where it is blind."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Decision, Margin, dense_hessian, value_and_gradient
from meseta.errors import UserError
from meseta.geometry import RobustnessIndicator

EIGENVALUES = ("mean_eigenvalue", "eigenvalue_l1", "zero_eigenvalues")


@pytest.mark.parametrize("field", [CrossEntropy(), Decision()])
def test_equals_the_dense_twin(smooth_batch, field):
    b = smooth_batch
    f = field.bind(b.model, b.x, b.y)
    g = value_and_gradient(f, b.x)[1].flatten(1).abs()
    magnitude = torch.linalg.eigvalsh(dense_hessian(f, b.x)).abs()
    found = RobustnessIndicator(field=field, gradient_zero=0.05, eigenvalue_zero=1e-3)(b.model, b.x, b.y)
    expected = {
        "mean_gradient": g.mean(1),
        "gradient_l1": g.sum(1),
        "zero_gradient": (g < 0.05).double().mean(1),
        "mean_eigenvalue": magnitude.mean(1),
        "eigenvalue_l1": magnitude.sum(1),
        "zero_eigenvalues": (magnitude < 1e-3).double().mean(1),
    }
    assert set(found.parts) == set(expected)
    for name, part in expected.items():
        torch.testing.assert_close(found.parts[name], part)
    assert torch.equal(found.value, found.parts["mean_gradient"])


@pytest.mark.parametrize("field", [CrossEntropy(), Decision()])
def test_beyond_the_dense_size_sums_are_sampled_within_five_standard_errors(smooth_batch, field):
    b = smooth_batch
    exact = RobustnessIndicator(field=field)(b.model, b.x, b.y)
    d = b.x[0].numel()
    sampled = RobustnessIndicator(field=field, most=d - 1, samples=12, steps=d)(b.model, b.x, b.y)
    error = sampled.parts["mean_eigenvalue_error"]
    assert ((sampled.parts["mean_eigenvalue"] - exact.parts["mean_eigenvalue"]).abs() <= 5 * error).all()
    torch.testing.assert_close(sampled.parts["eigenvalue_l1"], sampled.parts["mean_eigenvalue"] * d)
    assert torch.equal(sampled.value, exact.value)
    assert "zero_eigenvalues" not in sampled.parts  # what cannot be seen is not there
    assert "mean_eigenvalue_error" not in exact.parts
    assert (exact.products, sampled.products) == (d, 12 * d)


def test_few_steps_are_exact_for_the_loss_of_a_piecewise_linear_network(relu_batch):
    """Rank K - 1 = 2 in 72 dimensions: the quadrature has no error of its own."""
    b = relu_batch
    few, many = (
        RobustnessIndicator(field=CrossEntropy(), most=1, steps=steps)(b.model, b.x, b.y).parts["eigenvalue_l1"]
        for steps in (4, 30)
    )
    torch.testing.assert_close(few, many)


@pytest.mark.parametrize("most", [0, 1024])
def test_the_decision_function_of_a_piecewise_linear_network_has_slopes_but_no_curvature_to_be_seen(relu_batch, most):
    b = relu_batch
    found = RobustnessIndicator(most=most)(b.model, b.x, b.y)
    assert (found.value > 0).all()
    unseen = [name for name in found.parts if "eigenvalue" in name]
    assert len(unseen) == 3
    for name in unseen:
        assert found.parts[name].isnan().all()
    loss = RobustnessIndicator(field=CrossEntropy(), most=most)(b.model, b.x, b.y)
    assert (loss.parts["mean_eigenvalue"] > 0).all()


def test_the_papers_threshold_needs_float64(relu_batch):
    """Two of 72 eigenvalues are not zero; in float32 rounding would make it more."""
    b = relu_batch
    measure = RobustnessIndicator(field=CrossEntropy())
    double = measure(b.model, b.x, b.y).parts["zero_eigenvalues"]
    torch.testing.assert_close(double, torch.full_like(double, 70 / 72))
    noise = torch.linalg.eigvalsh(dense_hessian(CrossEntropy().bind(b.model.float(), b.x.float(), b.y), b.x.float()))
    assert ((noise.abs() < 1e-9).double().mean(1) < 0.95).all()
    assert measure(b.model.float(), b.x.float(), b.y).parts["zero_eigenvalues"].isnan().all()
    coarse = RobustnessIndicator(field=CrossEntropy(), eigenvalue_zero=1e-5)(b.model.float(), b.x.float(), b.y)
    torch.testing.assert_close(coarse.parts["zero_eigenvalues"], torch.full((6,), 70 / 72))


@pytest.mark.parametrize("most", [0, 1024])
def test_flat_nonfinite_and_one_valued_inputs(most):
    """One input value, two classes; the first example curved, the second flat, the third not finite."""
    bend = torch.tensor([3.0, 0.0, torch.nan], dtype=torch.float64)

    def model(v):
        return torch.stack([bend * v[:, 0] ** 2 / 2, torch.zeros_like(v[:, 0])], 1)

    x, y = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    parts = RobustnessIndicator(field=Margin(), most=most)(model, x, y).parts
    expected = torch.tensor([3.0, 0.0, torch.nan], dtype=torch.float64)
    for name in ("mean_gradient", "gradient_l1", "mean_eigenvalue", "eigenvalue_l1"):
        torch.testing.assert_close(parts[name], expected, equal_nan=True)
    zeros = torch.tensor([0.0, 1.0, torch.nan], dtype=torch.float64)
    torch.testing.assert_close(parts["zero_gradient"], zeros, equal_nan=True)
    if most:
        torch.testing.assert_close(parts["zero_eigenvalues"], zeros, equal_nan=True)


def test_a_batch_that_exceeds_the_memory_is_taken_in_parts(smooth_batch, monkeypatch):
    b = smooth_batch
    whole = [RobustnessIndicator(most=most)(b.model, b.x, b.y).parts for most in (0, 1024)]
    monkeypatch.setattr("meseta.geometry.second_order.ENTRIES", 2 * b.x[0].numel() ** 2)
    parts = [RobustnessIndicator(most=most)(b.model, b.x, b.y).parts for most in (0, 1024)]
    torch.testing.assert_close(parts, whole)


def test_a_linear_model_has_the_weights_for_a_gradient():
    model = nn.Linear(5, 2).double()
    x, y = torch.rand(3, 5, dtype=torch.float64), torch.tensor([0, 1, 0])
    found = RobustnessIndicator()(model, x, y)
    w = (model.weight[0] - model.weight[1]).detach().abs()
    torch.testing.assert_close(found.parts["gradient_l1"], w.sum().expand(3))
    assert found.parts["mean_eigenvalue"].isnan().all()


@pytest.mark.parametrize("setting", ["most", "samples", "steps", "seed", "gradient_zero", "eigenvalue_zero"])
def test_bad_settings_are_refused(setting):
    with pytest.raises(UserError, match=f"`{setting}`"):
        RobustnessIndicator(**{setting: -1})
