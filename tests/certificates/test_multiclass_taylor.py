"""The three forms against the exact distance in the quadratic model, and where the printed bound fails."""

import pytest
import torch
from quadratic_model import exact_distance
from torch import nn

from meseta.autodiff import CrossEntropy, dense_hessian, value_and_gradient
from meseta.certificates import BinaryTaylor, MulticlassTaylor, loss_gap, taylor_radius
from meseta.errors import UserError


def trials(classes, n=400, d=6):
    """Random linear classifiers, all in one model: example i has its own Jacobian and logits at 0."""
    generator = torch.Generator().manual_seed(classes)
    v = torch.randn(n, classes, d, generator=generator, dtype=torch.float64)
    confidence = 8 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    logits = confidence * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    majority = logits.softmax(1).amax(1) > 0.5
    v, logits = v[majority], logits[majority]
    index = torch.arange(len(v), dtype=torch.float64)[:, None]

    def model(x):  # the last entry of x says which classifier, so that every batch of them will do
        which = x[:, -1].detach().long()
        return logits[which] + (v[which] @ x[:, :-1, None]).squeeze(2)

    return model, torch.cat([torch.zeros(len(v), d, dtype=torch.float64), index], 1), logits.argmax(1), v


def exact(model, x, y):
    f = CrossEntropy().bind(model, x, y)
    return exact_distance(value_and_gradient(f, x)[1], dense_hessian(f, x), loss_gap(model(x), y))


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_every_form_is_below_the_exact_distance_and_the_diameter_above_the_others(classes):
    model, x, y, _ = trials(classes)
    truth = exact(model, x, y)
    found = {
        form: MulticlassTaylor(form=form)(model, x, y).value for form in ("diameter", "cross_lipschitz", "jacobian")
    }
    assert len(x) > 100
    for value in found.values():
        assert (value > 0).all()
        assert (value <= truth * (1 + 1e-6)).all()
    assert (found["diameter"] >= torch.maximum(found["cross_lipschitz"], found["jacobian"]) * (1 - 1e-12)).all()
    if classes == 2:
        torch.testing.assert_close(found["diameter"], truth, rtol=1e-6, atol=0)


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
def test_as_printed_the_first_form_fails_for_two_classes_and_only_there(classes):
    """K (K - 1) in place of K^2: the sum over i < j of ||v_i - v_j||^2 is K^2 nu^2 / 2."""
    model, x, y, _ = trials(classes)
    found = MulticlassTaylor(form="cross_lipschitz")(model, x, y)
    curvature = found.parts["curvature"] * (classes - 1) / classes
    printed = taylor_radius(loss_gap(model(x), y), found.parts["slope"], curvature)
    failures = (printed > exact(model, x, y) * (1 + 1e-6)).double().mean()
    assert failures > 0.4 if classes == 2 else failures == 0


@pytest.mark.parametrize("form", ["diameter", "jacobian"])
def test_in_linf_no_point_of_the_box_gets_there_earlier(form):
    model, x, y, v = trials(4, n=60)
    found = MulticlassTaylor(norm="Linf", form=form)(model, x, y).value
    p = model(x).softmax(1)
    generator = torch.Generator().manual_seed(0)
    r = (2 * torch.rand(3000, v.shape[2], generator=generator, dtype=torch.float64) - 1).sign()
    change = torch.einsum("bkd,nd->bnk", v, r) * found[:, None, None]  # of the logits
    mean = (change * p[:, None]).sum(2)
    variance = (change**2 * p[:, None]).sum(2) - mean**2
    own = change.gather(2, y[:, None, None].expand(-1, len(r), 1)).squeeze(2)
    assert (mean - own + variance / 2 <= loss_gap(model(x), y)[:, None] * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", ["L2", "Linf", "L1"])
def test_the_diameter_is_the_binary_formula_for_two_classes(name):
    model, x, y, _ = trials(2)
    diameter, binary = MulticlassTaylor(norm=name)(model, x, y).value, BinaryTaylor(norm=name)(model, x, y).value
    torch.testing.assert_close(diameter, binary, rtol=1e-8, atol=0)


def test_slope_and_curvature_are_those_of_the_paper():
    model, x, y, v = trials(5)
    p = model(x).softmax(1).amax(1)
    frobenius = v.flatten(1).norm(dim=1)
    nu2 = sum(((v[:, i] - v[:, j]) ** 2).sum(1) for i in range(5) for j in range(5)) / 25
    first, second = (MulticlassTaylor(form=form)(model, x, y).parts for form in ("cross_lipschitz", "jacobian"))
    torch.testing.assert_close(first["slope"], 2 * (1 - p) * frobenius, rtol=1e-6, atol=0)
    torch.testing.assert_close(first["curvature"], 25 * p * (1 - p) * nu2 / 2, rtol=1e-6, atol=0)
    torch.testing.assert_close(second["slope"], first["slope"])
    torch.testing.assert_close(second["curvature"], 2 * p * (1 - p) * frobenius**2, rtol=1e-6, atol=0)
    linf = MulticlassTaylor(norm="Linf", form="jacobian")(model, x, y).parts
    column, row = v.abs().sum(2).amax(1), v.abs().sum(1).amax(1)
    torch.testing.assert_close(linf["slope"], 2 * (1 - p) * column, rtol=1e-6, atol=0)
    torch.testing.assert_close(linf["curvature"], 7 * 2 * p * (1 - p) * column * row, rtol=1e-6, atol=0)


def test_right_without_a_majority_has_distance_zero():
    model = nn.Linear(2, 3, bias=False).double()
    model.weight.data = torch.tensor([[1.0, 0.0], [0.9, 0.0], [0.8, 0.0]], dtype=torch.float64)
    found = MulticlassTaylor()(model, torch.ones(1, 2, dtype=torch.float64), torch.tensor([0]))
    assert found.correct.all()
    assert found.value.item() == 0


def test_bad_settings():
    with pytest.raises(UserError, match="`form` must be one of"):
        MulticlassTaylor(form="printed")
    with pytest.raises(UserError, match="`norm` of cross_lipschitz must be L2"):
        MulticlassTaylor(norm="Linf", form="cross_lipschitz")
