"""Permanently removed images.

`forgotten/images.csv`: an image whose bytes have a listed `sha256` gets no row and no crop, in any
archive and under any name. `forgotten/models.csv` lists the networks trained on such images by the
`sha256` of their files, with the `run` and the number of `images`: they are stale.
"""

import csv
import hashlib
import mmap
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from stages.core.errors import UserError
from stages.core.files import atomic_write, read_csv, write_csv
from stages.core.paths import FORGOTTEN_IMAGES
from stages.faces.index import read_cropped, read_crops
from stages.faces.shards import ShardedCrops, write_shards
from stages.raw.archives import Member

Item = TypeVar("Item")


def fingerprint(member: Member) -> str | None:
    """Hexadecimal SHA-256 of a member's bytes; None if it has none."""
    return None if member.data is None else hashlib.sha256(member.data).hexdigest()


def read_forgotten(path: Path = FORGOTTEN_IMAGES) -> frozenset[str]:
    """The SHA-256 listed in one of the two files; an error if it is missing or malformed."""
    if not path.is_file():
        raise UserError(f"{path}: missing; restore it with `git checkout {path}`")
    return frozenset(read_csv(path, ["sha256"], "detect", dtype="str")["sha256"])


def named(pairs: Iterable[tuple[Member, Item]]) -> Iterator[tuple[str, Item]]:
    """Yield the unique name of each member in index.csv with what belongs to it, in linear time.

    A second member with a base name is named by its archive and path, further ones get a number.
    """
    taken: dict[str, int] = {}  # by name, the number for the next member of that name
    for member, item in pairs:
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
    known = pd.read_csv(path, dtype="str", keep_default_na=False)
    write_csv(path, pd.concat([known, pd.DataFrame(list(rows))]).drop_duplicates("sha256"))


def remove_crops(names: Collection[str], index: Path, crops: Path) -> int:
    """Remove images from crops.npy, before they are removed from index.csv; return their number."""
    cropped, pixels = read_cropped(index), read_crops(crops)
    if len(cropped) != len(pixels):
        fault = f"{len(pixels)} crops for {len(cropped)} rows"
        raise UserError(f"{crops}: {fault}; run `dvc repro -f detect`")
    kept = ~cropped["name"].isin(names).to_numpy()
    if isinstance(pixels, ShardedCrops):
        write_shards(pixels, crops, rows=np.flatnonzero(kept))
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
    """Whether any of the names occurs in a file of any format, not as part of a longer one."""
    with file.open("rb") as opened:
        if not file.stat().st_size:
            return False
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(
                re.search(rb"(?<![\w.-])" + re.escape(name.encode()) + rb"(?![\w.-])", content)
                for name in names
            )
