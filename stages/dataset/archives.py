"""Members of the raw archives, streamed one after the other.

Nothing is unpacked to disk: an archive is read from front to back once, and each member's
bytes are handed on. Tar files (plain, gzip or bzip2) and zip files (stored or deflated) are
known by their content, not by their suffix. A member that is no plain file (a link, a
device) is still reported, with a problem in place of bytes, so that every member can have
its row in the index. A member's path is only a name here: nothing is ever written to it.

An archive may come from anybody, and unpack to far more than it weighs: what is read of it
has limits, and no single step takes more memory than they allow.
"""

import bz2
import errno
import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from stages.core.errors import UserError
from stages.core.sections import Detect
from stages.dataset.names import spell
from stages.remote.storage import SUFFIX, RemoteArchive, read_record

_GZIP, _BZIP2 = b"\x1f\x8b", b"BZh"  # the first bytes
_ENTRY = b"PK\x01\x02"  # begins each entry of a zip file's directory
_ENTRY_BYTES = 1024  # of a directory, for each member allowed; real entries have some 100
_EXTENDED = (  # headers of a tar that say more about the next one
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
_HEADER_BYTES = 1 << 14  # the longest of them; real ones have some 100
_START_BYTES = 1 << 16  # in which a tar has its first header


@dataclass(frozen=True)
class Limits:
    """The most that is read of an archive.

    Attributes:
        member_bytes: a member that unpacks to more has a problem in place of its bytes.
        archive_bytes: all that the archive unpacks to.
        members: how many it has.
        named: what the limits are called, up to `file_bytes`, `archive_bytes` or `members`.
    """

    member_bytes: int
    archive_bytes: int
    members: int
    named: str = "detect.max_"

    @classmethod
    def of(cls, detect: Detect) -> "Limits":
        """Those of params."""
        return cls(detect.max_file_bytes, detect.max_archive_bytes, detect.max_members)


@dataclass(frozen=True)
class Member:
    """One entry of an archive: its bytes, or the reason why there are none.

    `archive` and `path` (always with forward slashes) are spelt as in `names`.
    """

    archive: str
    path: str
    data: bytes | None
    problem: str = ""

    @cached_property
    def name(self) -> str:
        """The base name, which carries the labels."""
        return PurePosixPath(self.path).name

    def weight(self) -> int:
        """How many bytes it holds."""
        return len(self.data or b"")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Archive = Path | RemoteArchive


class DamagedArchiveError(UserError):
    """An archive that cannot be read to its end. `fault` says why, without what to do."""

    def __init__(self, archive: Archive, fault: str) -> None:
        self.fault = fault
        super().__init__(
            f"{archive}: {fault}; delete it and run `dvc repro download` again, or see "
            "detect.damaged in params.yaml"
        )


class _DamageError(Exception):
    """What ends the reading of an archive. The text says why."""


def list_archives(folder: Path) -> list[Archive]:
    """The archives of a raw folder in order of their names, those that it records included.

    Raises:
        UserError: the folder is missing or holds no archive.
    """
    archives = sorted(p for p in folder.glob("*") if p.is_file() and not p.name.startswith("."))
    if not archives:
        raise UserError(f"{folder}: no archive; run `dvc repro download`")
    return [read_record(p) if p.name.endswith(SUFFIX) else p for p in archives]


def is_archive(path: Archive) -> bool:
    """Whether the file's content is that of a tar (plain, gzip, bzip2) or zip file."""
    return _is_tar(path) or _is_zip(path)


def _is_zip(path: Archive) -> bool:
    with path.open("rb") as file:
        return zipfile.is_zipfile(file)


def _is_tar(path: Archive) -> bool:
    try:
        with _unpacked(path) as file, _open_tar(_Bounded(file, _START_BYTES, "no header")):
            return True
    except OSError as error:
        if error.errno is not None:
            raise
        return False  # gzip's own errors, which have no number
    except Exception:  # whatever the first bytes make gzip or tarfile stumble over
        return False


def read_members(archive: Archive, limits: Limits, keep_damaged: bool = False) -> Iterator[Member]:
    """Yield the members of a tar or zip archive in their stored order.

    Args:
        archive: the file, or the record of one elsewhere.
        limits: what is read of it.
        keep_damaged: an archive that is damaged, or exceeds the limits, ends with a last
            member that stands for the rest of it, in place of an error.

    Raises:
        DamagedArchiveError: the file is no archive, is damaged or exceeds the limits.
        UserError: it cannot be read. Both texts name it.
    """
    name, number = spell(archive.name), 0
    try:
        # A tar whose last member is a zip file ends like a zip file.
        is_zip = _is_zip(archive) and not _is_tar(archive)
        for member in (_zip_members if is_zip else _tar_members)(archive, limits):
            number += 1
            yield member
    except UserError:
        raise  # a record's own, which says all
    except Exception as error:
        # tarfile and zipfile raise whatever a damaged file makes them stumble over (ValueError,
        # RecursionError, struct.error …): all mean the same here. A disk's error has a number,
        # and is not the one of seeking to before the beginning.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise UserError(f"{archive}: cannot be read: {error.strerror}") from error
        reason = str(error) or type(error).__name__
        if not isinstance(error, _DamageError):
            reason = f"damaged or not a tar or zip archive ({reason})"
        if not keep_damaged:
            raise DamagedArchiveError(archive, reason) from error
        yield Member(name, name, None, f"after {number} members: {reason}")


class _Header(tarfile.TarInfo):
    """A header whose damage is an error; tarfile takes it for the end of the archive.

    Refused are the headers that tarfile reads into memory whole, where they are long, and
    those of sparse files, whose lists of holes have no bound.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the marked end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, tarfile_: tarfile.TarFile) -> "_Header":  # meant to be overridden
        if self.type in _EXTENDED and self.size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._refuse_sparse()
        return super()._proc_member(tarfile_)  # type: ignore[misc]

    def _refuse_sparse(self, *_: object) -> None:
        raise tarfile.ReadError("sparse members are not read; pack the files without --sparse")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _open_tar(file: "_Bounded") -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r|", tarinfo=_Header)  # type: ignore[call-overload]


def _tar_members(archive: Archive, limits: Limits) -> Iterator[Member]:
    name = spell(archive.name)
    with _unpacked(archive) as unpacked:
        file = _Bounded(unpacked, limits.archive_bytes, _exceeds(limits))
        with _open_tar(file) as tar:
            for number, info in enumerate(tar, 1):
                if number > limits.members:
                    raise _DamageError(_too_many(limits))
                # Else it keeps all it saw.
                tar.members, tar.pax_headers = [], {}  # type: ignore[attr-defined]
                if info.size < 0:
                    raise _DamageError("a member of negative size")
                path = spell(info.name)
                if info.isfile() and info.size > limits.member_bytes:
                    yield Member(name, path, None, too_large(info.size, limits))
                elif info.isfile():
                    content = tar.extractfile(info)
                    assert content is not None  # isfile() was asked
                    yield Member(name, path, content.read())
                elif not info.isdir():
                    yield Member(name, path, None, "not a plain file")
        while file.read(1 << 20):  # to the very end, where gzip's checksum stands
            pass


@contextmanager
def _unpacked(archive: Archive) -> Iterator[_Readable]:
    """The file, unpacked; tarfile's own gzip stream checks no checksum."""
    with archive.open("rb") as file:
        start = file.read(3)
        file.seek(0)
        if start.startswith(_GZIP):
            yield gzip.GzipFile(fileobj=file)
        elif start.startswith(_BZIP2):
            yield bz2.BZ2File(file)
        else:
            yield file


class _Bounded:
    """A file that gives no more than so many bytes, and what is said of one that has more."""

    def __init__(self, file: _Readable, limit: int, refusal: str) -> None:
        self.file, self.limit, self.refusal, self.given = file, limit, refusal, 0

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.given += len(data)
        if self.given > self.limit:
            raise _DamageError(self.refusal)
        return data


def _zip_members(archive: Archive, limits: Limits) -> Iterator[Member]:
    name, unpacked = spell(archive.name), 0
    with _ZipFile(archive, limits) as file, zipfile.ZipFile(file) as container:
        file.checked = True
        for info in container.infolist():
            if info.is_dir():
                continue
            path = spell(info.filename)
            if problem := _zip_problem(info, limits):
                yield Member(name, path, None, problem)
                continue
            unpacked += info.file_size
            if unpacked > limits.archive_bytes:
                raise _DamageError(_exceeds(limits))
            with container.open(info) as content:
                # One more than announced, so that the checksum is looked at; read() without
                # a number would unpack all there is before it compares.
                yield Member(name, path, content.read(info.file_size + 1))


class _ZipFile(io.BufferedReader):
    """A zip file whose directory is looked at before zipfile keeps an object for each entry."""

    def __init__(self, archive: Archive, limits: Limits) -> None:
        super().__init__(archive.open("rb", buffering=0))
        self.limits, self.checked = limits, False

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.checked and (size or 0) > max(self.limits.members * _ENTRY_BYTES, 1 << 20):
            raise _DamageError(f"a directory of {size} bytes; see {self.limits.named}members")
        data = super().read(size)
        if not self.checked and data.count(_ENTRY) > self.limits.members:
            raise _DamageError(_too_many(self.limits))
        return data


def _zip_problem(info: zipfile.ZipInfo, limits: Limits) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the packer knows no such thing
    if kind not in (0, stat.S_IFREG):
        return "not a plain file"
    if info.file_size > limits.member_bytes:
        return too_large(info.file_size, limits)
    if info.flag_bits & 0x1:
        return "encrypted"
    # Not the others that zipfile knows: it unpacks them without bounds.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compression type {info.compress_type} is not read"
    return ""


def too_large(size: int, limits: Limits) -> str:
    """Why a file of more bytes than the limit is not read."""
    return f"{size} bytes are more than {limits.named}file_bytes {limits.member_bytes}"


def _too_many(limits: Limits) -> str:
    return f"more members than {limits.named}members {limits.members}"


def _exceeds(limits: Limits) -> str:
    return f"unpacks to more than {limits.named}archive_bytes {limits.archive_bytes}"
