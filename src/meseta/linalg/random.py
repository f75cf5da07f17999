"""Random numbers like a tensor, drawn where the generator lives, so that its seed decides them on every device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rand(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return uniform numbers in [0, 1) on the device of `like`, of its dtype but never below float32.

    In bfloat16 there are 256 of them, which would draw rare classes too often and most of a thousand never.
    """
    device = generator.device if generator else like.device
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(tuple(shape), generator=generator, dtype=dtype, device=device).to(like.device)


def randn(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return standard normal numbers of the dtype and on the device of `like`."""
    device = generator.device if generator else like.device
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=device).to(like.device)
