"""The published crop: one face, its box widened by a margin, at a fixed size.

The box grows by int(margin x its width) and int(margin x its height) on each side, is
clipped to the image, and is resized with Pillow's bicubic filter, which antialiases when it
shrinks (OpenCV's does not).
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from stages.dataset.images import Pixels
from stages.detection.detector import Face

CHOICES = ("score", "largest", "central")


def choose_face(faces: Sequence[Face], choice: str, height: int, width: int) -> Face:
    """The face that the crop is made of.

    Args:
        faces: at least one.
        choice: `score` (highest score), `largest` (largest box) or `central` (centre
            nearest to the image's); of equals, the first.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        ValueError: an unknown choice.
    """
    if choice == "score":
        return max(faces, key=lambda face: face.score)
    if choice == "largest":
        return max(faces, key=lambda face: (face.x2 - face.x1) * (face.y2 - face.y1))
    if choice == "central":
        return min(
            faces,
            key=lambda face: (face.x1 + face.x2 - width) ** 2 + (face.y1 + face.y2 - height) ** 2,
        )
    raise ValueError(f"choice {choice!r} is not one of {CHOICES}")


def pixel_box(face: Face) -> tuple[int, int, int, int]:
    """A face's box (x1, y1, x2, y2) in whole pixels."""
    return int(face.x1), int(face.y1), int(face.x2), int(face.y2)


def widen(
    box: tuple[int, int, int, int], margin: float, height: int, width: int
) -> tuple[int, int, int, int]:
    """A box (x1, y1, x2, y2) grown by `margin` of its size on each side, within the image."""
    x1, y1, x2, y2 = box
    across, down = int(margin * (x2 - x1)), int(margin * (y2 - y1))
    return max(0, x1 - across), max(0, y1 - down), min(width, x2 + across), min(height, y2 + down)


def crop(image: Pixels, box: tuple[int, int, int, int], margin: float, size: int) -> Pixels:
    """Cut a widened box out of an RGB image and resize it to uint8 (size, size, 3).

    Args:
        image: uint8 RGB (height, width, 3).
        box: (x1, y1, x2, y2) in pixels, at least 1x1.
        margin: share of the box's width and height added on each side, at least 0.
        size: side of the crop in pixels.
    """
    x1, y1, x2, y2 = widen(box, margin, *image.shape[:2])
    # Cut first: with resize(box=...) the filter would look at pixels outside the box.
    face = Image.fromarray(image[y1:y2, x1:x2])
    return np.asarray(face.resize((size, size), Image.Resampling.BICUBIC))
