"""Pictures of a record as PNG."""

from base64 import b64decode, b64encode
from io import BytesIO

from meseta.errors import MissingExtra
from meseta.evaluation.record import Picture
from meseta.report.style import DIVERGING


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
    steps = len(DIVERGING) - 1

    def mixed(at: float) -> list[int]:
        below = min(int(at), steps - 1)
        pairs = zip(DIVERGING[below], DIVERGING[below + 1], strict=True)
        return [round(low + (at - below) * (high - low)) for low, high in pairs]

    return [value for i in range(256) for value in mixed(i * steps / 255)]
