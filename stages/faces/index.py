"""`data/faces/`: the index of the raw members, and the crops.

`index.csv` has one `Row` for each member of the raw archives, in archive order. `crops.npy` has the
crops in the order of the `cropped` rows; above `detect.shard_gib` it is a folder (see `shards`).
"""

import csv
import math
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import atomic_write, check_listed, read_csv
from stages.faces.shards import ShardedCrops, unfinished, write_shards

STATUSES = ("cropped", "no_face", "unreadable", "bad_label")


class Row(NamedTuple):
    """One row of index.csv; None is an empty cell."""

    name: str  # base name, made unique by archive and path
    archive: str  # file name of its archive
    status: str  # one of STATUSES
    age: int | None = None  # years; empty, as gender and race, if the name has no valid labels
    gender: int | None = None  # UTKFace code, as race
    race: int | None = None
    score: float | None = None  # of the chosen face, in [0, 1]
    x1: int | None = None  # its box in pixels of the upright image, before the margin
    y1: int | None = None
    x2: int | None = None
    y2: int | None = None
    faces_found: int | None = None  # faces at or above the threshold
    width: int | None = None  # of the upright image in pixels
    height: int | None = None
    reason: str = ""  # for another status than `cropped`


COLUMNS = list(Row._fields)
_TYPES = dict.fromkeys([column for column in COLUMNS if column != "score"], "Int64") | (
    dict.fromkeys(["name", "archive", "status", "reason"], "str")
)


def write_faces(
    extractions: Iterable[tuple[Row, npt.NDArray[np.uint8] | None]],
    index: Path,
    crops: Path,
    size: int,
    shard_above: float = math.inf,
) -> dict[str, int]:
    """Write index and crops from a stream; both files appear complete, or neither.

    `extractions` are rows, and for status `cropped` uint8 (size, size, 3) crops. Above
    `shard_above` bytes the crops are stored in shards. Returns the number of rows by status.
    """
    counts = dict.fromkeys(STATUSES, 0)
    shutil.rmtree(unfinished(crops), ignore_errors=True)  # left by a killed process
    with (
        atomic_write(crops) as crops_file,
        atomic_write(index) as index_file,
        crops_file.open("wb") as pixels,
        index_file.open("w", newline="", encoding="utf-8") as table,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        _write_header(pixels, 0, size)
        for row, crop in extractions:
            writer.writerow(row)
            counts[row.status] += 1
            if crop is not None:
                pixels.write(crop.tobytes())
        pixels.seek(0)
        _write_header(pixels, counts["cropped"], size)
        if crops.is_dir():
            shutil.rmtree(crops)  # a file cannot be moved over a folder
    if crops.stat().st_size > shard_above:
        write_shards(np.load(crops, mmap_mode="r", allow_pickle=False), crops)
    return counts


def _write_header(file: BinaryIO, rows: int, size: int) -> None:
    """Write the .npy header, which numpy pads, so that its length does not depend on the rows."""
    about = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, about)


def read_index(path: Path) -> pd.DataFrame:
    """Read index.csv; integers are nullable `Int64`. Raises as `read_csv` and `check_listed`."""
    check_listed(path)
    return read_csv(path, COLUMNS, "detect", dtype=_TYPES, na_values={"score": [""]})


def read_cropped(path: Path) -> pd.DataFrame:
    """Read the `cropped` rows of index.csv; row i describes crop i."""
    frame = read_index(path)
    return frame[frame["status"] == "cropped"].reset_index(drop=True)


def read_crops(path: Path) -> npt.NDArray[np.uint8]:
    """Memory-map crops.npy, uint8 RGB (N, size, size, 3); a folder gives a `ShardedCrops`.

    Raises UserError if the file is missing, has other contents, or bytes that SHA256SUMS belies.
    """
    if path.exists():
        check_listed(path)
    if path.is_dir():
        return cast("npt.NDArray[np.uint8]", ShardedCrops(path))
    if not path.is_file():
        raise UserError(f"{path}: missing; run `dvc repro -f detect`")
    try:
        crops: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: malformed ({error}); run `dvc repro -f detect`") from error
    if crops.ndim != 4 or crops.shape[3] != 3 or crops.dtype != np.uint8:
        raise UserError(f"{path}: contains {crops.dtype} {crops.shape}; run `dvc repro -f detect`")
    return crops
