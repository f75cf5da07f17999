import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from meseta.data import augment
from meseta.errors import UserError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 3), st.booleans(), st.integers(1, 6), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_image_is_a_window_of_the_padded_one(padding: int, flip: bool, h: int, w: int, seed: int) -> None:
    x = torch.rand(5, 2, h, w, generator=seeded(seed))
    out = augment(x, padding, flip, generator=seeded(seed))
    padded = F.pad(x, (padding,) * 4)
    for i in range(5):
        windows = [
            padded[i, :, top : top + h, left : left + w]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
        ]
        mirrored = [window.flip(2) for window in windows] if flip else []
        assert any(torch.equal(out[i], window) for window in windows + mirrored)


def test_generator_decides() -> None:
    x = torch.rand(64, 3, 8, 8)
    assert torch.equal(augment(x, generator=seeded(1)), augment(x, generator=seeded(1)))
    assert not torch.equal(augment(x, generator=seeded(1)), augment(x, generator=seeded(2)))


def test_all_windows_and_flips_come_up_equally_often() -> None:
    n, padding = 18_000, 1
    x = torch.arange(1.0, 10).reshape(1, 1, 3, 3).expand(n, -1, -1, -1)
    out = augment(x, padding, generator=seeded())
    _, counts = out.flatten(1).unique(dim=0, return_counts=True)
    assert len(counts) == 18
    share = 1 / 18
    assert ((counts / n - share).abs() < 5 * (share * (1 - share) / n) ** 0.5).all()


def test_nothing_to_do_is_the_identity() -> None:
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64)
    assert torch.equal(augment(x, 0, False, generator=None), x)


def test_wrong_arguments() -> None:
    with pytest.raises(UserError, match=r"`x` must be images, .* got \(3, 4\)"):
        augment(torch.rand(3, 4), generator=None)
    with pytest.raises(UserError, match="`padding` must not be negative"):
        augment(torch.rand(1, 1, 3, 4), -1, generator=None)
