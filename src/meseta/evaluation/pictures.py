"""Tensors as pictures of a record."""

from base64 import b64encode

from torch import Tensor

from meseta.errors import UserError
from meseta.evaluation.record import Picture


def picture(values: Tensor, low: float, high: float) -> Picture:
    """Return values (C, H, W) as bytes: `low` is 0, `high` is 255, in between linearly and rounded.

    Values outside are clamped, and NaN is `low`.

    Raises:
        UserError: another shape, or C neither 1 nor 3.
    """
    if values.dim() != 3 or values.shape[0] not in (1, 3):
        raise UserError(f"`values` must be (1, H, W) or (3, H, W) for a picture, got shape {tuple(values.shape)}.")
    span = high - low if high > low else 1.0
    levels = (255 * ((values.detach().double() - low) / span)).nan_to_num(0).round().clamp(0, 255)
    channels, height, width = values.shape
    return Picture(
        shape=(channels, height, width),
        pixels=b64encode(bytes(levels.flatten().long().tolist())).decode(),
        low=low,
        high=high,
    )
