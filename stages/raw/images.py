"""Decode image files to upright uint8 RGB.

Only the formats of labelled names are read, recognized by content; Pillow supports many more, some
of which start other programs (EPS). EXIF orientation is applied, 16-bit greyscale scaled, and
transparency composed over white. Embedded colour profiles are not applied.
"""

import io
import logging
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from stages.core.errors import lacks_memory
from stages.raw.names import spell

Pixels = npt.NDArray[np.uint8]

Image.MAX_IMAGE_PIXELS = None  # `max_pixels`, a param, is the limit instead
# What Pillow finds odd in a file is no matter of the reader's; what it cannot read has a row.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
# Pixels of a side, as in JPEG and GIF. PNG, BMP and TIFF admit 2^31, but of a row of more bits than
# that Pillow says that memory is short.
LONGEST_SIDE = 65_535
PASSES = 20  # scans over `max_pixels` that a JPEG may have; ordinary progressive files have 10
_SCAN = b"\xff\xda"  # starts each scan
_LARGE = 10_000_000  # pixels, at up to 28 bytes each; such images are decoded one at a time
_turn: AbstractContextManager[Any] = threading.Lock()


def take_turns(lock: AbstractContextManager[Any]) -> None:
    """Use this lock, which processes may share, to decode large images one at a time."""
    global _turn
    _turn = lock


class UnreadableImageError(ValueError):
    """The bytes are not a complete image of an accepted size. The text is the reason."""


def decode(data: bytes, max_pixels: int, named: str = "detect.max_pixels") -> Pixels:
    """Decode the first frame of an image file to upright uint8 RGB (height, width, 3).

    Raises UnreadableImageError if it is no image, damaged, or larger than `max_pixels`, which the
    text calls `named`, or longer than LONGEST_SIDE; the size is checked before decoding.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels, size = image.width * image.height, f"{image.width}x{image.height}"
            if pixels > max_pixels:
                raise UnreadableImageError(f"{size} is more than {named} {max_pixels}")
            if max(image.size) > LONGEST_SIDE:
                raise UnreadableImageError(f"{size} has a side of more than {LONGEST_SIDE} pixels")
            passes = data.count(_SCAN) if image.format in ("JPEG", "MPO") else 1
            if passes * pixels > PASSES * max_pixels:
                raise UnreadableImageError(f"{passes} passes over {size}")
            with _turn if pixels > _LARGE else nullcontext():
                image.load()
                return _to_rgb(_upright(image))
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image") from None
    except Exception as error:
        # Pillow's plug-ins raise many types on damaged files (OSError, SyntaxError, ...).
        if lacks_memory(error):
            raise MemoryError from error
        reason = spell(" ".join(str(error).split()) or type(error).__name__)
        raise UnreadableImageError(f"damaged image: {reason[:200]}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # EXIF data that Pillow cannot read say nothing
        if lacks_memory(error):
            raise
        return image


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16") or image.mode == "I":  # convert("RGB") would clip at 255
        grey = (np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels have no known range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
