"""Encoded images to one uint8 tensor."""

import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from meseta.errors import MissingExtra, UserError
from meseta.files import check_memory

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Told by a file's content, whatever its name. No others are tried: EPS is a program, and run by another program."""
GREY = {"1", "L", "LA"}
COLOUR = {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"}


@dataclass
class Decoder:
    """Decodes images one by one, of all splits, to one size; remembers what their files were.

    Args:
        image_size: height and width to resize to, in pixels, bilinear; None where all have the same size.

    Grey images stay grey, unless some image of the data set is coloured.
    """

    image_size: int | None
    colour: bool = False
    size: tuple[int, int] | None = None
    first: str = ""
    formats: set[str] = field(default_factory=set)
    held: int = 0

    def decode(self, items: Iterable[tuple[str, bytes | Path]], n: int) -> Tensor:
        """Return (n, C, H, W), uint8; `items` are names and encoded contents.

        Each image goes straight to its place, so that nothing is held twice. Where the first coloured one comes after
        grey ones, and where `in_colour` finds another split coloured, those are copied once.
        """
        images = torch.empty(0, dtype=torch.uint8)
        for i, image in enumerate(self._decode(items)):
            if i == 0:
                images = torch.empty(n, *image.shape, dtype=torch.uint8)
            if len(image) > images.shape[1]:
                images = self.in_colour(images)
            images[i] = image  # a grey one into all three channels of a coloured data set
        return images

    def in_colour(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W), with three channels where any image that was decoded, of any split, has colour."""
        return images.expand(-1, 3, -1, -1).contiguous() if self.colour and images.shape[1] == 1 else images

    def _decode(self, items: Iterable[tuple[str, bytes | Path]]) -> Iterator[Tensor]:
        try:
            from PIL import Image
        except ImportError:
            raise MissingExtra("pillow", "data") from None
        for name, content in items:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", Image.DecompressionBombWarning)
                    with Image.open(
                        io.BytesIO(content) if isinstance(content, bytes) else content, "r", FORMATS
                    ) as image:
                        tensor = self._tensor(name, image)
            except UserError:
                raise
            except Exception as error:  # Pillow raises errors of many kinds on damaged files
                raise UserError(f"image {name} cannot be decoded: {error}. Repair or remove it.") from None
            self.held += tensor.numel()
            check_memory("`source`: what is decoded so far", 2 * self.held)  # twice: what is held out is copied from it
            yield tensor

    def _tensor(self, name: str, image: "Image") -> Tensor:
        """Return one image as a tensor, (1, H, W) or (3, H, W), resized."""
        self.formats.add(image.format or "unknown")
        if image.mode not in GREY | COLOUR:
            raise UserError(f"image {name} has the pixel mode {image.mode}. Convert it to 8 bits a channel.")
        grey = image.mode in GREY
        self.colour |= not grey
        plain = image.convert("L" if grey else "RGB")
        if self.image_size is not None and plain.size != (self.image_size, self.image_size):
            from PIL.Image import Resampling

            plain = plain.resize((self.image_size, self.image_size), Resampling.BILINEAR)
        if self.size is None:
            self.size, self.first = plain.size, name
        if plain.size != self.size:
            (w0, h0), (w, h) = self.size, plain.size
            raise UserError(
                f"image {name} has {h}×{w} pixels, but {self.first} has {h0}×{w0}. "
                "Set image_size to resize all to one size."
            )
        pixels = torch.frombuffer(bytearray(plain.tobytes()), dtype=torch.uint8)
        return pixels.reshape(plain.height, plain.width, -1).permute(2, 0, 1)
