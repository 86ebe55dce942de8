"""Crops in many files of one size: a Zarr array, https://zarr-specs.readthedocs.io (version 3).

Why Zarr: training wants rows in any order, and the same order as from one file, so that the result
is the same. TFRecord and WebDataset are read from front to back, Parquet by groups of rows; of a
Zarr array each chunk is a file, and without compression that is the bare pixels of its rows. So
they are mapped into memory here as crops.npy is, a row costs one page fault and no library, and
any Zarr library opens the folder (a test does with zarr-python, which reads random rows some
hundred times slower). Crops hardly compress without loss.

The folder stands in the place of the file: `data/faces/crops.npy/zarr.json` and `c/<i>/0/0/0`. The
last file is filled up with zeros, as Zarr has it.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.core.errors import UserError
from stages.core.files import partial_path

META = "zarr.json"
SHARD_BYTES = 1 << 28  # of one file at most
_FORM = {
    "zarr_format": 3,
    "node_type": "array",
    "data_type": "uint8",
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes"}],
    "attributes": {},
}


class ShardedCrops:
    """uint8 RGB (N, size, size, 3) in files of a folder; rows are read as those of an array.

    Indexing by a number, a slice, row numbers or a mask gives a new array in memory; iteration
    gives one crop at a time.

    Raises:
        UserError: the folder holds something else, or a file is missing or cut.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, folder: Path) -> None:
        mend = "run `dvc repro -f detect`"
        try:
            meta = json.loads((folder / META).read_text(encoding="utf-8"))
            grid = meta["chunk_grid"]["configuration"]["chunk_shape"]
            self.shape: tuple[int, ...] = tuple(meta["shape"])
            unlike = [key for key, value in _FORM.items() if meta[key] != value]
            if unlike or tuple(grid[1:]) != self.shape[1:] or len(grid) != 4 or grid[0] < 1:
                raise ValueError(f"another form of {', '.join(unlike) or 'chunks'}")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(f"{folder}: no array of crops ({error}); {mend}") from error
        self.folder, self.rows_each = folder, int(grid[0])
        self._maps: list[npt.NDArray[np.uint8]] = []
        for number in range(-(-self.shape[0] // self.rows_each)):
            file = folder / _key(number)
            try:
                self._maps.append(np.memmap(file, np.uint8, "r", shape=tuple(grid)))
            except (OSError, ValueError) as error:
                raise UserError(f"{file}: missing or cut ({error}); {mend}") from error

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[npt.NDArray[np.uint8]]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
        if isinstance(key, (int, np.integer)):
            row = range(len(self))[key]
            return np.asarray(self._maps[row // self.rows_each][row % self.rows_each])
        if isinstance(key, slice):
            rows = np.arange(*key.indices(len(self)))
        else:
            rows = np.asarray(key)
            if rows.dtype == bool:
                rows = np.flatnonzero(rows)
            rows = np.where(rows < 0, rows + len(self), rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"row {rows.min()}..{rows.max()} of {len(self)}")
        crops = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shards, places = np.divmod(rows, self.rows_each)
        for shard in np.unique(shards):
            mine = shards == shard
            crops[mine] = self._maps[shard][places[mine]]
        return crops


class Chosen:
    """Some rows of crops, read when they are asked for."""

    def __init__(self, crops: ShardedCrops, rows: npt.NDArray[np.int64]) -> None:
        self.crops, self.rows = crops, rows
        self.shape = (len(rows), *crops.shape[1:])

    def __getitem__(self, part: slice) -> npt.NDArray[np.uint8]:
        return self.crops[self.rows[part]]


def write_shards(
    crops: npt.NDArray[np.uint8] | ShardedCrops | Chosen,
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write crops into a new folder, file by file.

    Args:
        crops: uint8 (N, size, size, 3); may be mapped from a file.
        folder: is made.
        shard_bytes: of a file at most; at least one crop.
    """
    each = max(1, shard_bytes // int(np.prod(crops.shape[1:])))
    for number, start in enumerate(range(0, crops.shape[0], each)):
        file = folder / _key(number)
        file.parent.mkdir(parents=True)
        part = crops[start : start + each]
        with file.open("wb") as opened:
            np.ascontiguousarray(part).tofile(opened)
            opened.flush()
            opened.truncate(each * int(np.prod(crops.shape[1:])))
            os.fsync(opened.fileno())
    folder.mkdir(parents=True, exist_ok=True)
    chunk = {"name": "regular", "configuration": {"chunk_shape": [each, *crops.shape[1:]]}}
    meta = _FORM | {"shape": list(crops.shape), "chunk_grid": chunk}
    (folder / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def put_shards(crops: npt.NDArray[np.uint8] | ShardedCrops | Chosen, path: Path) -> None:
    """Write crops into a folder of shards at `path`, where a file or another folder may stand.

    Until it is whole it grows under a hidden name, of its own: not that of a file that grows.
    """
    partial = unfinished(path)
    shutil.rmtree(partial, ignore_errors=True)
    write_shards(crops, partial)
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    partial.rename(path)


def unfinished(path: Path) -> Path:
    """The hidden folder in which shards for `path` grow; a killed process may leave it."""
    return partial_path(path.with_name(f"shards-{path.name}"))


def _key(number: int) -> str:
    return f"c/{number}/0/0/0"
