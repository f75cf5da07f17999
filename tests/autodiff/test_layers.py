"""The lean layers are torch's own: values, derivatives of every order, and nothing computed that nobody asked for."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from meseta.autodiff import CrossEntropy, Hessian, value_and_gradient
from meseta.autodiff.layers import lean_layers
from meseta.models import SiluCnn
from meseta.objectives import AdversarialTraining, CrossHolder, Curvature, InputGradient

GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"groups": 2, "padding": 1},
    {"groups": 4},  # depthwise
]


def tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in shapes]


def lean(function):
    def run(*arguments):
        with lean_layers():
            return function(*arguments)

    return run


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolution_has_torchs_value_and_right_derivatives(geometry):
    x, weight, bias = tensors((2, 4, 5, 6), (4, 4 // geometry.get("groups", 1), 3, 2), (4,))

    def convolve(*arguments):
        return F.conv2d(*arguments, **geometry)

    torch.testing.assert_close(lean(convolve)(x, weight, bias), convolve(x, weight, bias))
    assert gradcheck(lean(convolve), (x, weight, bias))
    assert gradgradcheck(lean(convolve), (x, weight, bias))


def test_third_derivatives_agree_with_torchs():
    """What a parameter gradient of a Hessian penalty needs: d/dw of v^T (d^2 f / dx^2) v."""

    def penalty(x, w1, w2, v):
        f = F.silu(F.conv2d(F.silu(F.conv2d(x, w1, padding=1)), w2)).pow(2).sum()
        (gradient,) = torch.autograd.grad(f, x, create_graph=True)
        (product,) = torch.autograd.grad(gradient, x, v, create_graph=True)
        return (v * product).sum()

    x, w1, w2, v = tensors((2, 2, 5, 5), (3, 2, 3, 3), (2, 3, 3, 3), (2, 2, 5, 5))
    ours, theirs = (torch.autograd.grad(run(x, w1, w2, v), (w1, w2)) for run in (lean(penalty), penalty))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_silu_is_right_to_fourth_order_and_far_out():
    (x,) = tensors((7, 3))
    with torch.no_grad():
        x.mul_(4)[0] = torch.tensor([0.0, 60.0, -60.0])
    assert gradcheck(lean(F.silu), x)
    assert gradgradcheck(lean(F.silu), x)
    derivatives = []
    for run in (lean(F.silu), F.silu):
        value, found = run(x), []
        for _ in range(4):
            (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
            found.append(value)
        derivatives.append(torch.stack(found))
    torch.testing.assert_close(*derivatives)
    assert derivatives[0].isfinite().all()


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_only_the_gradients_asked_for_are_computed():
    """One product with the Hessian is two convolutions' worth of work; torch's double backward does more."""
    x, w1, w2 = tensors((2, 4, 8, 8), (4, 4, 3, 3), (4, 4, 3, 3), dtype=torch.float32)
    forward = flops(lambda: F.conv2d(F.conv2d(x, w1, padding=1), w2, padding=1))
    with lean_layers():
        value = F.silu(F.conv2d(F.silu(F.conv2d(x, w1, padding=1)), w2, padding=1)).sum()
        assert flops(lambda: torch.autograd.grad(value, x, retain_graph=True)) == forward
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    assert flops(lambda: torch.autograd.grad(gradient, x, torch.ones_like(x), retain_graph=True)) == 2 * forward
    assert flops(lambda: value.backward()) == 2 * forward


class Viewing(nn.Module):
    """What people write: views, strides and in-place steps after a convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = F.relu(self.conv(x), inplace=True)
        x.view(x.size(0), -1)[:, ::2] *= 0.5
        x.flatten(1).mul_(2)
        patches = x.as_strided((len(x), 4, 2, 2), x.stride())
        return torch.cat([x.flatten(2).view(len(x), -1), patches.reshape(len(x), -1)], 1)


