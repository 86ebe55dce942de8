"""Members of the raw archives, streamed one after the other.

Nothing is unpacked to disk: an archive is read from front to back once, and each member's
bytes are handed on. Tar files (plain or gzip) and zip files are known by their content,
not by their suffix. A member that is no plain file (a link, a device) is still reported,
with a problem in place of bytes, so that every member can have its row in the index.
"""

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stages.workspace.errors import UserError

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, OSError)


@dataclass(frozen=True)
class Member:
    """One entry of an archive: its bytes, or the reason why there are none."""

    archive: str
    path: str  # inside the archive, always with forward slashes
    data: bytes | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The base name, which carries the labels."""
        return PurePosixPath(self.path).name


def list_archives(folder: Path) -> list[Path]:
    """The archives of a raw folder in order of their names.

    Raises:
        UserError: the folder is missing or holds no archive.
    """
    archives = sorted(p for p in folder.glob("*") if p.is_file() and not p.name.startswith("."))
    if not archives:
        raise UserError(f"{folder}: no archive; run `dvc repro download`")
    return archives


def is_archive(path: Path) -> bool:
    """Whether the file's content is that of a tar (plain, gzip) or zip file."""
    return tarfile.is_tarfile(path) or zipfile.is_zipfile(path)


def read_members(archive: Path, max_bytes: int) -> Iterator[Member]:
    """Yield the members of a tar or zip archive in their stored order.

    Args:
        archive: the file.
        max_bytes: a member that unpacks to more has a problem in place of its bytes.

    Raises:
        UserError: the file is no archive, or is damaged; the text names it.
    """
    reader = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    try:
        yield from reader(archive, max_bytes)
    except _DAMAGE as error:
        raise UserError(
            f"{archive}: damaged or not a tar or zip archive ({error}); "
            "delete it and run `dvc repro download` again"
        ) from error


def _tar_members(archive: Path, max_bytes: int) -> Iterator[Member]:
    with tarfile.open(archive, mode="r|*") as tar:
        for info in tar:
            if info.isdir():
                continue
            path = _printable(info.name)
            if not info.isfile():
                yield Member(archive.name, path, None, "not a plain file")
            elif info.size > max_bytes:
                yield Member(archive.name, path, None, _too_large(info.size, max_bytes))
            else:
                file = tar.extractfile(info)
                assert file is not None  # isfile() was asked
                yield Member(archive.name, path, file.read())
            tar.members = []  # type: ignore[attr-defined]  # else it keeps all headers it saw


def _zip_members(archive: Path, max_bytes: int) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as container:
        for info in container.infolist():
            if info.is_dir():
                continue
            path = _printable(info.filename)
            if info.file_size > max_bytes:
                yield Member(archive.name, path, None, _too_large(info.file_size, max_bytes))
            elif info.flag_bits & 0x1:
                yield Member(archive.name, path, None, "encrypted")
            else:
                yield Member(archive.name, path, container.read(info))


def _too_large(size: int, limit: int) -> str:
    return f"{size} bytes are more than detect.max_file_bytes {limit}"


def _printable(path: str) -> str:
    # tarfile hands on bytes that are not UTF-8 as lone surrogates, which no CSV can hold.
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
