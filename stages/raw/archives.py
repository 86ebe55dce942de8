"""Members of the raw archives, read once from front to back; nothing is unpacked to disk.

Tar files (plain, gzip or bzip2) and zip files (stored or deflated) are recognized by their content.
Archives are untrusted: `ArchiveLimits` bounds what is read, and with it the memory of each step.
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
from pathlib import Path, PurePosixPath
from typing import Any

from stages.core.errors import UserError, lacks_memory
from stages.core.files import CHECKSUMS
from stages.core.sections import ArchiveLimits
from stages.raw.names import spell
from stages.raw.storage import SUFFIX, RemoteArchive, read_record

LINK, SPECIAL = "a link, which is not followed", "not a plain file"  # problems of members

_MORE = "more than zeros after its end: damaged, or several in one"
_ENTRY = b"PK\x01\x02"  # starts each entry of a zip file's directory
_END, _END_BYTES = b"PK\x05\x06", 22  # starts its end; what that has beside a comment
_SPANNED = 4  # bytes of the mark that a zip file may begin with
_LOCAL_HEADER = 30  # bytes at least before each member
_DESCRIPTOR = 24  # most bytes behind a member that belong to it
_ENTRY_BYTES = 1024  # most bytes of a directory entry; real ones have about 100
_EXTENDED = b"LKxgX"  # types of the tar headers that extend the next one: GNU long names, pax
_HEADER_BYTES = 1 << 14  # most bytes of such a header; real ones have about 100
_START_BYTES = 1 << 16  # a tar's first header lies within these
_READS_AT_END = 100  # of nothing, before an archive counts as cut off
# Most bytes that a tar unpacks to: so many times its size, and these at least. Photographs have
# 1 time, drawings 100; bzip2 can have 900,000.
_TIMES, _SMALL = 1000, 1 << 28
_BLOCK = 1 << 16  # bytes of one reading of a bzip2 file


@dataclass(frozen=True)
class Member:
    """One entry of an archive: its bytes, or the problem (a link, too large) in their place.

    `archive` and `path` (with forward slashes) are escaped by `names.spell`.
    """

    archive: str
    path: str
    data: bytes | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The base name, which contains the labels."""
        return PurePosixPath(self.path).name

    def weight(self) -> int:
        """The size of its data in bytes."""
        return len(self.data or b"")


Archive = Path | RemoteArchive


class DamagedArchiveError(UserError):
    """An archive that cannot be read to its end; `fault` is the reason alone."""

    def __init__(self, archive: Archive, fault: str) -> None:
        self.fault = fault
        mend = "delete it and run `dvc repro download` again, or see detect.damaged in params.yaml"
        super().__init__(f"{archive}: {fault}; {mend}")


class _DamageError(Exception):
    """Ends the reading of an archive; the text is the reason."""


def list_archives(folder: Path) -> list[Archive]:
    """The archives of a raw folder, sorted by name, with the recorded remote ones; at least one."""
    files = (path for path in folder.glob("*") if path.is_file())
    archives = sorted(p for p in files if p.name != CHECKSUMS and not p.name.startswith("."))
    if not archives:
        raise UserError(f"{folder}: no archive; run `dvc repro download`")
    return [read_record(p) if p.name.endswith(SUFFIX) else p for p in archives]


def is_archive(path: Archive) -> bool:
    """Whether the file is a tar (plain, gzip, bzip2) or zip file by its content."""
    return _is_tar(path) or _is_zip(path)


def _is_zip(path: Archive) -> bool:
    with path.open("rb") as file:
        # An image may have a zip file behind it; what it begins with counts.
        return file.read(2) == _ENTRY[:2] and zipfile.is_zipfile(file)


def _is_tar(path: Archive) -> bool:
    try:
        with _unpacked(path) as file, _open_tar(_Bounded(file, _START_BYTES, "no header")):
            return True
    except Exception as error:  # gzip and tarfile raise many types on arbitrary bytes
        if lacks_memory(error) or getattr(error, "errno", None) is not None:  # that of a disk
            raise
        return False


