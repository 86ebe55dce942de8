"""Where answers go: rows as JSON lines or CSV, or annotated pictures with such rows beside them."""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from stages.core.files import atomic_write
from stages.dataset.images import decode
from stages.inference.drawing import annotate
from stages.inference.face_extraction import MAX_PIXELS
from stages.inference.models import Model
from stages.inference.predictions import ImagePredictions, as_record, csv_columns, csv_rows

FORMATS = ("jsonl", "csv", "pictures")
PICTURES_TABLE = "predictions.jsonl"  # what the pictures show, and those that could not be drawn
JPEG_QUALITY = 90

Write = Callable[[ImagePredictions], None]


@contextmanager
def open_writer(form: str, output: Path | None, model: Model) -> Iterator[Write]:
    """Yield what writes an answer; a file appears whole, or not at all.

    Args:
        form: one of `FORMATS`.
        output: a file, for pictures a folder; None: standard output, row by row.
        model: whose answers they are.
    """
    if output is None:
        write = _rows(form, sys.stdout, model)

        def write_through(answer: ImagePredictions) -> None:
            write(answer)
            sys.stdout.flush()

        yield write_through
        return
    table = output / PICTURES_TABLE if form == "pictures" else output
    with atomic_write(table) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        write = _rows(form, file, model)
        yield _pictures(output, write, model) if form == "pictures" else write


def _rows(form: str, file: TextIO, model: Model) -> Write:
    if form != "csv":
        return lambda answer: print(json.dumps(as_record(answer, model.input_spec)), file=file)
    columns = csv_columns(model.input_spec, model.tells_years)
    table = csv.DictWriter(file, columns, lineterminator="\n")
    table.writeheader()
    return lambda answer: table.writerows(csv_rows(as_record(answer, model.input_spec)))


def _pictures(folder: Path, write: Write, model: Model) -> Write:
    number = 0

    def draw(answer: ImagePredictions) -> None:
        nonlocal number
        number += 1
        data = answer.look.member.data
        if answer.look.width is not None and data is not None:
            pixels = decode(data, MAX_PIXELS)
            # A name from an archive may hold anything; the number makes it unique.
            name = re.sub(r"[^\w.-]", "_", answer.look.member.name)[-100:]
            picture = annotate(pixels, as_record(answer, model.input_spec))
            with atomic_write(folder / f"{number:05}-{name}.jpg") as partial:
                picture.save(partial, "JPEG", quality=JPEG_QUALITY)
        write(answer)

    return draw
