"""Pictures of a record as PNG."""

from base64 import b64decode, b64encode
from io import BytesIO

from meseta.errors import MissingExtra
from meseta.evaluation.record import Picture

_NEGATIVE, _ZERO, _POSITIVE = (178, 24, 43), (247, 247, 247), (33, 102, 172)
"""Ends and middle of the colours of signed pictures: ColorBrewer's RdBu, which colour-blind readers tell apart."""


def png(picture: Picture, *, signed: bool = False) -> bytes:
    """Return a picture as PNG; `signed` shows one channel in red for negative and blue for positive values.

    Raises:
        MissingExtra: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("pillow", "report") from None
    channels, height, width = picture.shape
    pixels = b64decode(picture.pixels)
    planes = [
        Image.frombytes("L", (width, height), pixels[c * height * width : (c + 1) * height * width])
        for c in range(channels)
    ]
    image = Image.merge("RGB", planes) if channels == 3 else planes[0]
    if signed and channels == 1:
        image.putpalette(_palette())
    file = BytesIO()
    image.save(file, format="PNG", optimize=True)
    return file.getvalue()


def data_url(picture: Picture, *, signed: bool = False) -> str:
    """Return a picture as the source of an HTML image."""
    return "data:image/png;base64," + b64encode(png(picture, signed=signed)).decode()


def _palette() -> list[int]:
    """Return 256 colours from negative over zero to positive."""

    def mixed(level: float) -> list[int]:
        end, share = (_POSITIVE, 2 * level - 1) if level > 0.5 else (_NEGATIVE, 1 - 2 * level)
        return [round(zero + share * (colour - zero)) for zero, colour in zip(_ZERO, end, strict=True)]

    return [value for i in range(256) for value in mixed(i / 255)]
