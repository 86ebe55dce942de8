"""Image files decoded to one form: uint8 RGB, upright.

Pillow reads the formats; what it leaves to the caller is done here: EXIF orientation
(https://exiftool.org/TagNames/EXIF.html), 16-bit greyscale, which `convert("RGB")` would
clip at 255, and alpha, which is laid over white. Embedded colour profiles are not applied.
"""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Pixels = npt.NDArray[np.uint8]

Image.MAX_IMAGE_PIXELS = None  # `max_pixels`, a param, is the limit instead


class UnreadableImageError(ValueError):
    """Bytes that are no whole image of an accepted size. The text says why."""


def decode(data: bytes, max_pixels: int) -> Pixels:
    """Decode an image file to uint8 RGB of shape (height, width, 3), EXIF rotation applied.

    Args:
        data: the file's bytes, in any format that Pillow reads; the first frame counts.
        max_pixels: larger images are refused from their header, before any is decoded.

    Raises:
        UnreadableImageError: not an image, truncated, or larger than `max_pixels`.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > max_pixels:
                raise UnreadableImageError(
                    f"{image.width}x{image.height} is more than detect.max_pixels {max_pixels}"
                )
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image") from None
    except Exception as error:
        # Pillow's format plug-ins raise whatever a damaged file makes them stumble over
        # (OSError, SyntaxError, struct.error, ValueError …): all mean the same here.
        raise UnreadableImageError(f"damaged image: {error}") from error


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image, dtype=np.int64)
        grey = np.clip(wide // 257, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., np.newaxis], 3, axis=2)
    if image.mode == "F":
        raise UnreadableImageError("floating-point pixels have no known range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))
