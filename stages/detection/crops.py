"""The published crop: one face, its box widened by a margin, resized to a fixed size.

Pillow's bicubic filter resizes it: unlike OpenCV's, it antialiases when it shrinks an image.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from stages.detection.detector import Face
from stages.raw.images import Pixels

BOX = ("x1", "y1", "x2", "y2")  # names of a box's parts
Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels


def choose_face(faces: Sequence[Face], choice: str, height: int, width: int) -> Face:
    """Choose one of at least one face; the first one if several are equal.

    `choice` is `score` (highest score), `largest` (largest box) or `central` (centre nearest to
    that of the image, whose size is given in pixels).
    """
    if choice == "central":
        return min(faces, key=lambda f: (f.x1 + f.x2 - width) ** 2 + (f.y1 + f.y2 - height) ** 2)
    if choice == "largest":
        return max(faces, key=lambda f: (f.x2 - f.x1) * (f.y2 - f.y1))
    return max(faces, key=lambda f: f.score)


def pixel_box(face: Face) -> Box:
    """A face's box (x1, y1, x2, y2) in whole pixels."""
    return int(face.x1), int(face.y1), int(face.x2), int(face.y2)


def widen(box: Box, margin: float, height: int, width: int) -> Box:
    """Widen a box (x1, y1, x2, y2) by `margin` of its size on each side, within the image."""
    x1, y1, x2, y2 = box
    dx, dy = int(margin * (x2 - x1)), int(margin * (y2 - y1))
    return max(0, x1 - dx), max(0, y1 - dy), min(width, x2 + dx), min(height, y2 + dy)


def crop(image: Pixels, box: Box, margin: float, size: int) -> Pixels:
    """Crop a widened box, at least 1x1 pixels, and resize it to uint8 RGB (size, size, 3)."""
    x1, y1, x2, y2 = widen(box, margin, *image.shape[:2])
    # Crop first: the filter of resize(box=...) would use pixels outside the box.
    face = Image.fromarray(image[y1:y2, x1:x2])
    return np.asarray(face.resize((size, size), Image.Resampling.BICUBIC))
