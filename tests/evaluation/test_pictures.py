"""What the pictures show is what the attack found: bytes back to numbers, against the model and the distances."""

from base64 import b64decode

import pytest
import torch
from torch import Tensor, nn

from meseta import Threat
from meseta.attacks import FMN, DeepFool
from meseta.errors import UserError
from meseta.evaluation import distances, pictured
from meseta.evaluation.pictures import picture
from meseta.evaluation.record import Picture


def restored(one: Picture) -> Tensor:
    levels = torch.frombuffer(bytearray(b64decode(one.pixels)), dtype=torch.uint8).reshape(one.shape)
    return one.low + (one.high - one.low) * levels.double() / 255


def half_step(one: Picture) -> float:
    return (one.high - one.low) / 510 + 1e-6


@pytest.fixture
def linear():
    """A linear classifier of colour images whose margins are small, with labels that it gives but for the last."""
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(5, 3, 4, 4, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.randn(3, 48, generator=generator))
        model[1].bias.copy_(-model[1].weight.sum(1) * 0.5)
        y = model(x).argmax(1)
    y[-1] = (y[-1] + 1) % 3
    return model, x, y


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_pictures_are_the_example_its_perturbation_and_their_sum(linear, norm):
    model, x, y = linear
    attack = FMN(threat=Threat(norm), steps=20)
    bound = distances(model, x, y, attacks=attack)
    found = pictured(model, x, y, attack=attack, split="test")
    assert [one.index for one in found] == [0, 1, 2, 3, 4]
    assert [one.label for one in found] == y.tolist()
    for one, image, distance in zip(found[:4], x[:4], bound.values[:4], strict=True):
        shown = {name: restored(part) for name, part in one.pictures.items()}
        steps = {name: half_step(part) for name, part in one.pictures.items()}
        assert (shown["input"] - image).abs().max() <= steps["input"]
        assert (shown["adversarial"] - image - shown["perturbation"]).abs().max() <= sum(steps.values())
        low, high = one.pictures["perturbation"].low, one.pictures["perturbation"].high
        assert -low == high == pytest.approx(float(shown["perturbation"].abs().max()))
        assert one.norm == norm
        assert one.distance == pytest.approx(distance, rel=1e-4)
        if norm == "Linf":
            assert one.distance == pytest.approx(high, rel=1e-4)
        assert one.predicted == one.label != one.found


def test_an_example_that_is_misclassified_is_shown_as_it_is(linear):
    model, x, y = linear
    last = pictured(model, x, y, attack=DeepFool())[-1]
    assert list(last.pictures) == ["input"]
    assert (last.found, last.distance) == (None, None)
    assert last.predicted != last.label


def test_where_none_is_found_there_is_none():
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    (one,) = pictured(model, torch.rand(1, 1, 4, 4), torch.tensor([0]), attack=DeepFool())
    assert list(one.pictures) == ["input"]
    assert (one.predicted, one.found, one.distance) == (0, None, None)


def test_the_same_seed_gives_the_same_pictures_and_leaves_the_model_as_it_was(linear):
    model, x, y = linear
    model.train()
    state = torch.random.get_rng_state()
    first, second = (pictured(model, x, y, attack=DeepFool(), seed=3) for _ in range(2))
    assert [one.pictures for one in first] == [one.pictures for one in second]
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_bytes_are_linear_between_the_ends_and_stop_there():
    image = torch.tensor([[[-2.0, -1.0, 0.0, 1.0, 2.0]]])
    assert b64decode(picture(image, -1.0, 1.0).pixels) == bytes([0, 0, 128, 255, 255])
    assert picture(image.repeat(3, 1, 1), -1.0, 1.0).shape == (3, 1, 5)


@pytest.mark.parametrize(
    ("image", "ends", "message"),
    [
        (torch.zeros(2, 4, 4), (0.0, 1.0), "shape"),
        (torch.zeros(4, 4), (0.0, 1.0), "shape"),
        (torch.full((1, 2, 2), torch.nan), (0.0, 1.0), "NaN"),
    ],
)
def test_what_no_picture_can_show_is_refused(image, ends, message):
    with pytest.raises(UserError, match=message):
        picture(image, *ends)


def test_inputs_that_are_no_images_are_refused():
    with pytest.raises(UserError, match="images"):
        pictured(nn.Linear(4, 2), torch.rand(3, 4), torch.tensor([0, 1, 0]), attack=DeepFool())
