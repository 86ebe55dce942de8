"""Permanently removed images.

`forgotten/images.csv` is tracked by git and read by stage detect: an image whose bytes are listed
gets no row and no crop, in any archive and under any name. It contains no names, only the SHA-256
of the file (`sha256`) and the date (`forgotten_on`).

`forgotten/models.csv` lists the networks trained on such images by the SHA-256 of their files
(`sha256`), with the `run` and the number of `images`. These networks and their copies are stale.
"""

import csv
import hashlib
import mmap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import atomic_write, read_csv, write_csv
from stages.core.paths import FORGOTTEN_IMAGES, FORGOTTEN_MODELS
from stages.faces.index import read_cropped, read_crops
from stages.faces.shards import ShardedCrops, put_shards
from stages.raw.archives import Member

Item = TypeVar("Item")


def fingerprint(member: Member) -> str | None:
    """Hexadecimal SHA-256 of a member's bytes; None if it has none."""
    return None if member.data is None else hashlib.sha256(member.data).hexdigest()


def read_forgotten(path: Path = FORGOTTEN_IMAGES) -> frozenset[str]:
    """The fingerprints of all forgotten images; an error if the file is missing or malformed."""
    return frozenset(_read(path, ["sha256", "forgotten_on"])["sha256"])


def read_stale(path: Path = FORGOTTEN_MODELS) -> frozenset[str]:
    """SHA-256 of the files of all networks that were trained on a forgotten image."""
    return frozenset(_read(path, ["sha256", "run", "images"])["sha256"])


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path}: missing; restore it with `git checkout {path}`")
    return read_csv(path, columns, "detect", dtype="str")


def named(items: Iterable[Item], member_of: Callable[[Item], Member]) -> Iterator[tuple[str, Item]]:
    """Yield the unique name of each member in index.csv, in linear time.

    A second member with a base name is named by its archive and path, further ones get a number.
    """
    taken: dict[str, int] = {}  # by name, the number for the next member of that name
    for item in items:
        member = member_of(item)
        name, full = member.name, f"{member.archive}/{member.path}"
        if name in taken:
            name = full
        while name in taken:
            number = taken[full]
            taken[full] = number + 1
            name = f"{full}#{number}"
        taken[name] = 2
        yield name, item


def with_copies(names: Collection[str], split: pd.DataFrame) -> list[str]:
    """The names and those of all their copies, in the order of `split`, the table of split.csv."""
    groups = split["group"][split["name"].isin(names)]
    copies = split["name"][split["group"].isin(groups)].tolist()
    return copies + [name for name in names if name not in set(copies)]


def append_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Add the rows with new `sha256` to one of the two files."""
    table = pd.concat(
        [pd.read_csv(path, dtype="str", keep_default_na=False), pd.DataFrame(list(rows))]
    )
    write_csv(path, table.drop_duplicates("sha256"))


def remove_crops(names: Collection[str], index: Path, crops: Path) -> int:
    """Remove images from crops.npy, before they are removed from index.csv; return their number."""
    cropped, pixels = read_cropped(index), read_crops(crops)
    if len(cropped) != len(pixels):
        raise UserError(
            f"{crops}: {len(pixels)} crops for {len(cropped)} rows; run `dvc repro -f detect`"
        )
    kept = ~cropped["name"].isin(names).to_numpy()
    if isinstance(pixels, ShardedCrops):
        put_shards(pixels, crops, np.flatnonzero(kept))
    else:
        with atomic_write(crops) as partial, partial.open("wb") as file:
            np.save(file, pixels[kept])
    return int((~kept).sum())


def remove_rows(names: Collection[str], table: Path) -> int:
    """Remove the rows that contain any of the names from a CSV file; return their number."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    kept = [row for row in rows if not set(row) & set(names)]
    if len(kept) < len(rows):
        with atomic_write(table) as partial, partial.open("w", encoding="utf-8", newline="") as new:
            csv.writer(new, lineterminator="\n").writerows(kept)
    return len(rows) - len(kept)


def mentions(names: Collection[str], file: Path) -> bool:
    """Whether any of the names occurs in a file of any format."""
    with file.open("rb") as opened:
        if not file.stat().st_size:
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(name.encode()) >= 0 for name in names)