def read_members(
    archive: Archive, limits: ArchiveLimits, keep_damaged: bool = False
) -> Iterator[Member]:
    """Yield the members of a tar or zip archive in their stored order.

    Raises DamagedArchiveError if the file is not an archive, is damaged, has no member or exceeds
    the limits; with `keep_damaged`, one member then represents the rest. Raises UserError if it
    cannot be read.
    """
    name, whole = spell(archive.name), 0  # members read
    try:
        # A tar whose last member is a zip file ends like a zip file.
        is_zip = _is_zip(archive) and not _is_tar(archive)
        members = (_zip_members if is_zip else _tar_members)(archive, limits)
        for path, data, problem in members:
            whole += 1
            yield Member(name, spell(path), data, problem)
        if not whole:
            raise _DamageError("contains no files")
    except UserError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        # tarfile and zipfile raise many types on damaged files (ValueError, RecursionError,
        # struct.error …). Errors of the disk have a number; EINVAL is a seek to before the start.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise UserError(f"{archive}: cannot be read: {error.strerror}") from error
        reason = str(error) or type(error).__name__
        if not isinstance(error, _DamageError):
            reason = f"damaged or not a tar or zip archive ({reason})"
        if not keep_damaged:
            raise DamagedArchiveError(archive, reason) from error
        yield Member(name, name, None, f"after {whole} members: {reason}")


_Entry = tuple[str, bytes | None, str]  # path, data and problem of a member


class _Header(tarfile.TarInfo):
    # Damage is an error, where tarfile would see the end of the archive. Long extended headers and
    # sparse files, which tarfile reads into memory whole, are refused.
    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Header":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the marked end
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, tarfile_: tarfile.TarFile) -> "_Header":  # documented for overriding
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


def _tar_members(archive: Archive, limits: ArchiveLimits) -> Iterator[_Entry]:
    with _unpacked(archive) as unpacked:
        refusal = f"unpacks to more than {_named(limits, 'archive_bytes')}"
        most = max(_TIMES * _size(archive), _SMALL)
        if most < limits.max_archive_bytes:
            refusal = f"unpacks to more than {most} bytes, far more than pictures would"
        file = _Bounded(unpacked, min(most, limits.max_archive_bytes), refusal)
        with _open_tar(file) as tar:
            for number, info in enumerate(tar, 1):
                if number > limits.max_members:
                    raise _DamageError(f"more members than {_named(limits, 'members')}")
                # tarfile would keep all members in memory.
                tar.members, tar.pax_headers = [], {}  # type: ignore[attr-defined]
                if info.size < 0:
                    raise _DamageError("a member of negative size")
                if info.size > file.limit - file.given:
                    raise _DamageError(refusal)
                if info.isfile() and info.size > limits.max_file_bytes:
                    yield info.name, None, too_large(info.size, limits)
                elif info.isfile():
                    content = tar.extractfile(info)
                    assert content is not None  # because of isfile()
                    yield info.name, content.read(), ""
                elif not info.isdir():
                    yield info.name, None, LINK if info.issym() or info.islnk() else SPECIAL
            # To the end, where gzip has its checksum. For tarfile one zeroed block is the end.
            rest = tar.fileobj
            assert rest is not None
            while block := rest.read(1 << 20):
                if block.strip(b"\0"):
                    raise _DamageError(_MORE)


@contextmanager
def _unpacked(archive: Archive) -> Iterator[Any]:
    """Open the file decompressed; unlike tarfile's gzip stream, this verifies the checksum."""
    with archive.open("rb") as file:
        start = file.read(3)
        file.seek(0)
        if start.startswith(b"\x1f\x8b"):
            yield gzip.GzipFile(fileobj=file)
        elif start == b"BZh":
            yield _Bzip2(file)
        else:
            yield file


def _size(archive: Archive) -> int:
    return archive.stat().st_size if isinstance(archive, Path) else archive.size


class _Bzip2:
    """A bzip2 file of one or more streams; unlike bz2.BZ2File, it refuses what is none."""

    def __init__(self, file: Any) -> None:
        self.file, self.stream = file, bz2.BZ2Decompressor()

    def read(self, size: int) -> bytes:
        data = packed = b""
        while not data:
            if self.stream.eof:
                if not (packed := self.stream.unused_data or self.file.read(_BLOCK)):
                    break
                self.stream = bz2.BZ2Decompressor()
            elif self.stream.needs_input and not (packed := self.file.read(_BLOCK)):
                raise _DamageError("ends in the middle of a bzip2 stream")
            data, packed = self.stream.decompress(packed, size), b""
        return data