def test_models_that_look_into_memory_see_what_torch_shows_them():
    model, x = Viewing(), torch.randn(2, 3, 6, 6)
    with lean_layers():
        ours = model(x)
    torch.testing.assert_close(ours, model(x))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_and_gradients_have_torchs_layout(layout, channels):
    x = torch.randn(2, channels, 6, 6).to(memory_format=layout).requires_grad_()
    weight = torch.randn(4, channels, 3, 3, requires_grad=True)

    def strides(run):
        h = run(lambda *a: F.silu(F.conv2d(*a)))(x, weight)
        first, second = torch.autograd.grad(h.sum(), (x, weight), create_graph=True)
        return h.stride(), h.is_contiguous(), first.is_contiguous(), second.is_contiguous()

    assert strides(lean) == strides(lambda function: function)


def test_input_derivatives_come_contiguous_from_any_layout():
    model = SiluCnn(hidden=()).build((3, 8, 8), 3)
    x, y = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    f = CrossEntropy().bind(model, x, y)
    assert value_and_gradient(f, x)[1].is_contiguous()
    assert Hessian(f, x)(torch.ones_like(x)).is_contiguous()


@pytest.mark.parametrize("objective", [InputGradient(), Curvature(), CrossHolder(), AdversarialTraining()], ids=repr)
def test_checkpointed_models_recompute_what_they_computed(objective):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.body, self.head = nn.Sequential(nn.Conv2d(1, 3, 3), nn.SiLU()), nn.Linear(48, 3)
            self.saving = True

        def forward(self, x):
            h = checkpoint(self.body, x, use_reentrant=False) if self.saving else self.body(x)
            return self.head(h.flatten(1))

    model, x, y = Checkpointed(), torch.rand(4, 1, 6, 6), torch.arange(4) % 3
    gradients = []
    for model.saving in (True, False):
        model.zero_grad()
        objective(model, x, y, generator=torch.Generator().manual_seed(0)).total.backward()
        gradients.append(model.body[0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_nothing_outlives_the_backward():
    x = torch.randn(2, 3, requires_grad=True)
    with lean_layers():
        (slope,) = torch.autograd.grad(F.silu(x).sum(), x, create_graph=True)
    total = slope.pow(2).sum()
    total.backward()
    with pytest.raises(RuntimeError, match="second time"):
        total.backward()


def test_strides_of_any_whole_number_type():
    x, weight = tensors((1, 2, 5, 5), (2, 2, 3, 3))
    ours = lean(lambda *a: F.conv2d(*a, stride=np.int64(2)))(x, weight)
    torch.testing.assert_close(ours, F.conv2d(x, weight, stride=2))


def test_left_to_torch_are_autocast_transforms_strings_and_single_images():
    conv, x = nn.Conv2d(3, 4, 3, padding="same"), torch.randn(2, 3, 6, 6)
    with lean_layers():
        torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1))
        assert conv(x[0]).shape == (4, 6, 6)
        with torch.autocast("cpu", torch.bfloat16):
            assert F.conv2d(x, conv.weight).dtype == torch.bfloat16
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, torch.ones_like(x))
            assert forward_ad.unpack_dual(F.conv2d(dual, conv.weight)).tangent is not None
        slopes = torch.func.vmap(torch.func.grad(lambda t: F.silu(t).sum()))(x)
    assert slopes.shape == x.shape


def test_blocks_nest_and_end():
    x = torch.randn(2, 3, 6, 6, requires_grad=True)
    with lean_layers(), lean_layers():
        assert type(F.silu(x).grad_fn).__name__ == "_SiluBackward"
    assert type(F.silu(x).grad_fn).__name__ == "SiluBackward0"
    with lean_layers(False), lean_layers():
        assert type(F.silu(x).grad_fn).__name__ == "SiluBackward0"


def test_changing_a_factor_in_place_before_the_backward_is_an_error_as_in_torch():
    x, weight = tensors((1, 2, 4, 4), (2, 2, 3, 3))
    with lean_layers():
        value = F.conv2d(x, weight).sum()
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
