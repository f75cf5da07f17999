"""Random crops and flips of a batch, without a loop over its examples."""

import torch
import torch.nn.functional as F
from torch import Tensor

from meseta.errors import UserError


def augment(x: Tensor, padding: int = 4, flip: bool = True, *, generator: torch.Generator | None) -> Tensor:
    """Return each image shifted by up to `padding` pixels, zeros moving in, and mirrored half of the time.

    Args:
        x: images, (B, C, H, W).
        padding: pixels around the image before a window of its own size is cut out; 4 is usual for 32×32.
        flip: mirror left and right; wrong for digits.
        generator: source of the windows and flips, on its own device; None takes torch's global one.

    Source: He et al. 2016, the CIFAR-10 augmentation.
    """
    if x.ndim != 4:
        raise UserError(f"`x` must be images, (batch, channels, height, width), got {tuple(x.shape)}. Reshape them.")
    if padding < 0:
        raise UserError(f"`padding` must not be negative, got {padding}. 4 is usual, 0 moves nothing.")
    b, _, height, width = x.shape
    device = generator.device if generator is not None else x.device
    top, left = torch.randint(0, 2 * padding + 1, (2, b, 1), generator=generator, device=device).to(x.device)
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    if flip:
        mirrored = torch.rand(b, 1, generator=generator, device=device).to(x.device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (padding,) * 4)
    examples = torch.arange(b, device=x.device)[:, None, None]
    windows = padded[examples, :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return windows.permute(0, 3, 1, 2).contiguous()
