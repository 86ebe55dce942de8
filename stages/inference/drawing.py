"""A picture with its faces boxed and named."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from stages.dataset.images import Pixels

FRAME, INK = (255, 214, 10), (20, 20, 20)  # a yellow that shows on skin and on most clothes


def annotate(pixels: Pixels, record: Mapping[str, Any]) -> Image.Image:
    """Draw each face's box, and under it the class of each task with its probability.

    Args:
        pixels: uint8 RGB (height, width, 3).
        record: what the model says of the picture, as `answers.as_record` gives it.
    """
    image = Image.fromarray(pixels)
    pen = ImageDraw.Draw(image)
    size = max(11, round(min(image.size) / 45))
    font = ImageFont.load_default(size)
    for face in record["faces"]:
        x1, y1, x2, y2 = face["box"] or (0, 0, image.width, image.height)
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=FRAME, width=max(2, size // 6))
        lines = [_said(face[task]) for task in face if task not in ("score", "box")]
        left, _, right, bottom = pen.multiline_textbbox((0, 0), "\n".join(lines), font=font)
        # Under the box, or as low as the picture allows.
        x = max(0, min(x1, image.width - right))
        y = max(0, min(y2, image.height - bottom - 2))
        pen.rectangle((x + left - 2, y, x + right + 2, y + bottom + 2), fill=FRAME)
        pen.multiline_text((x, y), "\n".join(lines), fill=INK, font=font)
    return image


def _said(said: Mapping[str, Any]) -> str:
    return f"{said['class']} {said['probabilities'][said['class']]:.0%}"
