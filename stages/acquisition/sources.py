"""The raw archives: UTKFace's official files, a mirror's, or the user's own.

UTKFace's page (https://susanqq.github.io/UTKFace/) publishes neither sizes nor checksums, so an
archive is verified by reading it to its end (gzip has a CRC) and counting its files.
"""

import errno
import os
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.files import CHECKSUMS, atomic_write
from stages.core.sections import ArchiveLimits
from stages.raw.archives import is_archive, read_members
from stages.raw.folders import walk
from stages.raw.storage import SCHEME, SUFFIX, read_record, record
from stages.weights.fetch import copy_local, download, google_drive

LICENCE = """\
UTKFace: available for non-commercial research purposes only. The copyright of the images
belongs to their owners; the images must not be copied, published or distributed further.
Terms: https://susanqq.github.io/UTKFace/"""


# The files of UTKFace's page: name, Google Drive id and number of images.
OFFICIAL = {
    "utkface-wild": {
        "part1.tar.gz": ("0BxYys69jI14kb2o4ajJwQ3FOUm8", 10_137),
        "part2.tar.gz": ("0BxYys69jI14kNEt1SnNJN1Z2WWc", 10_719),
        "part3.tar.gz": ("0BxYys69jI14kVkVTZHZHa21zUXM", 3_253),
    },
    "utkface-aligned": {"UTKFace.tar.gz": ("0BxYys69jI14kYVM3aVhKS1VhRUk", 23_708)},
}

# For counting members; their content is skipped.
COUNTING = ArchiveLimits(max_file_bytes=1024, max_archive_bytes=1 << 34, max_members=1_000_000)


def fetch_official(source: str, folder: Path, mirror: str | None) -> list[Path]:
    """Fetch UTKFace's archives into a folder; existing complete archives are kept.

    `mirror` is the address of a folder that serves the official file names (None: Google Drive);
    archives at an s3:// address are recorded. Raises UserError if one is not available or damaged.
    """
    print(LICENCE, file=sys.stderr)
    mirror = mirror and mirror.rstrip("/")
    if mirror and mirror.startswith(SCHEME):
        return [record(f"{mirror}/{name}", folder) for name in OFFICIAL[source]]
    for name, (drive_id, images) in OFFICIAL[source].items():
        path = folder / name
        if not path.exists() and mirror:
            download(f"{mirror}/{name}", path)
        elif not path.exists():
            google_drive(drive_id, path)
        _verify(path, images)
    return [folder / name for name in OFFICIAL[source]]


def _verify(path: Path, images: int) -> None:
    members = read_members(path, COUNTING)
    try:
        files = sum(1 for _ in tqdm(members, f"verifying {path.name}", images, disable=None))
    except UserError:
        path.unlink()
        raise
    if files != images:
        release = f"the release described on UTKFace's page has {images:,}"
        print(f"warning: {path}: {files:,} files; {release}", file=sys.stderr)


def take_local(sources: Sequence[str], folder: Path, follow_links: bool = False) -> list[Path]:
    """Copy archives, pack folders into tar files, and record archives at s3:// addresses.

    `follow_links` holds for symbolic links inside of folders.

    Raises UserError for a path that is missing, hidden, or neither an archive nor a folder, and for
    two of the same name.
    """
    targets: dict[Path, str] = {}
    for source in sources:
        target = folder / _target_name(source)
        if target in targets:
            both = f"{targets[target]} and {source} would both be {target}"
            raise UserError(f"data.local: {both}; rename one")
        targets[target] = source
    for target, source in targets.items():
        if source.startswith(SCHEME):
            record(source, folder)
            if not is_archive(read_record(target)):
                target.unlink()
                raise UserError(f"data.local: {source} is not a .tar, .tar.gz or .zip file")
        elif (path := Path(source).expanduser()).is_dir():
            pack_folder(path, target, follow_links)
        else:
            copy_local(path, target)
    return list(targets)


def _target_name(source: str) -> str:
    path = Path(source).expanduser()
    if source.startswith(SCHEME):
        name = f"{PurePosixPath(source).name}{SUFFIX}"
    elif path.is_dir():
        name = f"{path.resolve().name}.tar"
    elif path.is_file() and is_archive(path):
        name = path.name
    else:
        fault = "is neither a .tar, .tar.gz or .zip file nor a folder"
        raise UserError(f"data.local: {path} {fault if path.exists() else 'does not exist'}")
    if name.startswith(".") or name == CHECKSUMS:
        how = "hidden" if name.startswith(".") else "named like the checksums of data/raw"
        raise UserError(f"data.local: {source} is {how} and would not be read; rename it")
    return name


def pack_folder(source: Path, target: Path, follow_links: bool = False) -> None:
    """Pack a folder's files, sorted by path, into a reproducible tar file.

    A link that is not followed, or leads to no file or to a folder that is read already, becomes a
    link that leads nowhere, and so has its row in index.csv; so has a device or a pipe. Raises
    UserError for a folder that cannot be read, and for a file that changes meanwhile.
    """
    files = sorted(walk(source, follow_links))
    if not files:
        raise UserError(f"data.local: {source} contains no file")
    try:
        with atomic_write(target) as partial, tarfile.open(partial, "w") as archive:
            for path in tqdm(files, f"packing {source.name}", unit="file", disable=None):
                inside = Path(source.resolve().name) / path.relative_to(source)
                info = tarfile.TarInfo(inside.as_posix())
                if path.is_symlink() and not (follow_links and path.is_file()):
                    info.type = tarfile.SYMTYPE
                    archive.addfile(info)
                elif not path.is_file():
                    info.type = tarfile.FIFOTYPE
                    archive.addfile(info)
                else:
                    _add_file(archive, info, path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"data.local: {source}: its name is too long for {target}") from None
        raise


def _add_file(archive: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    with path.open("rb") as file:
        info.size = os.fstat(file.fileno()).st_size
        try:
            archive.addfile(info, file)
        except OSError as error:  # tarfile's own has no number
            if error.errno is not None:
                raise
            raise UserError(f"data.local: {path} became shorter while it was read") from error
