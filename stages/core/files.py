"""Files that are whole or absent, and their digests.

Every output of the project is written beside its final place under a fixed hidden name
and moved there in one step, so that a killed process leaves nothing that looks finished,
and the next attempt overwrites what it left.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import UserError

if TYPE_CHECKING:  # predictions start without it
    import pandas as pd

PARTIAL_SUFFIX = ".partial"


def partial_path(path: Path) -> Path:
    """The hidden name under which `path` grows until it is whole."""
    return path.with_name(f".{path.name}{PARTIAL_SUFFIX}")


@contextmanager
def atomic_write(path: Path, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path; on success move it to `path`, on any error delete it.

    The parent folder is made where it is missing. The data is flushed to the disk before
    the move, so that a power cut cannot leave an empty file under the final name.

    Raises:
        UserError: the path is a folder's or has no name; a device, pipe or socket is there, which a
            file would replace; no file can be made there, as in /proc.

    Args:
        path: where it goes.
        shared: several processes may write it at the same time; the temporary path is then this
            one's own, and stays where it is killed (see `caches.remove_older`).
    """
    if path.name in ("", ".."):
        raise UserError(f"{path}: is a folder; name a file")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: is a device, pipe or socket, which a file would replace")
    partial = partial_path(path.with_name(f"{os.getpid()}-{path.name}") if shared else path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        commit(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        # The parent folder is there: its file system takes no files.
        missing = isinstance(error, FileNotFoundError) and Path(error.filename or "")
        if missing in (partial, *path.parents):
            raise UserError(f"{path}: no file can be made here") from None
        raise


def commit(partial: Path, path: Path) -> None:
    """Flush `partial` to the disk and move it to `path` in one step."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    if path.is_dir():  # still: what writes the file may have taken a folder away
        raise UserError(f"{path}: is a folder; name a file")
    partial.replace(path)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file's bytes, read in blocks; of a folder, of names and files."""
    hasher = hashlib.new(algorithm)
    if path.is_dir():
        for inside in sorted(inside for inside in path.rglob("*") if inside.is_file()):
            hasher.update(f"{inside.relative_to(path).as_posix()}\n{digest(inside)}\n".encode())
        return hasher.hexdigest()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


CHECKSUMS = "SHA256SUMS"
_HEAL = "run `utkface-mtl verify`, which finds what is damaged and says how it comes back"


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of everything in a folder, as `sha256sum --check` reads them."""
    inside = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    lines = [f"{digest(path)}  {path.name}\n" for path in inside]
    with atomic_write(folder / CHECKSUMS) as partial:
        partial.write_text("".join(lines), encoding="utf-8")


def check_digest(path: Path, wanted: str) -> None:
    """Refuse a file whose bytes are not those that were written.

    DVC trusts a file by its time and mode: a byte that flips on the disk it does not see.

    Raises:
        UserError: the SHA-256 is another one.
    """
    state = path.stat()
    if _digest_once(path, state.st_mtime_ns, state.st_size) != wanted:
        raise UserError(f"{path}: damaged, its SHA-256 is not {wanted[:12]}...; {_HEAL}")


@functools.cache
def _digest_once(path: Path, _: int, __: int) -> str:
    """The digest of a file that a process reads more than once, by its time and size."""
    return digest(path)


def check_listed(path: Path) -> None:
    """As `check_digest`, by the checksums of the folder; nothing where either is missing."""
    sums = path.with_name(CHECKSUMS)
    if sums.is_file() and path.exists():
        lines = sums.read_text(encoding="utf-8", errors="replace").splitlines()
        listed = {name: wanted for wanted, _, name in (line.partition("  ") for line in lines)}
        if path.name not in listed:
            raise UserError(f"{sums}: damaged, it does not list {path.name}; {_HEAL}")
        check_digest(path, listed[path.name])


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON file, whole or not at all, keys in the given order."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a CSV file without row numbers, whole or not at all; floats with 6 digits."""
    with atomic_write(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")


def remove_others(folder: Path, keep: Collection[Path]) -> None:
    """Delete everything in a folder but `keep`, half-written files included."""
    for path in folder.iterdir():
        if path not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def read_csv(path: Path, columns: Sequence[str], made_by: str, **options: Any) -> pd.DataFrame:
    """Read a CSV file that a stage wrote; only `options` make a cell a missing value.

    Args:
        path: the file.
        columns: those that it must have.
        made_by: the stage that writes it, for the error.
        options: of `pandas.read_csv`.

    Raises:
        UserError: the file is missing, empty, no table, or lacks a column.
    """
    import pandas as pd

    mend = f"run `dvc repro -f {made_by}`"
    try:
        frame: pd.DataFrame = pd.read_csv(path, keep_default_na=False, **options)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; {mend}") from None
    except ValueError as error:  # pandas' own errors, another type in a column, no UTF-8
        raise UserError(f"{path}: malformed ({error}); {mend}") from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise UserError(f"{path}: lacks the columns {missing}; {mend}")
    return frame


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Read a JSON file that a stage wrote.

    Args:
        path: the file.
        made_by: the stage that writes it, for the error.

    Raises:
        UserError: the file is missing, or no JSON object.
    """
    if not path.is_file():
        raise UserError(f"{path}: missing; run `dvc repro {made_by}`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        fault = "no object"
    except (ValueError, RecursionError) as error:  # no UTF-8 too
        fault = str(error)
    raise UserError(f"{path}: malformed ({fault}); run `dvc repro -f {made_by}`")
