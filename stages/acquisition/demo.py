"""The demo data: an archive of drawn portraits with UTKFace-style names, without a download.

The labels are balanced over age groups, genders and races. A few files are invalid on purpose, so
that every status of the index occurs.
"""

import io
import tarfile
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from stages.acquisition.portraits import draw_background, draw_portrait
from stages.core.files import atomic_write
from stages.raw.images import Pixels

AGE_GROUPS = ((1, 14), (15, 25), (26, 40), (41, 60), (61, 116))  # the published ones, years


def write_demo(target: Path, portraits: int, seed: int) -> None:
    """Write portraits and nine odd files to an uncompressed tar; equal arguments, equal bytes."""
    generator = np.random.default_rng(seed)
    files = chain(_portraits(portraits, generator), _odd_files(generator))
    with atomic_write(target) as partial, tarfile.open(partial, "w") as archive:
        for name, data in tqdm(files, "drawing", portraits + 9, unit="file", disable=None):
            info = tarfile.TarInfo(f"demo/{name}")  # time and owner are 0: reproducible bytes
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _portraits(number: int, generator: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    cells = list(product(AGE_GROUPS, (0, 1), range(5)))
    order = [cells[i % len(cells)] for i in range(number)]
    generator.shuffle(order)
    for serial, ((youngest, oldest), gender, race) in enumerate(order):
        age = int(generator.integers(youngest, oldest + 1))
        picture = draw_portrait(age, gender, race, generator)
        yield _file_name(age, gender, race, serial), _jpeg(picture)


def _odd_files(generator: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Two unusual names that are accepted, and one or more members for each other status."""
    faces = [draw_portrait(30, gender, gender, generator) for gender in (0, 1)]
    yield "30_0_0_20260101000900000 .jpg", _jpeg(faces[0])
    yield "30_1_1_20260101000900001jpg", _jpeg(faces[1])
    for serial in (900002, 900003):  # no face
        yield _file_name(40, 0, 2, serial), _jpeg(draw_background(generator))
    portrait = _jpeg(draw_portrait(50, 1, 3, generator))
    yield "50_1_20260101000900004.jpg", portrait  # a field is missing
    yield "500_1_3_20260101000900005.jpg", portrait  # age out of range
    yield "notes.txt", b"not an image, and no labels in its name\n"
    yield _file_name(50, 1, 3, 900006), portrait[: len(portrait) // 2]  # truncated
    yield _file_name(50, 1, 3, 900007), b""


def _file_name(age: int, gender: int, race: int, serial: int) -> str:
    return f"{age}_{gender}_{race}_20260101{serial:09d}.jpg"


def _jpeg(picture: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