class _Bounded:
    """A file that raises _DamageError(refusal) after `limit` bytes.

    So it does where it is asked again and again at its end: tarfile skips a member by reading,
    block by block, as many bytes as the header announces.
    """

    def __init__(self, file: Any, limit: int, refusal: str) -> None:
        self.file, self.limit, self.refusal, self.given = file, limit, refusal, 0
        self.at_end = 0

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read(size)
        self.given += len(data)
        self.at_end = 0 if data else self.at_end + 1
        if self.at_end > _READS_AT_END:
            raise _DamageError("ends in the middle of a member")
        if self.given > self.limit:
            raise _DamageError(self.refusal)
        return data


def _zip_members(archive: Archive, limits: ArchiveLimits) -> Iterator[_Entry]:
    unpacked = 0
    with _ZipFile(archive, limits) as file, zipfile.ZipFile(file) as container:
        file.checked = True
        ends = _ends(container)
        _refuse_rest(file)
        for info in container.infolist():
            _refuse_gap(file, info, ends[info.header_offset])
            if info.is_dir():
                if info.file_size:
                    yield info.filename, None, "a folder that holds bytes"
                continue
            if problem := _zip_problem(info, limits):
                yield info.filename, None, problem
                continue
            unpacked += info.file_size
            if unpacked > limits.max_archive_bytes:
                raise _DamageError(f"unpacks to more than {_named(limits, 'archive_bytes')}")
            with container.open(info) as content:
                # One byte more than announced, so that zipfile verifies the checksum; read()
                # without a size would unpack everything first.
                yield info.filename, content.read(info.file_size + 1), ""


class _ZipFile(io.BufferedReader):
    """A zip file whose directory is checked before zipfile creates an object for each entry."""

    def __init__(self, archive: Archive, limits: ArchiveLimits) -> None:
        super().__init__(archive.open("rb", buffering=0))
        self.limits, self.checked = limits, False

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.checked and (size or 0) > max(self.limits.max_members * _ENTRY_BYTES, 1 << 20):
            raise _DamageError(f"a directory of {size} bytes; see {self.limits.named}members")
        data = super().read(size)
        if not self.checked and data.count(_ENTRY) > self.limits.max_members:
            raise _DamageError(f"more members than {_named(self.limits, 'members')}")
        return data


def _ends(container: zipfile.ZipFile) -> dict[int, int]:
    """Where each member ends at the latest, by the place of its header.

    Members that share bytes are refused: they unpack, all together, to far more than the file could
    hold. Bytes before the first one are those of another zip file, of which zipfile says nothing.
    """
    entries = sorted(container.infolist(), key=lambda info: info.header_offset)
    first, *ends = [*(info.header_offset for info in entries), container.start_dir]
    if first > _SPANNED:
        raise _DamageError(f"{first} bytes before its first member: damaged, or several in one")
    for info, end in zip(entries, ends, strict=True):
        if info.header_offset + _LOCAL_HEADER + info.compress_size > end:
            raise _DamageError(f"the member {spell(info.filename)[:80]} overlaps the next one")
    return {info.header_offset: end for info, end in zip(entries, ends, strict=True)}


def _refuse_gap(file: io.BufferedReader, info: zipfile.ZipInfo, end: int) -> None:
    """Refuse bytes between members: the directory may have lost those that they belong to."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    behind = end - info.header_offset - _LOCAL_HEADER - lengths - info.compress_size
    if behind > _DESCRIPTOR:
        name = spell(info.filename)[:80]
        raise _DamageError(f"its directory lists no member in the {behind} bytes behind {name}")


def _refuse_rest(file: io.BufferedReader) -> None:
    """Refuse bytes behind the end of a zip file and its comment."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - _END_BYTES - 0xFFFF))
    rest = file.read()
    end = rest[rest.rfind(_END) :]
    if end[_END_BYTES + int.from_bytes(end[20:22], "little") :].strip(b"\0"):
        raise _DamageError(_MORE)


def _zip_problem(info: zipfile.ZipInfo, limits: ArchiveLimits) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the packer does not set it
    if kind not in (0, stat.S_IFREG):
        return LINK if kind == stat.S_IFLNK else SPECIAL
    if info.file_size > limits.max_file_bytes:
        return too_large(info.file_size, limits)
    if info.flag_bits & 0x1:
        return "encrypted"
    # zipfile unpacks its other compression types without bounds.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compression type {info.compress_type} is not read"
    return ""


def too_large(size: int, limits: ArchiveLimits) -> str:
    """The problem of a file above `max_file_bytes`."""
    return f"{size} bytes are more than {_named(limits, 'file_bytes')}"


def _named(limits: ArchiveLimits, what: str) -> str:
    return f"{limits.named}{what} {getattr(limits, f'max_{what}')}"
