"""Remote archives on S3 or a compatible storage, read through s3fs without a local copy.

Stage download records an archive in data/raw as `<name>.remote.json`, which DVC tracks. Stage
detect streams the members from the storage, and refuses an object that is not the recorded one.
Keys, region and endpoint are configured as for the AWS tools. Needs the extra `s3`.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.sections import Section

SCHEME, SUFFIX = "s3://", ".remote.json"  # of an address in params, and of its record
AHEAD = 8 << 20  # bytes of one request


class RemoteArchive(Section):
    """An object on the storage when it was recorded."""

    address: str  # s3://bucket/key
    size: int  # bytes
    etag: str  # its version

    @property
    def name(self) -> str:
        """The file name."""
        return PurePosixPath(self.address).name

    def __str__(self) -> str:
        return self.address

    def open(self, mode: str = "rb", buffering: int = -1) -> Any:
        """Open the content, like `pathlib.Path.open`; an error for an object that was replaced."""
        assert mode == "rb"
        current = _look_up(self.address)
        if current != self:
            fault = f"another object than recorded (etag {current.etag}, not {self.etag})"
            raise UserError(f"{self.address}: is {fault}; run `dvc repro -f download`")
        with _storage_errors(self.address):
            file = _system().open(self.address, "rb", block_size=AHEAD, cache_type="readahead")
        raw = _File(file, self.address)
        return raw if buffering == 0 else io.BufferedReader(raw, 1 << 16)


def _look_up(address: str) -> RemoteArchive:
    with _storage_errors(address):
        info = _system().info(address, refresh=True)
    if info["type"] != "file":
        raise UserError(f"{address}: is not an object; list the archives individually")
    etag = str(info["ETag"]).strip('"')
    return RemoteArchive(address=address, size=int(info["size"]), etag=etag)


def record(address: str, folder: Path) -> Path:
    """Write the record of an archive into a folder; return its path."""
    archive = _look_up(address)
    path = folder / f"{archive.name}{SUFFIX}"
    write_json(path, archive.model_dump())
    return path


def read_record(path: Path) -> RemoteArchive:
    """Read the record of an archive; an error if it is damaged."""
    return RemoteArchive.parse(path.read_bytes(), path, "damaged; run `dvc repro -f download`")


class _File(io.RawIOBase):
    """A file on the storage; all errors of reading become an OSError with a number."""

    def __init__(self, file: Any, address: str) -> None:
        self.file, self.address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.file.read(len(buffer))
        except Exception as error:  # botocore, aiohttp and s3fs share no base class
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.address) from error
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return int(self.file.seek(offset, whence))
        except ValueError as error:  # before the start
            raise OSError(errno.EINVAL, str(error), self.address) from error


def _system() -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise UserError("s3:// addresses need s3fs: pip install '.[s3]'") from error
    return s3fs.S3FileSystem()  # s3fs caches instances


@contextmanager
def _storage_errors(address: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{address}: not found; see data.local and data.mirror") from error
    except Exception as error:  # botocore, aiohttp and s3fs share no base class
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{address}: {reason}; see docs/scale.md for keys and endpoint") from error
