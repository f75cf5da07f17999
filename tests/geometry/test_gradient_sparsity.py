"""Sparsity of gradients that are known."""

import pytest
import torch
from torch import nn

from meseta.autodiff import CrossEntropy, Margin
from meseta.errors import UserError
from meseta.geometry import GradientNorm, GradientSparsity


def linear(*slopes):
    """Two logits whose margin has these slopes."""
    model = nn.Linear(len(slopes), 2, bias=False).double()
    model.weight.data = torch.tensor([slopes, [0.0] * len(slopes)], dtype=torch.float64)
    return model


def at(measure, model, d, n=2):
    x = torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return measure(model, x, torch.zeros(n, dtype=torch.long))


def test_the_share_of_small_entries_of_a_linear_margin():
    slopes = (10.0, -0.5, 0.05, 0.0, -0.001, 2.0, -0.2, 0.09)
    found = at(GradientSparsity(field=Margin()), linear(*slopes), 8)
    torch.testing.assert_close(found.value, torch.full((2,), 4 / 8).double())  # below 0.1
    torch.testing.assert_close(found.parts["below_zero"], torch.full((2,), 2 / 8).double())  # below 0.01
    torch.testing.assert_close(found.parts["magnitudes"][0], torch.tensor(slopes).double().abs().sort().values)
    found = at(GradientSparsity(field=Margin(), fraction=0.3, zero=1.0), linear(*slopes), 8)
    torch.testing.assert_close(found.value, torch.full((2,), 7 / 8).double())
    torch.testing.assert_close(found.parts["below_zero"], torch.full((2,), 6 / 8).double())


def test_the_scale_of_the_logits_changes_the_published_share_alone():
    slopes = torch.randn(50, generator=torch.Generator().manual_seed(1)).tolist()
    one, small = (at(GradientSparsity(field=Margin()), linear(*(c * s for s in slopes)), 50) for c in (1.0, 1e-4))
    torch.testing.assert_close(small.value, one.value)
    torch.testing.assert_close(small.parts["hoyer"], one.parts["hoyer"])
    assert (one.parts["below_zero"] < 0.1).all()
    assert (small.parts["below_zero"] == 1).all()


def test_hoyer_is_0_for_equal_magnitudes_and_1_for_a_single_entry():
    measure = GradientSparsity(field=Margin())
    torch.testing.assert_close(at(measure, linear(2.0, -2.0, 2.0, 2.0), 4).parts["hoyer"], torch.zeros(2).double())
    torch.testing.assert_close(at(measure, linear(0.0, 0.0, -3.0, 0.0), 4).parts["hoyer"], torch.ones(2).double())


def test_no_gradient_is_no_sparsity():
    found = at(GradientSparsity(field=Margin()), linear(0.0, 0.0), 2)
    assert found.value.isnan().all()
    assert found.parts["hoyer"].isnan().all()
    assert (found.parts["below_zero"] == 1).all()


def test_the_sorted_magnitudes_of_large_inputs_are_thinned_and_keep_both_ends():
    slopes = torch.randn(3000, generator=torch.Generator().manual_seed(2)).tolist()
    found = at(GradientSparsity(field=Margin()), linear(*slopes), 3000, n=1).parts["magnitudes"]
    truth = torch.tensor(slopes).double().abs()
    assert found.shape == (1, 1024)
    torch.testing.assert_close(found[0, [0, -1]], torch.stack([truth.min(), truth.max()]))
    torch.testing.assert_close(found.median(), truth.median(), rtol=0.01, atol=0)


def test_the_magnitudes_add_up_to_the_norm(smooth_batch):
    b = smooth_batch
    found = GradientSparsity(field=CrossEntropy())(b.model, b.x, b.y)
    torch.testing.assert_close(found.parts["magnitudes"].sum(1), GradientNorm(q=1)(b.model, b.x, b.y).value)


@pytest.mark.parametrize("bad", [{"fraction": 0.0}, {"fraction": 1.0}, {"zero": 0.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError, match=f"`{next(iter(bad))}`"):
        GradientSparsity(**bad)
