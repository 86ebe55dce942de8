"""Decode image files to upright uint8 RGB.

Only the formats of labelled names are read, recognized by content; Pillow supports many more, some
of which start other programs (EPS).

Pillow decodes all formats except complete, upright JPEG files in colour, which libjpeg-turbo
decodes to the same pixels in half the time. This module also applies EXIF orientation
(https://exiftool.org/TagNames/EXIF.html), scales 16-bit greyscale, which `convert("RGB")` would
clip at 255, and composes transparency over white. Embedded colour profiles are not applied.
"""

import io
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps

from stages.raw.names import spell

Pixels = npt.NDArray[np.uint8]

Image.MAX_IMAGE_PIXELS = None  # `max_pixels`, a param, is the limit instead

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
PASSES = 20  # scans over `max_pixels` that a JPEG may have; ordinary progressive files have 10
_SCAN = b"\xff\xda"  # starts each scan
# Segments of a JPEG that neither rotate it nor change its format: JFIF, tables, baseline and
# progressive frames, restarts, comments.
_HARMLESS = frozenset(b"\xe0\xdb\xc4\xc0\xc1\xc2\xdd\xfe")
_LARGE = 10_000_000  # pixels, at up to 28 bytes each; such images are decoded one at a time
_turn: AbstractContextManager[Any] = threading.Lock()
_REASON = 200  # characters


def take_turns(lock: AbstractContextManager[Any]) -> None:
    """Use this lock, which processes may share, to decode large images one at a time."""
    global _turn
    _turn = lock


class UnreadableImageError(ValueError):
    """The bytes are not a complete image of an accepted size. The text is the reason."""


def decode(data: bytes, max_pixels: int, named: str = "detect.max_pixels") -> Pixels:
    """Decode an image file to uint8 RGB of shape (height, width, 3), EXIF rotation applied.

    Args:
        data: the file's bytes, in one of FORMATS; only the first frame is read.
        max_pixels: larger images are refused before decoding.
        named: the name of this limit in error messages.

    Raises:
        UnreadableImageError: not an image, damaged, or larger than `max_pixels`.
    """
    if (plain := _plain_jpeg(data, max_pixels)) is not None:
        return plain
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise UnreadableImageError(
                    f"{image.width}x{image.height} is more than {named} {max_pixels}"
                )
            passes = data.count(_SCAN) if image.format in ("JPEG", "MPO") else 1
            if passes * pixels > PASSES * max_pixels:
                raise UnreadableImageError(f"{passes} passes over {image.width}x{image.height}")
            with _turn if pixels > _LARGE else nullcontext():
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image") from None
    except Exception as error:
        # Pillow's plug-ins raise many types on damaged files (OSError, SyntaxError, ...).
        reason = spell(" ".join(str(error).split()) or type(error).__name__)
        raise UnreadableImageError(f"damaged image: {reason[:_REASON]}") from error


def _plain_jpeg(data: bytes, max_pixels: int) -> Pixels | None:
    """The pixels of an intact JPEG in colour without EXIF or other extras; None for other files.

    Large files and files of many scans are left to `decode`.
    """
    if not _harmless(data):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        pixels = height * width
        limit = min(max_pixels, _LARGE)
        if pixels > limit or data.count(_SCAN) * pixels > PASSES * limit:
            return None
        if colours not in ("YCbCr", "RGB"):
            return None
        room = np.empty((height, width, 3), np.uint8)
        simplejpeg.decode_jpeg(data, "RGB", buffer=room, strict=True)
    except ValueError:
        return None  # Pillow tolerates some faults and reports the others
    return room


def _harmless(data: bytes) -> bool:
    """Whether a JPEG has only harmless segments before its first scan."""
    place = 2  # after the start marker
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2]:
        if data[place + 1] == _SCAN[1]:
            return data.startswith(b"\xff\xd8")
        if data[place + 1] not in _HARMLESS:
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return False


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.clip(np.asarray(image), 0, 65535)
        grey = (wide // 257).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels have no known range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
