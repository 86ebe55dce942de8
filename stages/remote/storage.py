"""Archives that stay where they are: on S3 or a storage that speaks as S3 does, through fsspec.

Node download records such an archive in data/raw as `<name>.remote.json`: its `address`, `size`
(bytes) and `etag`. That small file is what DVC knows, so that another object under the same
address, once recorded, reruns what follows. Node detect reads members from the storage, some
megabytes ahead, and refuses an object that is not the recorded one.

Keys, region and endpoint come from where the AWS tools have them: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL, or ~/.aws. Needs the extra `s3`.
"""

import errno
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core.errors import UserError
from stages.core.files import write_json

SCHEME = "s3://"
SUFFIX = ".remote.json"
AHEAD = 8 << 20  # bytes that are fetched at once


@dataclass(frozen=True)
class RemoteArchive:
    """An object on the storage, as it was when it was recorded.

    Attributes:
        address: s3://bucket/key.
        size: in bytes.
        etag: the storage's name for this content.
    """

    address: str
    size: int
    etag: str

    @property
    def name(self) -> str:
        """Its file name."""
        return PurePosixPath(self.address).name

    def __str__(self) -> str:
        return self.address

    def open(self, mode: str = "rb", buffering: int = -1) -> Any:
        """The content as a seekable file of bytes; as `pathlib.Path.open`.

        Raises:
            UserError: there is another object by now, or none.
        """
        assert mode == "rb"
        found = look_up(self.address)
        if found != self:
            raise UserError(
                f"{self.address}: is another object than recorded in data/raw (etag {found.etag}, "
                f"not {self.etag}); run `dvc repro -f download`"
            )
        with _telling(self.address):
            file = _system().open(self.address, "rb", block_size=AHEAD, cache_type="readahead")
        raw = _Reading(file, self.address)
        return raw if buffering == 0 else io.BufferedReader(raw, 1 << 16)


def is_remote(text: str) -> bool:
    """Whether a source in params is an address on such a storage."""
    return text.startswith(SCHEME)


def look_up(address: str) -> RemoteArchive:
    """What is at an address.

    Raises:
        UserError: nothing, or the storage does not answer or refuses.
    """
    with _telling(address):
        system = _system()
        system.invalidate_cache()
        info = system.info(address)
    if info["type"] != "file":
        raise UserError(f"{address}: is no object; name the archives one by one")
    return RemoteArchive(address, int(info["size"]), str(info["ETag"]).strip('"'))


def record(address: str, folder: Path) -> Path:
    """ImageFaces an archive up and write its manifest into a folder; returns the manifest."""
    archive = look_up(address)
    path = folder / f"{archive.name}{SUFFIX}"
    write_json(path, asdict(archive))
    return path


def read_record(path: Path) -> RemoteArchive:
    """The archive that a manifest records.

    Raises:
        UserError: the manifest is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return RemoteArchive(str(content["address"]), int(content["size"]), str(content["etag"]))
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); run `dvc repro -f download`") from error


class _Reading(io.RawIOBase):
    """A file on the storage whose every error is one of reading, with a number."""

    def __init__(self, file: Any, address: str) -> None:
        self.file, self.address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.file.read(len(buffer))
        except Exception as error:  # of botocore, aiohttp, s3fs: no common base
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.address) from error
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return int(self.file.seek(offset, whence))
        except ValueError as error:  # before the beginning
            raise OSError(errno.EINVAL, str(error), self.address) from error

    def tell(self) -> int:
        return int(self.file.tell())

    def close(self) -> None:
        if not self.closed:
            self.file.close()
        super().close()


def _system() -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise UserError("s3:// addresses need s3fs: pip install '.[s3]'") from error
    return s3fs.S3FileSystem()  # one for all calls with the same settings


@contextmanager
def _telling(address: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{address}: not found; see data.local and data.mirror") from error
    except Exception as error:  # of botocore, aiohttp, s3fs: no common base
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{address}: {reason}; see docs/scale.md for keys and endpoint") from error
