"""Pictures of gradients and Hessians that are known, and curves along a direction, in the record."""

from base64 import b64decode

import pytest
import torch

from meseta.autodiff import Margin
from meseta.errors import UserError
from meseta.evaluation.gradients import picture_gradients
from meseta.evaluation.pictures import picture
from meseta.evaluation.profiles import profile
from meseta.geometry import Expansion


def values_of(found):
    """Return a picture's values (C, H, W), right to half a level."""
    levels = torch.tensor(list(b64decode(found.pixels)), dtype=torch.float64).view(found.shape)
    return found.low + levels / 255 * (found.high - found.low)


def test_a_picture_holds_its_values_to_half_a_level_and_clamps_the_rest():
    values = torch.linspace(-2, 2, 12).view(3, 2, 2)
    found = picture(values, -1, 1)
    assert found.shape == (3, 2, 2)
    assert (values_of(found) - values.clamp(-1, 1)).abs().max() <= 1 / 255 + 1e-6
    assert values_of(picture(torch.zeros(1, 1, 1), 0, 0)).item() == 0
    with pytest.raises(UserError, match="`values`"):
        picture(torch.zeros(2, 4, 4), 0, 1)


def quadratic(slopes, bends):
    """Two logits with margin slopes . x + x^T bends x / 2 of images."""

    def model(x):
        flat = x.flatten(1)
        value = flat @ slopes + torch.einsum("bd,de,be->b", flat, bends, flat) / 2
        return torch.stack([value, torch.zeros_like(value)], 1)

    return model


@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_and_hessian_of_a_quadratic(channels):
    generator = torch.Generator().manual_seed(0)
    d = channels * 4 * 4
    slopes, bends = torch.randn(d, generator=generator).double(), torch.randn(d, d, generator=generator).double()
    bends = bends + bends.T
    x = torch.rand(2, channels, 4, 4, generator=generator).double()
    y = torch.tensor([0, 0])
    found = picture_gradients(quadratic(slopes, bends), x, y, field=Margin(), indices=[3, 8], hessian=2, split="test")
    assert [one.index for one in found] == [3, 8]
    for one, image in zip(found, x, strict=True):
        truth = (slopes + bends @ image.flatten()).view(channels, 4, 4)
        shown = {name: values_of(part) for name, part in one.pictures.items()}
        level = {name: (part.high - part.low) / 255 for name, part in one.pictures.items()}
        assert (shown["input"] - image).abs().max() <= level["input"]
        assert (shown["normalized"] - truth).abs().max() <= level["normalized"]
        ends = one.pictures["normalized"].low, one.pictures["normalized"].high
        assert ends == pytest.approx((float(truth.min()), float(truth.max())))
        assert (shown["gradient"] - truth.sum(0, keepdim=True)).abs().max() <= level["gradient"]
        assert one.pictures["gradient"].low == -one.pictures["gradient"].high
        middle = torch.zeros(channels, 4, 4, dtype=torch.bool)
        middle[:, 1:3, 1:3] = True
        chosen = middle.flatten()
        assert (shown["hessian"][0] - bends[chosen][:, chosen]).abs().max() <= level["hessian"]
        value = quadratic(slopes, bends)(image[None]).argmax()
        assert (one.label, one.predicted) == (0, value)


def test_what_cannot_be_pictured_is_refused():
    model, y = quadratic(torch.ones(16).double(), torch.eye(16).double()), torch.tensor([0])
    x = torch.rand(1, 1, 4, 4).double()
    with pytest.raises(UserError, match="`hessian`"):
        picture_gradients(model, x, y, field=Margin(), indices=[0], hessian=5)
    with pytest.raises(UserError, match="`x`"):
        picture_gradients(model, x.flatten(1), y, field=Margin(), indices=[0])
    broken = quadratic(torch.full((16,), float("inf")).double(), torch.eye(16).double())
    with pytest.raises(UserError, match="not finite"):
        picture_gradients(broken, x, y, field=Margin(), indices=[0])


def test_a_profile_has_the_curves_of_the_expansion_and_none_for_nan():
    x, y = torch.rand(2, 1, 4, 4).double() / 2, torch.tensor([0, 0])
    expansion = Expansion(field=Margin(), h=(0.5,), points=5)
    model = quadratic(torch.ones(16).double(), torch.eye(16).double())
    found = profile(model, x, y, expansion=expansion, indices=[4, 2], split="val")
    truth = expansion(model, x, y)
    assert [(one.index, one.split, one.settings) for one in found] == [(i, "val", repr(expansion)) for i in (4, 2)]
    for i, one in enumerate(found):
        assert one.x == [0, 0.25, 0.5, 0.75, 1]
        for name, values in one.curves.items():
            assert values == pytest.approx(truth.curves[name][i].tolist(), rel=1e-5)

    def root(inputs):  # defined from 0 on
        value = (inputs[:, 0, 0, 0] - 0.2).sqrt()
        return torch.stack([value, torch.zeros_like(value)], 1)

    x = torch.full((1, 1, 4, 4), 0.21).double()
    (one,) = profile(root, x, y[:1], expansion=Expansion(field=Margin(), direction="gradient", h=()), indices=[0])
    assert one.curves["f itself"][0] == pytest.approx(0.1)
    assert one.curves["f itself"][-1] is None
