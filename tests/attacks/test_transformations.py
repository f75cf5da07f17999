"""Rotations, shifts and noise: exact where pixels map onto pixels, inside the bounds, and worst over what was tried."""

import pytest
import torch
from torch import nn

from meseta.attacks import GaussianNoise, Spatial
from meseta.attacks.base import misclassified
from meseta.errors import UserError
from meseta.registry import methods

TRANSFORMATIONS = [GaussianNoise(sigma=0.3), GaussianNoise(draws=3), Spatial(), Spatial(draws=0, grid=(3, 3))]
each = pytest.mark.parametrize("transformation", TRANSFORMATIONS, ids=lambda t: t.name)


def images(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by(x, angle=0.0, down=0.0, right=0.0):
    """Return the images moved by exactly this."""
    return Spatial().moved(x, torch.tensor([[angle, down, right]], dtype=torch.float64).expand(len(x), 3))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 5, 9)])
def test_no_rotation_and_no_shift_is_the_identity(shape):
    x = images(*shape)
    torch.testing.assert_close(by(x), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(by(x.float()), x.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("quarters", [-1, 1, 2])
def test_quarter_turns_are_exact_on_square_images(side, quarters):
    x = images(2, 2, side, side)
    torch.testing.assert_close(by(x, 90.0 * quarters), torch.rot90(x, quarters, (2, 3)), rtol=0, atol=1e-9)


def test_a_half_turn_is_exact_on_any_image():
    x = images(2, 1, 5, 9)
    torch.testing.assert_close(by(x, 180.0), x.flip(2, 3), rtol=0, atol=1e-9)


def test_a_rotation_keeps_lengths_on_an_oblong_image():
    """A spot 6 pixels right of the centre is 6 pixels above it after a quarter turn."""
    x = torch.zeros(1, 1, 15, 25, dtype=torch.float64)
    x[..., 7, 12 + 6] = 1
    moved = by(x, 90.0)
    assert moved[0, 0, 7 - 6, 12].item() == pytest.approx(1)
    assert moved.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (-1, 0), (0, 3), (1, -2)])
def test_shifts_by_pixels_are_rolls_with_zeros(down, right):
    x = images(2, 2, 5, 8)
    expected = torch.roll(x, (down, right), (2, 3))
    expected[:, :, : max(down, 0)] = 0
    expected[:, :, 5 + min(down, 0) :] = 0
    expected[..., : max(right, 0)] = 0
    expected[..., 8 + min(right, 0) :] = 0
    torch.testing.assert_close(by(x, down=down / 5, right=right / 8), expected, rtol=0, atol=1e-12)


def test_the_shift_follows_the_rotation():
    x = images(1, 1, 6, 6)
    torch.testing.assert_close(by(x, 90.0, 1 / 6), by(torch.rot90(x, 1, (2, 3)), 0.0, 1 / 6), rtol=0, atol=1e-9)


def test_what_comes_from_beyond_the_edge_is_black():
    x = torch.full((1, 1, 4, 4), 0.5)
    moved = Spatial(bounds=(-1, 1)).moved(x, torch.tensor([[0.0, 0.0, 0.5]]))
    assert moved[0, 0, 0].tolist() == pytest.approx([-1, -1, 0.5, 0.5])


def classifier():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4)).double()


