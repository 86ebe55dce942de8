"""Write predictions as JSON lines or CSV, or as annotated pictures with JSON lines beside them."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from PIL import Image, ImageDraw, ImageFont

from stages.core.files import atomic_write
from stages.inference.face_extraction import MAX_PIXELS
from stages.inference.models import Model
from stages.inference.predictions import ImagePredictions, as_record, csv_columns, csv_rows
from stages.raw.images import Pixels, decode

FORMATS = ("jsonl", "csv", "pictures")
FRAME, INK = (255, 214, 10), (20, 20, 20)  # a yellow that is visible on skin and most clothes
PAPER = (255, 255, 255)
SMALLEST_TEXT = 11  # pixels

Write = Callable[[ImagePredictions], None]


@contextmanager
def open_writer(form: str, output: Path | None, model: Model) -> Iterator[Write]:
    """Yield a function that writes predictions; a file appears complete or not at all.

    `form` is one of `FORMATS`. `output` is a file, for pictures a folder; None: standard output,
    row by row.
    """
    if output is None:
        # The bytes of a file, whatever the locale.
        sys.stdout.reconfigure(encoding="utf-8", line_buffering=True)  # type: ignore[union-attr]
        yield _row_writer(form, sys.stdout, model)
        return
    # The file beside the pictures also lists the images that could not be drawn.
    table = output / "predictions.jsonl" if form == "pictures" else output
    with atomic_write(table) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        write = _row_writer(form, file, model)
        yield _picture_writer(output, write, model) if form == "pictures" else write


def _row_writer(form: str, file: TextIO, model: Model) -> Write:
    if form != "csv":
        return lambda each: print(json.dumps(as_record(each, model)), file=file)
    columns = csv_columns(model.input_spec, model.tells_years)
    table = csv.DictWriter(file, columns, lineterminator="\n")
    table.writeheader()
    return lambda each: table.writerows(csv_rows(as_record(each, model)))


def _picture_writer(folder: Path, write: Write, model: Model) -> Write:
    numbers = count(1)

    def draw(predictions: ImagePredictions) -> None:
        number, image = next(numbers), predictions.image
        if image.width is not None and image.member.data is not None:
            pixels = decode(image.member.data, MAX_PIXELS)
            # Names from archives may contain anything; the number makes them unique.
            name = re.sub(r"[^\w.-]", "_", image.member.name)[-100:]
            picture = annotate(pixels, as_record(predictions, model))
            with atomic_write(folder / f"{number:05}-{name}.jpg") as partial:
                picture.save(partial, "JPEG", quality=90)
        write(predictions)

    return draw


def annotate(pixels: Pixels, record: Mapping[str, Any]) -> Image.Image:
    """Draw the boxes of a record on its image, uint8 RGB (height, width, 3); classes go below it.

    The strip below has a line for each face, or more where the image is narrow, so that no label
    covers a face. With several faces a number at each box says which line is its own.
    """
    image = Image.fromarray(pixels)
    size = max(SMALLEST_TEXT, round(min(image.size) / 30))
    font, pen = ImageFont.load_default(size), ImageDraw.Draw(image)
    numbered, lines = len(record["faces"]) > 1, []
    for number, face in enumerate(record["faces"], start=1):
        x1, y1, x2, y2 = face["box"] or (0, 0, image.width, image.height)
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=FRAME, width=max(2, size // 6))
        if numbered:
            _badge(pen, str(number), (x1, y1), font)
        tasks = [values for task, values in face.items() if task not in ("score", "box")]
        text = [f"{t['class']} ({t['probabilities'][t['class']]:.0%})" for t in tasks]
        start = [f"{number}:"] * numbered
        lines += _broken([*start, *text], image.width - size, pen, font)
    height = round(1.35 * size)
    whole = Image.new("RGB", (image.width, image.height + height * len(lines)), PAPER)
    whole.paste(image)
    pen = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        pen.text((size // 2, image.height + number * height), line, fill=INK, font=font)
    return whole


def _badge(pen: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], font: Any) -> None:
    """Write a number above a box, or in its corner where there is no room above."""
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x, y = corner[0], corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=FRAME)
    pen.text((x + 3 - left, y + 3 - top), text, fill=INK, font=font)


def _broken(parts: list[str], width: int, pen: ImageDraw.ImageDraw, font: Any) -> list[str]:
    """Parts joined to lines that are at most `width` pixels wide, where a part is not wider."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} {part}" if lines[-1].endswith(":") else f"{lines[-1]}, {part}"
        if pen.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
