"""Crops in many files: a Zarr array (version 3, https://zarr-specs.readthedocs.io).

Without compression each chunk of a Zarr array is a file that contains only the pixels of its rows,
so that it can be memory-mapped like crops.npy, and any Zarr library can open the folder
(zarr-python reads random rows about a hundred times slower). The last file is padded with zeros.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.core.errors import UserError
from stages.core.files import partial_path

SHARD_BYTES = 1 << 28  # most bytes of a file
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
    """uint8 RGB (N, size, size, 3) in files of a folder, indexed along the first axis.

    Raises UserError if the folder has other contents, or a file is missing or truncated.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, folder: Path) -> None:
        try:
            meta = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
            grid = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
            self.shape: tuple[int, ...] = tuple(meta["shape"])
            self.folder, self.shard_rows = folder, grid[0]
            self._rows = np.arange(self.shape[0])
            files = [folder / _key(i) for i in range(-(-self.shape[0] // self.shard_rows))]
            self._maps = [np.memmap(file, np.uint8, "r", shape=grid) for file in files]
        except (OSError, ValueError, LookupError, TypeError) as error:
            mend = "run `dvc repro -f detect`"
            raise UserError(f"{folder}: not an array of crops ({error}); {mend}") from error

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.asarray(self[:], dtype)

    def __getitem__(self, key: Any) -> npt.NDArray[np.uint8]:
        rows = self._rows[key]
        shards, offsets = np.divmod(rows, self.shard_rows)
        if rows.ndim == 0:  # a number
            return np.asarray(self._maps[shards][offsets])
        crops = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for shard in np.unique(shards):
            mask = shards == shard
            crops[mask] = self._maps[shard][offsets[mask]]
        return crops


Crops = npt.NDArray[np.uint8] | ShardedCrops
Rows = npt.NDArray[np.int64]


def write_shards(
    crops: Crops, path: Path, shard_bytes: int = SHARD_BYTES, rows: Rows | None = None
) -> None:
    """Write crops, uint8 (N, size, size, 3), or some rows of them in place of what is at `path`.

    A file has at most `shard_bytes`, but at least one crop. The folder has a hidden name until it
    is complete.
    """
    folder = unfinished(path)
    shutil.rmtree(folder, ignore_errors=True)
    rows = np.arange(len(crops)) if rows is None else rows
    crop_bytes = int(np.prod(crops.shape[1:]))
    in_file = max(1, shard_bytes // crop_bytes)
    for number, start in enumerate(range(0, len(rows), in_file)):
        file = folder / _key(number)
        file.parent.mkdir(parents=True)
        with file.open("wb") as opened:
            crops[rows[start : start + in_file]].tofile(opened)
            opened.flush()
            opened.truncate(in_file * crop_bytes)
            os.fsync(opened.fileno())
    folder.mkdir(parents=True, exist_ok=True)
    chunk = {"name": "regular", "configuration": {"chunk_shape": [in_file, *crops.shape[1:]]}}
    meta = _FORM | {"shape": [len(rows), *crops.shape[1:]], "chunk_grid": chunk}
    (folder / "zarr.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    folder.rename(path)


def unfinished(path: Path) -> Path:
    """The hidden folder of incomplete shards for `path`; a killed process may leave it."""
    return partial_path(path.with_name(f"shards-{path.name}"))


def _key(number: int) -> str:
    return f"c/{number}/0/0/0"