def standing(model, transformation, x, y, seed=0):
    found = transformation(model, x, y, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return ~misclassified(model.eval()(found), y)


@pytest.mark.parametrize("strength", [Spatial.weak, Spatial.medium, Spatial.strong])
def test_a_grid_beside_the_draws_never_breaks_less(strength):
    model, x = classifier().eval(), images(60, 1, 8, 8)
    y = model(x).argmax(1)
    drawn, both = (standing(model, strength(grid=grid), x, y) for grid in (None, (7, 3)))
    assert (both <= drawn).all()
    assert 0 < both.sum() < drawn.sum()


def test_the_grid_holds_the_image_itself():
    x = images(2, 1, 8, 8)
    candidates = list(Spatial(draws=0, grid=(3, 5)).candidates(x, None))
    assert len(candidates) == 75
    assert any(torch.allclose(candidate, x, rtol=0, atol=1e-12) for candidate in candidates)


def test_the_candidate_of_the_smallest_margin_is_returned():
    def model(points):  # never wrong, and the surer the brighter
        return torch.stack([points.flatten(1).sum(1) + 1, points.flatten(1).sum(1) * 0], 1)

    x, y = images(5, 1, 6, 6), torch.zeros(5, dtype=torch.long)
    transformation = Spatial.strong(draws=0, grid=(3, 3))
    darkest = torch.stack([c.clamp(0, 1).flatten(1).sum(1) for c in transformation.candidates(x, None)]).amin(0)
    torch.testing.assert_close(transformation(model, x, y).flatten(1).sum(1), darkest)


def test_draws_stay_within_their_ranges_and_fill_them():
    seen = []

    class Seen(Spatial):
        def moved(self, x, by):
            seen.append(by)
            return x

    list(
        Seen(rotation=20, translation=0.25, draws=200).candidates(images(5, 1, 4, 4), torch.Generator().manual_seed(0))
    )
    moves = torch.cat(seen)
    for column, most in zip(moves.T, (20, 0.25, 0.25), strict=True):
        assert column.abs().max() <= most
        assert column.abs().max() > 0.98 * most
        assert column.mean().abs() < 5 * most / 3**0.5 / 1000**0.5


def test_noise_has_its_standard_deviation_where_nothing_clips():
    x, y = torch.full((50, 400), 0.5, dtype=torch.float64), torch.zeros(50, dtype=torch.long)
    noise = GaussianNoise(sigma=0.02)(lambda p: p[:, :2], x, y, generator=torch.Generator().manual_seed(0)) - x
    n = noise.numel()
    assert noise.mean().abs() < 5 * 0.02 / n**0.5
    assert (noise.std() - 0.02).abs() < 5 * 0.02 / (2 * n) ** 0.5


def test_more_draws_never_break_less():
    model, x = classifier().eval(), images(60, 64)
    y = model(x).argmax(1)
    one, ten = (standing(model, GaussianNoise(sigma=0.3, draws=draws), x, y) for draws in (1, 10))
    assert (ten <= one).all()
    assert ten.sum() < one.sum()


@each
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 2.0), None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_keep_bounds_dtype_and_the_model_and_repeat_under_a_seed(transformation, bounds, dtype):
    transformation = type(transformation)(**{**vars(transformation), "bounds": bounds})
    model, x, y = classifier().to(dtype).train(), images(6, 1, 8, 8, dtype=dtype), torch.arange(6) % 4
    x.requires_grad_()
    state = torch.get_rng_state()
    first, second = (transformation(model, x, y, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.shape, first.dtype, first.requires_grad) == (x.shape, dtype, False)
    assert bounds is None or bool(((first >= bounds[0]) & (first <= bounds[1])).all())
    assert all(module.training for module in model.modules())


@each
def test_nan_logits_are_broken_and_examples_do_not_mix(transformation):
    """The first example fails at every candidate; the others go on as they would without it."""

    def model(points):
        z = points.flatten(1)[:, :2] + torch.tensor([1.0, 0.0])
        return torch.where(points.flatten(1).amax(1, keepdim=True) > 0.9, z * torch.nan, z)

    x, y = 0.3 * images(3, 1, 6, 6, dtype=torch.float32), torch.zeros(3, dtype=torch.long)
    x[0, :, 1:5, 1:5] = 1.0
    found = transformation(model, x, y, generator=torch.Generator().manual_seed(0))
    assert found.isfinite().all()
    assert not model(found)[0].isfinite().any()


def test_vectors_cannot_be_rotated():
    with pytest.raises(UserError, match=r"`x` must be images \(B, C, H, W\)"):
        Spatial()(lambda p: p[:, :2], torch.rand(2, 9), torch.tensor([0, 1]))


@each
def test_inputs_outside_the_bounds_are_refused(transformation):
    with pytest.raises(UserError, match="`x` must lie in the bounds"):
        transformation(classifier().float(), torch.full((2, 1, 8, 8), 1.5), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spatial(rotation=-1), "`rotation`"),
        (lambda: Spatial(translation=1.5), "`translation`"),
        (lambda: Spatial(draws=-1), "`draws`"),
        (lambda: Spatial(draws=0), "nothing to try"),
        (lambda: Spatial(grid=(4, 5)), "odd"),
        (lambda: Spatial(grid=5), r"\(angles, shifts\)"),
        (lambda: Spatial(bounds=(1, 0)), "`bounds`"),
        (lambda: GaussianNoise(sigma=0), "`sigma`"),
        (lambda: GaussianNoise(draws=0), "`draws`"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_they_are_found_by_name_and_named():
    assert {"Spatial", "GaussianNoise"} <= set(methods("transformations"))
    assert Spatial.strong(draws=10, grid=(31, 5)).name == "Spatial 50° 30% x10 grid 31x5x5"
    assert Spatial.weak().name == "Spatial 10° 5%"
    assert GaussianNoise(sigma=0.05).name == "GaussianNoise 0.05"
