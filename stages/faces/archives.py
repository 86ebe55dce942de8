"""Members of the raw archives, streamed one after the other.

Nothing is unpacked to disk: an archive is read from front to back once, and each member's
bytes are handed on. Tar files (plain or gzip) and zip files are known by their content,
not by their suffix. A member that is no plain file (a link, a device) is still reported,
with a problem in place of bytes, so that every member can have its row in the index.
"""

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from stages.workspace.errors import UserError

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    UnicodeDecodeError,
    EOFError,
    OSError,
)
_GZIP = b"\x1f\x8b"
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}  # of control characters


class DamagedArchiveError(UserError):
    """An archive that cannot be read to its end. `fault` says why, without what to do."""

    def __init__(self, archive: Path, error: Exception) -> None:
        self.fault = f"damaged or not a tar or zip archive ({error})"
        super().__init__(f"{archive}: {self.fault}; delete it and run `dvc repro download` again")


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
    return _is_tar(path) or zipfile.is_zipfile(path)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, zlib.error):  # a gzip file that breaks off or is damaged at once
        return False


def read_members(archive: Path, max_bytes: int) -> Iterator[Member]:
    """Yield the members of a tar or zip archive in their stored order.

    Args:
        archive: the file.
        max_bytes: a member that unpacks to more has a problem in place of its bytes.

    Raises:
        DamagedArchiveError: the file is no archive, or is damaged; the text names it.
    """
    # A tar whose last member is a zip file ends like a zip file.
    is_zip = zipfile.is_zipfile(archive) and not _is_tar(archive)
    reader = _zip_members if is_zip else _tar_members
    try:
        yield from reader(archive, max_bytes)
    except _DAMAGE as error:
        raise DamagedArchiveError(archive, error) from error


class _Header(tarfile.TarInfo):
    """A header whose damage is an error; tarfile takes it for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the marked end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _tar_members(archive: Path, max_bytes: int) -> Iterator[Member]:
    with _unzipped(archive) as file:
        with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as tar:
            for info in tar:
                if info.isdir():
                    continue
                path = printable(info.name)
                if not info.isfile():
                    yield Member(archive.name, path, None, "not a plain file")
                elif info.size > max_bytes:
                    yield Member(archive.name, path, None, too_large(info.size, max_bytes))
                else:
                    content = tar.extractfile(info)
                    assert content is not None  # isfile() was asked
                    yield Member(archive.name, path, content.read())
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all it saw
        while file.read(1 << 20):  # to the very end, where gzip's checksum stands
            pass


def _unzipped(archive: Path) -> gzip.GzipFile | IO[bytes]:
    """The file, through gzip if it is gzip; tarfile's own gzip stream checks no checksum."""
    with archive.open("rb") as file:
        zipped = file.read(len(_GZIP)) == _GZIP
    return gzip.open(archive) if zipped else archive.open("rb")


def _zip_members(archive: Path, max_bytes: int) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as container:
        for info in container.infolist():
            if info.is_dir():
                continue
            path = printable(info.filename)
            if info.file_size > max_bytes:
                yield Member(archive.name, path, None, too_large(info.file_size, max_bytes))
            elif info.flag_bits & 0x1:
                yield Member(archive.name, path, None, "encrypted")
            else:
                try:
                    yield Member(archive.name, path, container.read(info))
                except NotImplementedError as error:  # Deflate64, which Windows uses above 2 GB
                    yield Member(archive.name, path, None, str(error))


def too_large(size: int, limit: int) -> str:
    """Why a file of more bytes than the limit is not read."""
    return f"{size} bytes are more than detect.max_file_bytes {limit}"


def printable(path: str) -> str:
    """A path that any text file can hold: what is no text or breaks lines is escaped."""
    # tarfile hands on bytes that are not UTF-8 as lone surrogates, which no CSV can hold; a
    # carriage return would end the row.
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.translate(_ESCAPES)
